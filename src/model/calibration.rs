//! nf4 codes fitted to rows of text: each matrix loses least of what it gives for the inputs that these rows bring it.
//!
//! Block after block (GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 3.3): the inputs of a block are those that the
//! quantised blocks before it give, its own matrices are exact while their inputs are summed, then each is quantised by
//! `kernels::Quantised::compensated`. No more than one block is ever in memory as it is in the files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use burn::tensor::{DType, Int, Tensor, TensorData};
use faults::{Fault, counted};
use kernels::{Feedback, feedback_parts};
use tracing::info;

use super::Context;
use super::decoder::{Decoder, HEAD};
use super::source::Source;

/// How much the values of a matrix count beside what it gives: enough that their sums have an inverse.
const DAMPING: f64 = 0.01;

/// The same for a matrix that is embedding and head: its rows are looked up as they are, too.
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

    /// What follows from `tokens` inputs of the projection `name`, each `inputs` wide.
    fn feedback(&self, name: &str, inputs: usize, tokens: usize, damping: f64) -> Feedback {
        let sums = self.sums.borrow_mut().remove(name).expect("a projection that has met its inputs");
        let host = |sum: Tensor<2>| crate::engine::trainee::values(sum.flatten(0, 1));
        // Sums over few tokens say little of how inputs go together elsewhere.
        let damping = damping.max(0.1 * inputs as f64 / tokens as f64);
        Feedback::new(inputs, &sums.into_iter().map(host).collect::<Vec<_>>(), damping)
    }
}

impl Decoder {
    /// Gives every matrix that `source` quantises codes that are fitted to rows of tokens. The same rows give the same
    /// codes.
    ///
    /// # Errors
    /// A tensor that cannot be read again, or has a value that is not finite.
    pub fn calibrate(&mut self, source: &Source, rows: &[&[u32]]) -> Result<(), Fault> {
        let started = Instant::now();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        info!(
            "fitting the codes of {} to {} of {}",
            counted(self.layers.len() as u64, "block"),
            counted(rows.len() as u64, "row"),
            counted(tokens as u64, "token")
        );
        let device = self.device().clone();
        let ids = rows.iter().map(|row| {
            let ids: Vec<i64> = row.iter().map(|id| i64::from(*id)).collect();
            Tensor::<2, Int>::from_data(TensorData::new(ids, [1, row.len()]), &device)
        });
        let ids: Vec<_> = ids.collect();
        self.calibrate_ends(source, &ids, tokens)?;
        let mut contexts: Vec<Context> = rows.iter().map(|row| self.context(0, row.len(), row.len(), None)).collect();
        let mut states: Vec<Tensor<3>> = ids.into_iter().map(|ids| self.embed(ids, false)).collect();
        let blocks = self.layers.len();
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
            if (index + 1) % blocks.div_ceil(8) == 0 {
                info!("fitted {} of {}", index + 1, counted(blocks as u64, "block"));
            }
        }
        info!("fitted in {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Embedding and head, by the last hidden states that the model gives with the codes it has.
    fn calibrate_ends(&mut self, source: &Source, ids: &[Tensor<2, Int>], tokens: usize) -> Result<(), Fault> {
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
