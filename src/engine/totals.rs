//! Sums over the learned tokens of a step, kept on the device until they are read.

use burn::tensor::{Device, Tensor};

use super::trainee::values;

const LENGTH: usize = 7;

/// Running sums on the device: `[loss, nll, entropy, weight, weight^2, active, largest weight]`.
pub struct Totals {
    sums: Tensor<1>,
}

/// [`Totals`] on the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// Sum of weight times nll.
    pub loss: f64,
    /// Sum of the plain nll.
    pub nll: f64,
    /// Sum of the entropies of the predicted distributions, in nats.
    pub entropy: f64,
    /// Sum of the weights.
    pub weight: f64,
    /// Sum of the squared weights.
    pub weight_squared: f64,
    /// Number of weights above zero.
    pub active: f64,
    /// The largest weight.
    pub largest_weight: f64,
}

impl Totals {
    /// Nothing yet.
    pub fn zeros(device: &Device) -> Self {
        Self { sums: Tensor::zeros([LENGTH], device) }
    }

    /// Adds a chunk of tokens.
    ///
    /// # Shapes
    /// - `nll`, `entropy`, `weights`: `[tokens]`, f32. `rows` says how many rows share each token, if not one: its plain nll
    ///   and entropy count for each.
    pub fn add(&mut self, nll: Tensor<1>, entropy: Tensor<1>, weights: Tensor<1>, rows: Option<Tensor<1>>) {
        let active = weights.clone().greater_elem(0.0).float().sum();
        let loss = (weights.clone() * nll.clone()).sum();
        let (nll, entropy) = match rows {
            Some(rows) => (nll * rows.clone(), entropy * rows),
            None => (nll, entropy),
        };
        let chunk = Tensor::cat(
            vec![
                loss,
                nll.sum(),
                entropy.sum(),
                weights.clone().sum(),
                (weights.clone() * weights.clone()).sum(),
                active,
            ],
            0,
        );
        let largest = weights.max().max_pair(self.sums.clone().narrow(0, LENGTH - 1, 1));
        let sums = self.sums.clone().narrow(0, 0, LENGTH - 1) + chunk;
        self.sums = Tensor::cat(vec![sums, largest], 0);
    }

    /// The sum of weight times nll so far, `[1]`, on the device.
    pub fn loss(&self) -> Tensor<1> {
        self.sums.clone().narrow(0, 0, 1)
    }

    /// Waits for the device and reads the sums.
    pub fn read(self) -> Sums {
        let sums: Vec<f64> = values(self.sums).into_iter().map(f64::from).collect();
        Sums {
            loss: sums[0],
            nll: sums[1],
            entropy: sums[2],
            weight: sums[3],
            weight_squared: sums[4],
            active: sums[5],
            largest_weight: sums[6],
        }
    }
}

impl Sums {
    /// What is logged of the weights of every objective: mean, largest, fraction above zero, and the effective sample
    /// size `(sum w)^2 / sum w^2`.
    pub fn weight_diagnostics(&self, tokens: usize) -> Vec<(String, f64)> {
        let tokens = tokens.max(1) as f64;
        let effective = if self.weight_squared > 0.0 { self.weight * self.weight / self.weight_squared } else { 0.0 };
        vec![
            ("weight_mean".into(), self.weight / tokens),
            ("weight_max".into(), self.largest_weight),
            ("active_fraction".into(), self.active / tokens),
            ("effective_sample_size".into(), effective),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_closed_form() {
        let device = Device::flex();
        let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let mut totals = Totals::zeros(&device);
        totals.add(vector(&[1.0, 2.0]), vector(&[0.5, 0.5]), vector(&[0.0, 3.0]), None);
        totals.add(vector(&[4.0]), vector(&[0.25]), vector(&[1.0]), None);
        let sums = totals.read();
        assert_eq!((sums.loss, sums.nll, sums.entropy, sums.largest_weight), (10.0, 7.0, 1.25, 3.0));
        let diagnostics: Vec<f64> = sums.weight_diagnostics(3).into_iter().map(|(_, value)| value).collect();
        assert_eq!(diagnostics, [4.0 / 3.0, 3.0, 2.0 / 3.0, 1.6]);
    }
}
