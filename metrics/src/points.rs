//! Points of any dimension.

/// Rows of numbers of equal length, one after another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Points<'a> {
    values: &'a [f64],
    dimension: usize,
}

impl<'a> Points<'a> {
    /// # Panics
    /// `values` that are not whole rows of `dimension` numbers.
    pub fn new(values: &'a [f64], dimension: usize) -> Self {
        assert!(dimension > 0 && values.len().is_multiple_of(dimension), "whole rows of {dimension} numbers");
        Self { values, dimension }
    }

    /// The numbers of those that are not zero: a text without words has no direction.
    pub fn directed(&self) -> Vec<f64> {
        let directed = self.rows().filter(|row| row.iter().any(|value| *value != 0.0));
        directed.flatten().copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers of each.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// One of them.
    pub fn row(&self, index: usize) -> &'a [f64] {
        &self.values[index * self.dimension..][..self.dimension]
    }

    /// All of them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'a [f64]> + use<'a> {
        self.values.chunks_exact(self.dimension)
    }
}

/// The inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The square of the Euclidean distance.
pub fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Divides each row by its length; a row of zeros stays.
pub fn normalise(values: &mut [f64], dimension: usize) {
    for row in values.chunks_exact_mut(dimension) {
        let length = dot(row, row).sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|value| *value /= length);
        }
    }
}
