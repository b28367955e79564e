//! nf4 codes fitted to rows of text: each matrix is quantised with the least error of its outputs on the inputs that these rows
//! give it.
//!
//! Block after block (GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 3.3): the inputs of a block are those that the
//! quantised blocks before it give, its own matrices are exact while their inputs are summed, then each is quantised by
//! `kernels::Quantised::fitted`. No more than one block is ever in memory as it is in the files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{DType, Int, Tensor, TensorData};
use faults::Fault;
use kernels::{Feedback, feedback_parts};

use super::Context;
use super::decoder::{Decoder, HEAD};
use super::source::Source;

/// Damping of the sums of products of inputs, as a share of the mean of their diagonal (GPTQ has the same 0.01): enough that
/// they can be factored.
const DAMPING: f64 = 0.01;

/// [`DAMPING`] of a matrix that is embedding and head: its rows are looked up, too, and must stay as they were.
const DAMPING_OF_BOTH: f64 = 0.3;

/// For each projection that is met, the sums of the products of its inputs, as [`Feedback`] takes them.
#[derive(Default)]
pub struct Inputs {
    sums: RefCell<BTreeMap<String, Vec<Tensor<2>>>>,
}

impl Inputs {
    /// # Shapes
    /// - `x`: `[tokens, in]`
    pub(super) fn see(&self, name: &str, x: &Tensor<2>) {
        let x = x.clone().inner().cast(DType::F32);
        let products = feedback_parts(x.dims()[1]).map(|part| {
            let x = x.clone().narrow(1, part.start, part.len());
            x.clone().transpose().matmul(x)
        });
        let mut sums = self.sums.borrow_mut();
        match sums.get_mut(name) {
            Some(sums) => sums.iter_mut().zip(products).for_each(|(sum, product)| *sum = sum.clone() + product),
            None => {
                sums.insert(name.into(), products.collect());
            }
        }
    }

    /// The factored sums of the `tokens` inputs of projection `name`, each `inputs` wide.
    fn feedback(&self, name: &str, inputs: usize, tokens: usize, damping: f64) -> Feedback {
        let sums = self.sums.borrow_mut().remove(name).expect("a projection that has met its inputs");
        let host = |sum: Tensor<2>| crate::values(sum.flatten(0, 1));
        // Sums over few tokens say little of how inputs go together elsewhere.
        let damping = damping.max(0.1 * inputs as f64 / tokens as f64);
        Feedback::new(inputs, &sums.into_iter().map(host).collect::<Vec<_>>(), damping)
    }
}

/// Tokens of rows of one length that run at once: a matrix is unpacked or dequantised once for all of them.
const AT_ONCE: usize = 1024;

impl Decoder {
    /// Gives every matrix that `source` quantises codes that are fitted to rows of tokens, and tells after each of
    /// [`Decoder::parts_to_fit`] how many are done. The same rows give the same codes.
    ///
    /// # Errors
    /// A tensor that cannot be read again, or has a value that is not finite.
    pub fn fit_codes(&mut self, source: &Source, rows: &[&[u32]], done: &mut dyn FnMut(usize)) -> Result<(), Fault> {
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let device = self.device().clone();
        let ids: Vec<_> = groups(rows)
            .into_iter()
            .map(|rows| {
                let ids: Vec<i64> = rows.iter().flat_map(|row| row.iter().map(|id| i64::from(*id))).collect();
                Tensor::<2, Int>::from_data(TensorData::new(ids, [rows.len(), rows[0].len()]), &device)
            })
            .collect();
        self.fit_ends(source, &ids, tokens)?;
        done(1);
        let context = |ids: &Tensor<2, Int>| self.context(0, ids.dims()[1], ids.dims()[1], None);
        let mut contexts: Vec<Context> = ids.iter().map(context).collect();
        let mut states: Vec<Tensor<3>> = ids.into_iter().map(|ids| self.embed(&context(&ids), ids, false)).collect();
        for (index, block) in self.layers.iter_mut().enumerate() {
            for linear in block.linears() {
                let values = source.values(linear.name(), linear.shape())?;
                linear.replace_weight(source.plain(values, linear.shape()));
            }
            let inputs = Rc::new(Inputs::default());
            for (context, x) in contexts.iter_mut().zip(&states) {
                context.inputs = Some(inputs.clone());
                block.forward(x.clone(), context, None);
                context.inputs = None;
            }
            for linears in block.linears_by_input() {
                let feedback = inputs.feedback(linears[0].name(), linears[0].shape()[1], tokens, DAMPING);
                for linear in linears {
                    let values = source.values(linear.name(), linear.shape())?;
                    linear.replace_weight(source.fitted(linear.name(), &values, linear.shape(), &feedback)?);
                }
            }
            for (context, x) in contexts.iter().zip(&mut states) {
                *x = block.forward(x.clone(), context, None);
            }
            done(index + 2);
        }
        Ok(())
    }

    /// The blocks, and embedding and head as one.
    pub fn parts_to_fit(&self) -> usize {
        self.layers.len() + 1
    }

    /// Embedding and head, by the last hidden states that the model gives with the codes it has.
    fn fit_ends(&mut self, source: &Source, ids: &[Tensor<2, Int>], tokens: usize) -> Result<(), Fault> {
        if !source.quantise.is_some_and(|quantise| quantise.embeddings) {
            return Ok(());
        }
        let inputs = Inputs::default();
        for ids in ids {
            inputs.see(HEAD, &self.hidden(ids.clone(), false, None).flatten(0, 1));
        }
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let values = source.values(HEAD, shape)?;
        let tied = self.config.tie_word_embeddings;
        let damping = if tied { DAMPING_OF_BOTH } else { DAMPING };
        let feedback = inputs.feedback(HEAD, shape[1], tokens, damping);
        let path = if tied { self.config.embedding_path() } else { HEAD.into() };
        let fitted = source.fitted(&path, &values, shape, &feedback)?;
        self.replace_head(fitted);
        Ok(())
    }
}

/// Rows of one length in groups of at most [`AT_ONCE`] tokens, and of at least one row, so that none is padded.
fn groups<'a>(rows: &[&'a [u32]]) -> Vec<Vec<&'a [u32]>> {
    let mut by_length: BTreeMap<usize, Vec<&[u32]>> = BTreeMap::new();
    rows.iter().for_each(|row| by_length.entry(row.len()).or_default().push(row));
    let part = |(length, rows): (usize, Vec<&'a [u32]>)| {
        rows.chunks((AT_ONCE / length.max(1)).max(1)).map(<[_]>::to_vec).collect::<Vec<_>>()
    };
    by_length.into_iter().flat_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_length_run_together_as_far_as_there_is_room() {
        let rows: Vec<Vec<u32>> = [8, 16, 8, 600, 8, 600, 2000].map(|length| vec![0; length]).to_vec();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let shapes = |rows: &[&[u32]]| -> Vec<(usize, usize)> {
            groups(rows).iter().map(|rows| (rows.len(), rows[0].len())).collect()
        };
        assert_eq!(shapes(&rows), [(3, 8), (1, 16), (1, 600), (1, 600), (1, 2000)]);
        let many = vec![rows[0]; 300];
        assert_eq!(shapes(&many), [(128, 8), (128, 8), (44, 8)]);
    }
}
