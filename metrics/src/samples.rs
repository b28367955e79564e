//! What metrics of samples are computed from: the samples of one prompt with what judges say of them.

use crate::points::Points;

/// The samples of a prompt. What is absent, the metrics that need it leave out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Samples<'a> {
    /// What they say.
    pub texts: Option<&'a [String]>,
    /// Sizes of the clusters of samples that mean the same, joined over one another (connected components), the largest
    /// first.
    pub clusters: Option<&'a [usize]>,
    /// The class of each sample, that of the first class whose first member means the same.
    pub classes: Option<&'a [usize]>,
    /// How good each is, as a judge has it.
    pub scores: Option<&'a [f64]>,
    /// The model's `ln q` of each whole text.
    pub log_likelihoods: Option<&'a [f64]>,
    /// The embedding of each, of length 1.
    pub vectors: Option<Points<'a>>,
    /// Whether each is right.
    pub correct: Option<&'a [bool]>,
    /// The `k` of pass@k, none above the number of samples.
    pub ks: &'a [usize],
    /// The vocabulary that EAD is adjusted by, in words; 0 where it is not known.
    pub vocabulary: usize,
}

#[cfg(test)]
pub(crate) mod tests {
    /// Three texts with words in common.
    pub const CATS: [&str; 3] = ["the cat sat on the mat", "the cat ate the rat", "a dog sat"];
}
