//! Rotary position encoding in the rotate-half layout of Hugging Face weights (Su et al. 2021, arXiv 2104.09864).

use burn::tensor::{Device, Tensor, TensorData};

use super::rope::Rope;

/// Cosines and sines of the positions of one pass, shared by all layers of a kind.
#[derive(Clone)]
pub struct Rotary {
    /// `[1 or batch, 1, positions, width / 2]`
    cosine: Tensor<4>,
    /// `[1 or batch, 1, positions, width / 2]`
    sine: Tensor<4>,
}

impl Rotary {
    /// The tables of any positions, of one row after another, or of one row for the whole batch, in a pass whose longest
    /// row has `longest` tokens.
    pub fn at(rope: &Rope, positions: &[usize], rows: usize, longest: usize, device: &Device) -> Self {
        let (frequencies, factor) = (rope.frequencies(longest), rope.attention_factor() as f32);
        let angles: Vec<f64> = positions
            .iter()
            .flat_map(|position| frequencies.iter().map(move |frequency| f64::from(*position as f32 * frequency)))
            .collect();
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| function(*angle) as f32 * factor).collect();
            let shape = [rows, 1, positions.len() / rows, frequencies.len()];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cosine: table(f64::cos), sine: table(f64::sin) }
    }

    /// The tables of one row of so many positions, in which nothing is turned.
    pub fn none(width: usize, positions: usize, device: &Device) -> Self {
        let shape = [1, 1, positions, width / 2];
        Self { cosine: Tensor::ones(shape, device), sine: Tensor::zeros(shape, device) }
    }

    /// Cosines and sines, `[1 or batch, 1, positions, width / 2]`.
    pub fn tables(&self) -> (Tensor<4>, Tensor<4>) {
        (self.cosine.clone(), self.sine.clone())
    }

    /// How many values of a head are turned.
    pub fn width(&self) -> usize {
        2 * self.cosine.dims()[3]
    }

    /// Turns queries or keys, `[batch, heads, positions, head_dim]`, by their positions; computed in f32.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        crate::ops::rotate(x, self.cosine.clone(), self.sine.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_the_length_and_depends_on_the_distance_only() {
        let device = Device::flex();
        for width in [8, 6] {
            let rope = Rope::plain(width, 10_000.0);
            let rotary = Rotary::at(&rope, &[3, 4], 1, 5, &device);
            let x = Tensor::<4>::from_data(
                TensorData::new((0..16).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>(), [1, 1, 2, 8]),
                &device,
            );
            let norm = |x: Tensor<4>| x.clone().mul(x).sum().into_scalar::<f32>();
            assert!((norm(rotary.apply(x.clone())) - norm(x.clone())).abs() < 1e-5);
            let shifted = Rotary::at(&rope, &[10, 11], 1, 12, &device);
            let score = |rotary: &Rotary| {
                let turned = rotary.apply(x.clone());
                (turned.clone().narrow(2, 0, 1) * turned.narrow(2, 1, 1)).sum().into_scalar::<f32>()
            };
            assert!((score(&rotary) - score(&shifted)).abs() < 1e-5);
        }
    }
}
