//! Where a model's first weights come from: a folder's files, or a seeded draw.

use std::cell::RefCell;
use std::collections::BTreeSet;

use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoints::Weights;
use faults::{Fault, Place};
use kernels::{Feedback, Quantised};
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};

use super::config::Config;
use super::ops::{Matrix, is_packed};
use super::quantise::Quantise;
use super::shapes::{compare, refuse_others};

/// Gives out the weights by name, checked against the shape that the configuration asks for.
pub struct Source<'a> {
    /// The files, or `None` for a seeded draw of a new model.
    pub weights: Option<&'a Weights>,
    /// The type the weights are kept in.
    pub dtype: DType,
    /// The inner device they go to.
    pub device: &'a Device,
    /// Every weight becomes a leaf that requires a gradient.
    pub trained: bool,
    /// How frozen matrices are kept in fewer bits, if they are.
    pub quantise: Option<Quantise>,
    /// Seed of the draw.
    pub seed: u64,
    /// Standard deviation of the draw.
    pub initializer_range: f64,
    /// On a GPU, draw there: in moments where the processor takes minutes, and other numbers than on other machines.
    pub draws_on_device: bool,
    /// Names asked for so far.
    pub used: RefCell<BTreeSet<String>>,
}

impl<'a> Source<'a> {
    /// A model's files as they are, frozen.
    pub fn frozen(weights: &'a Weights, dtype: DType, device: &'a Device) -> Self {
        Self {
            weights: Some(weights),
            dtype,
            device,
            trained: false,
            quantise: None,
            seed: 0,
            initializer_range: 0.0,
            draws_on_device: false,
            used: RefCell::default(),
        }
    }
}

impl Source<'_> {
    /// A matrix of the backbone, `[out, in]`: packed when it is frozen and lives on the CPU, quantised when that is asked
    /// for.
    ///
    /// # Errors
    /// A missing tensor, one of another shape, or one that cannot be quantised because a value is not finite.
    pub(super) fn projection(&self, name: &str, shape: [usize; 2]) -> Result<Matrix, Fault> {
        if !self.packs() && self.quantise.and_then(|quantise| quantise.of(name)).is_none() {
            return Ok(Matrix::Tensor(self.matrix(name, shape)?));
        }
        self.keep(name, self.matrix_values(name, shape)?, shape)
    }

    /// A frozen matrix of given values, as [`Source::projection`] keeps the one called `name`.
    ///
    /// # Errors
    /// A value is not finite, where the matrix is quantised.
    pub(super) fn keep(&self, name: &str, values: Vec<f32>, shape: [usize; 2]) -> Result<Matrix, Fault> {
        let Some(quantisation) = self.quantise.and_then(|quantise| quantise.of(name)) else {
            return Ok(self.plain(values, shape));
        };
        refuse_infinite(name, &values)?;
        Ok(self.coded(Quantised::new(&values, shape, quantisation)))
    }

    /// A frozen matrix of given values as they are, quantised or not.
    pub(super) fn plain(&self, values: Vec<f32>, shape: [usize; 2]) -> Matrix {
        Matrix::frozen(values, shape, self.dtype, self.device)
    }

    /// The matrix of the module at `path` in nf4 codes that are fitted to inputs.
    ///
    /// # Errors
    /// A value is not finite.
    pub(super) fn fitted(
        &self,
        path: &str,
        values: &[f32],
        shape: [usize; 2],
        feedback: &Feedback,
    ) -> Result<Matrix, Fault> {
        refuse_infinite(&format!("{path}.weight"), values)?;
        Ok(self.coded(Quantised::fitted(values, shape, feedback)))
    }

    fn coded(&self, matrix: Quantised) -> Matrix {
        Matrix::quantised(matrix, self.dtype, self.device)
    }

    /// The values of the matrix of the module at `path`, `[out, in]`; a head without a matrix of its own has the
    /// embedding's.
    pub(super) fn values(&self, path: &str, shape: [usize; 2]) -> Result<Vec<f32>, Fault> {
        let own = format!("{path}.weight");
        self.matrix_values(self.weights.map_or(&own, |weights| weights.holder(&own)), shape)
    }

    /// Frozen matrices of the CPU are packed, and everything else is f32 there.
    fn packs(&self) -> bool {
        is_packed(self.device, self.trained)
    }

    /// A matrix `[out, in]`; drawn from a normal distribution in a new model.
    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, Fault> {
        if let Some(drawn) = self.drawn(shape, self.dtype) {
            return Ok(self.place(drawn));
        }
        let values = self.matrix_values(name, shape)?;
        Ok(self.place(Tensor::from_data(TensorData::new(values, shape), (self.device, self.dtype))))
    }

    /// A draw on the device, where that is wanted.
    fn drawn(&self, shape: [usize; 2], dtype: DType) -> Option<Tensor<2>> {
        let here = self.draws_on_device && self.weights.is_none();
        here.then(|| crate::device::draw_normal(self.initializer_range, shape, self.device, dtype)).flatten()
    }

    fn matrix_values(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, Fault> {
        if let Some(drawn) = self.drawn(shape, DType::F32) {
            return Ok(crate::values(drawn.flatten(0, 1)));
        }
        Ok(match self.weights {
            Some(weights) => self.read(weights, name, &shape)?,
            None => {
                let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(crate::random::key(self.seed, &["init", name]));
                let normal = Normal::new(0.0f32, self.initializer_range as f32).expect("the deviation is finite");
                (0..shape[0] * shape[1]).map(|_| normal.sample(&mut random)).collect()
            }
        })
    }

    /// A vector `[size]`; `fill` everywhere in a new model.
    pub(super) fn vector(&self, name: &str, size: usize, fill: f32) -> Result<Tensor<1>, Fault> {
        let values = match self.weights {
            Some(weights) => self.read(weights, name, &[size])?,
            None => vec![fill; size],
        };
        let dtype = if self.packs() { DType::F32 } else { self.dtype };
        Ok(self.place(Tensor::from_data(TensorData::new(values, [size]), (self.device, dtype))))
    }

    fn place<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        if self.trained { tensor.autodiff().require_grad() } else { tensor }
    }

    fn read(&self, weights: &Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>, Fault> {
        self.used.borrow_mut().insert(name.into());
        compare(weights, name, shape)?;
        weights.f32(name)
    }

    /// Looks at what the files hold beside what was asked for.
    ///
    /// # Errors
    /// A tensor that the configuration has no place for: ignoring it could change the mathematics.
    pub(super) fn refuse_unused(&self, config: &Config) -> Result<(), Fault> {
        self.weights.map_or(Ok(()), |weights| refuse_others(weights, &self.used.borrow(), config))
    }
}

fn refuse_infinite(name: &str, values: &[f32]) -> Result<(), Fault> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Fault::new(format!("the tensor `{name}` holds a value that is not finite"))
        .at(Place::Named(name.into()))
        .hint("it cannot be quantised: leave `model.quantize` out, or repair the model"))
}
