//! Rotary position encoding in the rotate-half layout of Hugging Face weights (Su et al. 2021, arXiv 2104.09864).

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use super::config::Fields;

/// How the frequencies are stretched for contexts longer than the model was first trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// The plain frequencies.
    None,
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a linear blend between.
    Llama3 {
        /// How many times longer the context becomes.
        factor: f64,
        /// Wavelengths longer than `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the first training.
        original_max_position_embeddings: f64,
    },
}

impl RopeScaling {
    /// The base and the scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
    pub(super) fn read(fields: &mut Fields) -> (f64, Self) {
        let old_theta = fields.number("rope_theta", 10_000.0);
        let old_scaling = fields.object("rope_scaling");
        let parameters = fields.object("rope_parameters").or(old_scaling).unwrap_or_default();
        let mut number = |name: &str, default: f64| match parameters.get(name) {
            None | Some(Value::Null) => default,
            Some(value) => value.as_f64().unwrap_or_else(|| {
                fields.reject(format!("`{name}` of the rotary settings must be a number, found `{value}`"));
                default
            }),
        };
        let theta = number("rope_theta", old_theta);
        let factor = number("factor", 1.0);
        let low_freq_factor = number("low_freq_factor", 1.0);
        let high_freq_factor = number("high_freq_factor", 4.0);
        let original_max_position_embeddings = number("original_max_position_embeddings", 8192.0);
        let kind = parameters.get("rope_type").or(parameters.get("type")).and_then(Value::as_str).unwrap_or("default");
        let scaling = match kind {
            "default" => Self::None,
            "linear" => Self::Linear { factor },
            "llama3" => Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings },
            other => {
                fields.reject(format!("the rotary scaling `{other}` is not supported; known: default, linear, llama3"));
                Self::None
            }
        };
        if factor < 1.0 || theta <= 0.0 {
            fields.reject("the rotary settings need a `factor` of at least 1 and a positive `rope_theta`".into());
        }
        (theta, scaling)
    }

    fn scale(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let wavelength = std::f64::consts::TAU / frequency;
                let turns = original_max_position_embeddings / wavelength;
                if turns > high_freq_factor {
                    frequency
                } else if turns < low_freq_factor {
                    frequency / factor
                } else {
                    let blend = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - blend) * frequency / factor + blend * frequency
                }
            }
        }
    }
}

/// Cosines and sines of the positions of one pass, shared by all layers.
#[derive(Clone)]
pub struct Rotary {
    /// `[1 or batch, 1, positions, head_dim / 2]`
    cosine: Tensor<4>,
    /// `[1 or batch, 1, positions, head_dim / 2]`
    sine: Tensor<4>,
}

impl Rotary {
    /// The tables of `length` positions from `start` on.
    pub fn new(
        head_dim: usize,
        theta: f64,
        scaling: &RopeScaling,
        start: usize,
        length: usize,
        device: &Device,
    ) -> Self {
        let positions: Vec<usize> = (start..start + length).collect();
        Self::at(head_dim, theta, scaling, &positions, 1, device)
    }

    /// The tables of any positions, of one row after another, or of one row for the whole batch.
    pub fn at(
        head_dim: usize,
        theta: f64,
        scaling: &RopeScaling,
        positions: &[usize],
        rows: usize,
        device: &Device,
    ) -> Self {
        let half = head_dim / 2;
        // Rounded to f32 before the product, as the published models were trained.
        let frequencies: Vec<f32> =
            (0..half).map(|i| scaling.scale(theta.powf(-((2 * i) as f64) / head_dim as f64)) as f32).collect();
        let angles: Vec<f64> = positions
            .iter()
            .flat_map(|position| frequencies.iter().map(move |frequency| f64::from(*position as f32 * frequency)))
            .collect();
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| function(*angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, [rows, 1, positions.len() / rows, half]), device)
        };
        Self { cosine: table(f64::cos), sine: table(f64::sin) }
    }

    /// Cosines and sines, `[1, 1, positions, head_dim / 2]`.
    pub fn tables(&self) -> (Tensor<4>, Tensor<4>) {
        (self.cosine.clone(), self.sine.clone())
    }

    /// Turns queries or keys, `[batch, heads, positions, head_dim]`, by their positions; computed in f32.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let half = x.dims()[3] / 2;
        let x = x.cast(burn::tensor::DType::F32);
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let turned = Tensor::cat(
            vec![
                first.clone() * self.cosine.clone() - second.clone() * self.sine.clone(),
                second * self.cosine.clone() + first * self.sine.clone(),
            ],
            3,
        );
        turned.cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse frequencies that `ROPE_INIT_FUNCTIONS["llama3"]` of transformers 5.23 gives for theta 500000, head_dim
    /// 64, factor 32, original length 8192: kept, blended and divided ones.
    #[test]
    fn llama3_scaling_matches_transformers() {
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        let expected = [
            (0, 1.0),
            (8, 0.037_606_030_702_590_94),
            (15, 0.001_290_548_010_729_253_3),
            (16, 0.000_429_556_705_057_621),
            (17, 9.708_286_233_944_818e-5),
            (18, 1.946_163_865_795_824_7e-5),
            (31, 9.418_306_490_260_875e-8),
        ];
        for (index, frequency) in expected {
            let found = scaling.scale(500_000f64.powf(-f64::from(2 * index) / 64.0));
            assert!((found / frequency - 1.0).abs() < 1e-6, "{index}: {found} is not {frequency}");
        }
    }

    #[test]
    fn a_turn_keeps_the_length_and_depends_on_the_distance_only() {
        let device = Device::flex();
        let rotary = Rotary::new(8, 10_000.0, &RopeScaling::None, 3, 2, &device);
        let x = Tensor::<4>::from_data(
            TensorData::new((0..16).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>(), [1, 1, 2, 8]),
            &device,
        );
        let norm = |x: Tensor<4>| x.clone().mul(x).sum().into_scalar::<f32>();
        assert!((norm(rotary.apply(x.clone())) - norm(x.clone())).abs() < 1e-5);
        let shifted = Rotary::new(8, 10_000.0, &RopeScaling::None, 10, 2, &device);
        let score = |rotary: &Rotary| {
            let turned = rotary.apply(x.clone());
            (turned.clone().narrow(2, 0, 1) * turned.narrow(2, 1, 1)).sum().into_scalar::<f32>()
        };
        assert!((score(&rotary) - score(&shifted)).abs() < 1e-5);
    }
}
