//! Sums over the learned tokens of a step, kept on the device until they are read.

use backbone::values;
use burn::tensor::{Device, Tensor, TensorData};

/// Running sums on the device: `[loss, nll, entropy, weight, weight^2, active, largest weight]`.
pub struct Totals {
    sums: Tensor<1>,
}

/// The numbers of each token that are summed over a step, `[tokens]`, f32.
pub struct Added {
    /// The loss that the objective's weight multiplies: the nll, at the objective's temperature and with its label smoothing.
    pub loss: Tensor<1>,
    /// Terms of the loss that the weight does not multiply, such as an entropy bonus.
    pub beside: Option<Tensor<1>>,
    /// The nll at temperature 1.
    pub nll: Tensor<1>,
    /// The entropy of the predicted distribution.
    pub entropy: Tensor<1>,
}

/// What tokens stand for that several rows share, `[tokens]` each: a weight is parted among its rows as their own weights
/// are, so that sums are those of the rows one by one.
pub struct Shared {
    /// Number of rows.
    pub rows: Tensor<1>,
    /// The sum of the squares of the rows' parts of the weight, as a part of its square.
    pub squares: Tensor<1>,
    /// The largest part.
    pub largest: Tensor<1>,
}

/// [`Totals`] on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Sum of weight times nll, and of what stands beside it.
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
    /// How many sums there are.
    pub const LENGTH: usize = 7;

    /// Nothing yet.
    pub fn zeros(device: &Device) -> Self {
        Self { sums: Tensor::zeros([Self::LENGTH], device) }
    }

    /// Adds a chunk of tokens.
    ///
    /// # Shapes
    /// - `weights`: `[tokens]`, f32. `shared` says which tokens stand for several rows, if some do: they count for each.
    pub fn add(&mut self, added: Added, weights: Tensor<1>, shared: Option<Shared>) {
        let mut active = weights.clone().greater_elem(0.0).float();
        let mut loss = (weights.clone() * added.loss).sum();
        if let Some(beside) = added.beside {
            loss = loss + beside.sum();
        }
        let (mut nll, mut entropy) = (added.nll, added.entropy);
        let mut squares = weights.clone() * weights.clone();
        let mut largest = weights.clone();
        if let Some(shared) = shared {
            (nll, entropy) = (nll * shared.rows.clone(), entropy * shared.rows.clone());
            (active, squares, largest) = (active * shared.rows, squares * shared.squares, largest * shared.largest);
        }
        let sums = [loss, nll.sum(), entropy.sum(), weights.sum(), squares.sum(), active.sum()];
        let chunk = Tensor::cat(sums.to_vec(), 0);
        let largest = largest.max().max_pair(self.sums.clone().narrow(0, Self::LENGTH - 1, 1));
        let sums = self.sums.clone().narrow(0, 0, Self::LENGTH - 1) + chunk;
        self.sums = Tensor::cat(vec![sums, largest], 0);
    }

    /// The loss summed so far, `[1]`, on the device.
    pub fn loss(&self) -> Tensor<1> {
        self.sums.clone().narrow(0, 0, 1)
    }

    /// Waits for the device and gives the sums as they are, the largest weight last.
    pub fn numbers(&self) -> Vec<f64> {
        values(self.sums.clone()).into_iter().map(f64::from).collect()
    }

    /// The sums of several processes, of which `numbers` has each number of all of them.
    pub fn from_numbers(numbers: &[Vec<f64>], device: &Device) -> Self {
        let (largest, sums) = numbers.split_last().expect("all sums");
        let mut all: Vec<f32> = sums.iter().map(|of_all| of_all.iter().sum::<f64>() as f32).collect();
        all.push(largest.iter().copied().fold(0.0, f64::max) as f32);
        Self { sums: Tensor::from_data(TensorData::new(all, [Self::LENGTH]), device) }
    }

    /// Waits for the device and reads the sums.
    pub fn read(self) -> Sums {
        Sums::from_numbers(&self.numbers())
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.nll += other.nll;
        self.entropy += other.entropy;
        self.weight += other.weight;
        self.weight_squared += other.weight_squared;
        self.active += other.active;
        self.largest_weight = self.largest_weight.max(other.largest_weight);
    }
}

impl Sums {
    /// How many there are.
    pub const LENGTH: usize = Totals::LENGTH;

    /// All of them, the largest weight last.
    pub fn numbers(&self) -> [f64; Self::LENGTH] {
        let Self { loss, nll, entropy, weight, weight_squared, active, largest_weight } = *self;
        [loss, nll, entropy, weight, weight_squared, active, largest_weight]
    }

    /// Sums from the list that [`Sums::numbers`] made.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let [loss, nll, entropy, weight, weight_squared, active, largest_weight] =
            numbers.try_into().expect("all sums");
        Self { loss, nll, entropy, weight, weight_squared, active, largest_weight }
    }

    /// What is logged of the weights of every objective: mean, largest, fraction above zero, and the effective sample
    /// size `(sum w)^2 / sum w^2`; over the learned tokens of every row, of which there are `tokens`.
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

    fn added(nll: Tensor<1>, entropy: Tensor<1>) -> Added {
        Added { loss: nll.clone(), beside: None, nll, entropy }
    }

    #[test]
    fn chunks_add_up_to_the_closed_form() {
        let device = Device::flex();
        let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let mut totals = Totals::zeros(&device);
        totals.add(added(vector(&[1.0, 2.0]), vector(&[0.5, 0.5])), vector(&[0.0, 3.0]), None);
        totals.add(added(vector(&[4.0]), vector(&[0.25])), vector(&[1.0]), None);
        let sums = totals.read();
        assert_eq!((sums.loss, sums.nll, sums.entropy, sums.largest_weight), (10.0, 7.0, 1.25, 3.0));
        let diagnostics: Vec<f64> = sums.weight_diagnostics(3).into_iter().map(|(_, value)| value).collect();
        assert_eq!(diagnostics, [4.0 / 3.0, 3.0, 2.0 / 3.0, 1.6]);
    }

    #[test]
    fn processes_add_up_to_what_one_sees() {
        let device = Device::flex();
        let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let [mut whole, mut first, mut second] = [(); 3].map(|()| Totals::zeros(&device));
        for (nll, weights, process) in [([1.0, 2.0], [0.0, 3.0], 0), ([4.0, 8.0], [1.0, 0.5], 1)] {
            let one = if process == 0 { &mut first } else { &mut second };
            for totals in [&mut whole, one] {
                totals.add(added(vector(&nll), vector(&[0.5, 0.5])), vector(&weights), None);
            }
        }
        let numbers: Vec<Vec<f64>> =
            first.numbers().into_iter().zip(second.numbers()).map(|(a, b)| vec![a, b]).collect();
        assert_eq!(Totals::from_numbers(&numbers, &device).read(), whole.read());
    }

    /// Weights 3 and 1 on one token that two rows share, and 2 on one of a row by itself: the sums of 3, 1 and 2.
    #[test]
    fn a_shared_token_counts_for_each_of_its_rows() {
        let device = Device::flex();
        let vector = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let mut totals = Totals::zeros(&device);
        let shared =
            Shared { rows: vector(&[2.0, 1.0]), squares: vector(&[0.625, 1.0]), largest: vector(&[0.75, 1.0]) };
        totals.add(added(vector(&[0.5, 1.0]), vector(&[0.25, 1.0])), vector(&[4.0, 2.0]), Some(shared));
        let sums = totals.read();
        assert_eq!((sums.loss, sums.nll, sums.entropy), (4.0, 2.0, 1.5));
        let diagnostics: Vec<f64> = sums.weight_diagnostics(3).into_iter().map(|(_, value)| value).collect();
        assert_eq!(diagnostics, [2.0, 3.0, 1.0, 36.0 / 14.0]);
    }
}
