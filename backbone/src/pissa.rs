//! PiSSA (Meng et al. 2024, arXiv 2404.02948): the factors start as the largest singular values of each matrix, and the
//! matrix keeps the rest.
//!
//! With `W = U S V^T`, `A = sqrt(S_r / s) V_r^T`, `B = U_r sqrt(S_r / s)` and the frozen matrix is `W - s B A`. On disk it
//! is plain LoRA on the original base, of twice the rank: `[A; A_0]` and `[B, -B_0]`, so that a reader needs to know
//! nothing of this.

use burn::tensor::{Tensor, TensorData};
use checkpoints::Adapter;
use faults::{Fault, Faults, Place};
use kernels::{Packed, Precision};

use super::adapter::AdapterSettings;
use super::decoder::Decoder;
use super::lora::Lora;
use super::source::Source;
use super::svd;

/// The factors that are taken out of a matrix: A `[rank, in]` and B `[out, rank]`.
struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Decoder {
    /// Attaches adapters that start as what is largest in their matrices, whose rest is read from `source` again. The
    /// factors of a run that goes on are those of its checkpoint, `saved`; whatever the machine, they are the same.
    ///
    /// # Errors
    /// As [`AdapterSettings::check`]; a checkpoint of another adapter.
    pub fn attach_pissa(
        &mut self,
        settings: &AdapterSettings,
        seed: u64,
        source: &Source,
        saved: Option<&Adapter>,
    ) -> Result<(), Faults> {
        settings.check(&self.config)?;
        let shape = settings.shape();
        let device = self.device().clone();
        for (path, [outputs, inputs]) in settings.adapted(&self.config) {
            let (rank, scale) = (shape.rank(&path), shape.scale(&path));
            let weight = source.values(&path, [outputs, inputs])?;
            let taken = match saved {
                Some(adapter) => read(adapter, &path, [outputs, inputs], rank)?,
                None => {
                    let key = crate::random::key(seed, &["pissa", &path]);
                    factors(&svd::largest(&weight, [outputs, inputs], rank, key), outputs, scale)
                }
            };
            let linear = self.linear(&path).expect("an embedding has been refused");
            let rest = without(weight, &taken, [outputs, inputs], rank, scale as f32);
            linear.replace_weight(source.keep(&format!("{path}.weight"), rest, [outputs, inputs])?);
            let tensor = |values, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
            let (a, b) = (tensor(taken.a, [rank, inputs]), tensor(taken.b, [outputs, rank]));
            let lora = Lora::new(a.clone(), b.clone(), scale, settings.dropout).with_taken(a, b);
            linear.attach(if settings.dora { lora.with_magnitude(linear.weight(), None) } else { lora });
        }
        Ok(())
    }
}

fn factors(svd: &svd::Svd, outputs: usize, scale: f64) -> Factors {
    let rank = svd.values.len();
    let roots: Vec<f64> = svd.values.iter().map(|value| (value / scale).sqrt()).collect();
    let inputs = svd.right.len() / rank.max(1);
    let scaled = |(index, value): (usize, &f32)| (f64::from(*value) * roots[index / inputs.max(1)]) as f32;
    let a = svd.right.iter().enumerate().map(scaled).collect();
    let mut b = vec![0.0; outputs * rank];
    for (r, row) in svd.left.chunks_exact(outputs.max(1)).enumerate() {
        for (output, value) in row.iter().enumerate() {
            b[output * rank + r] = (f64::from(*value) * roots[r]) as f32;
        }
    }
    Factors { a, b }
}

/// `W - s B A`
fn without(mut weight: Vec<f32>, taken: &Factors, [outputs, inputs]: [usize; 2], rank: usize, scale: f32) -> Vec<f32> {
    let a = Packed::new(&taken.a, [inputs, rank], (1, inputs), scale, Precision::F32);
    let product: Vec<f32> = kernels::product(&taken.b, outputs, &a);
    weight.iter_mut().zip(product).for_each(|(weight, product)| *weight -= product);
    weight
}

/// The factors taken out in the run of a checkpoint: the second halves of its adapter.
fn read(adapter: &Adapter, path: &str, [outputs, inputs]: [usize; 2], rank: usize) -> Result<Factors, Fault> {
    let misfit = || {
        Fault::new("the checkpoint's adapter is not one that started from the largest singular values")
            .at(Place::Named(path.into()))
            .hint("resume with the recipe the run was started with")
    };
    let a = adapter.tensors.get(&Adapter::key_a(path)).ok_or_else(misfit)?;
    let b = adapter.tensors.get(&Adapter::key_b(path)).ok_or_else(misfit)?;
    if a.shape != [2 * rank, inputs] || b.shape != [outputs, 2 * rank] {
        return Err(misfit());
    }
    let a = a.to_f32()?.split_off(rank * inputs);
    let b = b.to_f32()?.chunks_exact(2 * rank).flat_map(|row| &row[rank..]).map(|value| -value).collect();
    Ok(Factors { a, b })
}
