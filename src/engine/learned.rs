//! A token that is predicted and learned, with what objectives and losses need to know of it.

use datasets::Example;

/// One token that is predicted and learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Row of the flattened hidden states `[rows * width, hidden_size]` that predicts it.
    pub hidden: usize,
    /// The token.
    pub target: u32,
    /// 1 to `length` among the learned tokens of its row.
    pub position: usize,
    /// Number of learned tokens of its row.
    pub length: usize,
    /// The row's own weight; the sum of those of the rows that share the token.
    pub weight: f64,
    /// The square of the row's own weight; the sum of the squares.
    pub weight_squared: f64,
    /// The row's own weight; the largest of them.
    pub largest_weight: f64,
    /// Number of rows that share the token.
    pub rows: usize,
    /// The number of its row; of several rows, of the first.
    pub number: Option<f64>,
}

impl Learned {
    /// A token of one row, at this position of this many that it learns.
    pub fn new(hidden: usize, target: u32, (position, length): (usize, usize), row: &Example) -> Self {
        let Example { weight, number, .. } = *row;
        let (weight_squared, largest_weight) = (weight * weight, weight);
        Self { hidden, target, position, length, weight, weight_squared, largest_weight, rows: 1, number }
    }

    /// Adds a row of this weight that shares the token.
    pub fn share(&mut self, weight: f64) {
        self.weight += weight;
        self.weight_squared += weight * weight;
        self.largest_weight = self.largest_weight.max(weight);
        self.rows += 1;
    }
}
