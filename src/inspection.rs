//! Numbers of weights and adapters, from their files alone.
//!
//! The update of a module is `U = s B A`. It is never formed: `|U|^2 = s^2 tr((A A^T)(B^T B))` and, of two updates,
//! `<U, V> = s t tr((B_U^T B_V)(A_V A_U^T))` take two products of the width of the ranks. Sums are in f64.

use checkpoints::{Dtype, Module, StoredTensor, Weights};
use faults::Fault;
use rayon::prelude::*;
use serde::Serialize;

/// Square root of the sum of squares (Frobenius); not finite where a value is not.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt()
}

/// One module of an adapter, its factors as numbers.
#[derive(Debug, Clone)]
pub struct Update {
    /// The module's path in the base model.
    pub path: String,
    /// Rank of the factors.
    pub rank: usize,
    /// `[in, out]` of the module.
    pub sides: [usize; 2],
    /// s.
    pub scale: f64,
    /// A, `[rank, in]`.
    a: Vec<f32>,
    /// B, `[out, rank]`.
    b: Vec<f32>,
    /// DoRA's row norms, `[out]`.
    magnitude: Option<Vec<f32>>,
}

/// Norms of one module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Norms {
    /// `|A|`
    #[serde(rename = "norm_a")]
    pub a: f64,
    /// `|B|`
    #[serde(rename = "norm_b")]
    pub b: f64,
    /// `|s B A|`
    #[serde(rename = "norm_update")]
    pub update: f64,
    /// Norm of DoRA's magnitudes.
    #[serde(rename = "norm_magnitude")]
    pub magnitude: Option<f64>,
}

impl Update {
    /// # Errors
    /// Factors that hold no floating-point numbers.
    pub fn new(module: &Module) -> Result<Self, Fault> {
        Ok(Self {
            path: module.path.into(),
            rank: module.rank,
            // Of an embedding, B A is the transpose of what is added: a token comes in.
            sides: match module.embedding {
                true => [module.out_features, module.in_features],
                false => [module.in_features, module.out_features],
            },
            scale: module.scale,
            a: module.a.to_f32()?,
            b: module.b.to_f32()?,
            magnitude: module.magnitude.map(StoredTensor::to_f32).transpose()?,
        })
    }

    /// Its norms.
    pub fn norms(&self) -> Norms {
        Norms {
            a: norm(&self.a),
            b: norm(&self.b),
            update: root(self.inner(self)),
            magnitude: self.magnitude.as_deref().map(norm),
        }
    }

    /// True when B is zero everywhere, as it is before the first step: the module does nothing.
    pub fn is_untrained(&self) -> bool {
        self.b.iter().all(|value| *value == 0.0)
    }

    /// True when every number of it is one.
    pub fn is_finite(&self) -> bool {
        let parts = [Some(&self.a), Some(&self.b), self.magnitude.as_ref()];
        parts.into_iter().flatten().flatten().all(|value| value.is_finite())
    }

    /// Squares of `|m_U - m_V|` and of `|m_U|`, if both have DoRA's magnitudes.
    pub fn magnitudes_apart(&self, other: &Self) -> Option<[f64; 2]> {
        let (own, other) = (self.magnitude.as_ref()?, other.magnitude.as_ref()?);
        let apart = own.iter().zip(other).map(|(u, v)| (f64::from(*u) - f64::from(*v)).powi(2)).sum();
        Some([apart, own.iter().map(|value| f64::from(*value).powi(2)).sum()])
    }

    /// The inner product of two updates of one module, `sum of U_ij V_ij`.
    pub fn inner(&self, other: &Self) -> f64 {
        assert_eq!(self.sides, other.sides, "updates of one module");
        let [inputs, outputs] = self.sides;
        // Whichever is smaller: a file that claims a senseless rank is not to decide how much memory is taken.
        let narrow = self.rank.saturating_mul(other.rank) <= inputs.saturating_mul(outputs);
        self.scale * other.scale * if narrow { self.inner_of_ranks(other) } else { self.inner_of_rows(other) }
    }

    /// By two products of the width of the ranks.
    fn inner_of_ranks(&self, other: &Self) -> f64 {
        let (inputs, rank) = (self.sides[0], other.rank);
        // B_U^T B_V, `[rank, rank of the other]`, a row of both at a time.
        let mut of_b = vec![0.0f64; self.rank * rank];
        for (row, row_other) in self.b.chunks_exact(self.rank).zip(other.b.chunks_exact(rank)) {
            for (value, sums) in row.iter().zip(of_b.chunks_exact_mut(rank)) {
                for (sum, value_other) in sums.iter_mut().zip(row_other) {
                    *sum += f64::from(*value) * f64::from(*value_other);
                }
            }
        }
        let row = |i: usize| i * inputs..(i + 1) * inputs;
        let pairs = (0..self.rank).flat_map(|i| (0..rank).map(move |j| (i, j)));
        pairs.zip(&of_b).map(|((i, j), of_b)| of_b * dot(&self.a[row(i)], &other.a[row(j)])).sum()
    }

    /// By a row of both products `B A` after the other.
    fn inner_of_rows(&self, other: &Self) -> f64 {
        let inputs = self.sides[0];
        let row = |update: &Self, b: &[f32]| {
            let mut sums = vec![0.0f64; inputs];
            for (b, a) in b.iter().zip(update.a.chunks_exact(inputs.max(1))) {
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += f64::from(*b) * f64::from(*a);
                }
            }
            sums
        };
        let rows = self.b.chunks_exact(self.rank).zip(other.b.chunks_exact(other.rank));
        rows.map(|(b, b_other)| {
            let pairs = row(self, b).into_iter().zip(row(other, b_other));
            pairs.map(|(u, v)| u * v).sum::<f64>()
        })
        .sum()
    }
}

/// The root of a sum of squares that rounding may have put below zero; NaN stays NaN.
fn root(square: f64) -> f64 {
    if square < 0.0 { 0.0 } else { square.sqrt() }
}

/// The inner product of two rows, in eight sums that a processor's vectors can hold.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Two updates of one module beside each other, U and V.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    /// `|U|^2`
    first: f64,
    /// `|V|^2`
    second: f64,
    /// `<U, V>`
    inner: f64,
}

impl Difference {
    /// The difference of two updates of one module; a missing one counts as zero.
    pub fn new(first: Option<&Update>, second: Option<&Update>) -> Self {
        let inner = |u: Option<&Update>, v: Option<&Update>| u.zip(v).map_or(0.0, |(u, v)| u.inner(v));
        Self { first: inner(first, first), second: inner(second, second), inner: inner(first, second) }
    }

    /// Of all modules together, as if they were one vector.
    pub fn total<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            first: sum.first + part.first,
            second: sum.second + part.second,
            inner: sum.inner + part.inner,
        })
    }

    /// `|U|`
    pub fn first(&self) -> f64 {
        root(self.first)
    }

    /// `|V|`
    pub fn second(&self) -> f64 {
        root(self.second)
    }

    /// `|U - V| / |U|`, where it is large enough to be told from rounding (1e-7); infinite where only U is zero, and 0
    /// where both are.
    pub fn distance(&self) -> f64 {
        match self.first + self.second - 2.0 * self.inner {
            squared if squared.is_nan() => f64::NAN,
            squared if squared <= 0.0 => 0.0,
            squared => squared.sqrt() / self.first(),
        }
    }

    /// The cosine of the angle between them; `None` where one of them is zero.
    pub fn cosine(&self) -> Option<f64> {
        let lengths = (self.first * self.second).sqrt();
        (lengths != 0.0).then(|| (self.inner / lengths).clamp(-1.0, 1.0))
    }
}

/// One tensor of a model.
#[derive(Debug, Clone, Serialize)]
pub struct Tensor {
    /// As the files name it.
    pub name: String,
    /// Sizes of its dimensions.
    pub shape: Vec<usize>,
    /// The type of its values in the files.
    pub dtype: Dtype,
    /// Its norm; `None` where it holds no floating-point numbers.
    pub norm: Option<f64>,
    /// Values that are NaN or infinite.
    pub not_finite: u64,
}

impl Tensor {
    /// Number of values.
    pub fn values(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    /// All of a model's tensors, sorted by name with numbers in their order.
    ///
    /// # Errors
    /// Bytes that are not what the header says.
    pub fn all(weights: &Weights) -> Result<Vec<Self>, Fault> {
        let mut names: Vec<&str> = weights.names().collect();
        names.sort_by_cached_key(|name| natural(name));
        names.into_iter().map(|name| Self::read(weights, name)).collect()
    }

    fn read(weights: &Weights, name: &str) -> Result<Self, Fault> {
        let dtype = weights.dtype(name).expect("a listed tensor has a type");
        let shape = weights.shape(name).expect("a listed tensor has a shape");
        let known = [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16].contains(&dtype);
        let values = if known { weights.f32(name)? } else { Vec::new() };
        let not_finite = values.par_iter().filter(|value| !value.is_finite()).count() as u64;
        // One order of summation on every machine.
        let squares: Vec<f64> = values.par_chunks(1 << 16).map(|chunk| norm(chunk).powi(2)).collect();
        let norm = known.then(|| squares.iter().sum::<f64>().sqrt());
        Ok(Self { name: name.into(), shape, dtype, norm, not_finite })
    }

    /// What it is shown under: its layer, or its own name without `.weight`.
    pub fn group(&self) -> &str {
        let mut end = 0;
        for part in self.name.split('.') {
            end += part.len() + 1;
            if end > part.len() + 1 && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
                return &self.name[..end - 1];
            }
        }
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }
}

/// A name in pieces that sort as a person would sort them: layer 9 before layer 10.
fn natural(name: &str) -> Vec<(usize, String)> {
    let piece = |part: &str| match part.parse::<usize>() {
        Ok(number) => (number, String::new()),
        Err(_) => (usize::MAX, part.to_owned()),
    };
    name.split('.').map(piece).collect()
}

/// Module paths in the same order.
pub fn in_order(updates: &mut [Update]) {
    updates.sort_by_cached_key(|update| natural(&update.path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: f64) -> Vec<f32> {
        (0..count).map(|i| ((i as f64 * 0.7 + seed).sin()) as f32).collect()
    }

    fn update(rank: usize, sides: [usize; 2], scale: f64, seed: f64) -> Update {
        let (a, b) = (values(rank * sides[0], seed), values(rank * sides[1], seed + 1.0));
        Update { path: "m".into(), rank, sides, scale, a, b, magnitude: None }
    }

    /// `s B A`, formed, in f64.
    fn formed(update: &Update) -> Vec<f64> {
        let [inputs, outputs] = update.sides;
        let value = |o: usize, i: usize| {
            let terms = (0..update.rank)
                .map(|r| f64::from(update.b[o * update.rank + r]) * f64::from(update.a[r * inputs + i]));
            update.scale * terms.sum::<f64>()
        };
        (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| value(o, i)).collect()
    }

    fn length(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// Ranks below and above the sides, which are summed in different ways.
    #[test]
    fn norms_distances_and_cosines_are_those_of_the_formed_updates() {
        for (ranks, sides) in [([3, 4], [17, 5]), ([9, 4], [3, 2]), ([1, 9], [2, 3])] {
            let (first, second) = (update(ranks[0], sides, 2.0, 0.1), update(ranks[1], sides, -0.5, 0.9));
            let (u, v) = (formed(&first), formed(&second));
            assert!((first.norms().update / length(&u) - 1.0).abs() < 1e-12);
            let difference = Difference::new(Some(&first), Some(&second));
            let apart: Vec<f64> = u.iter().zip(&v).map(|(x, y)| x - y).collect();
            assert!((difference.distance() / (length(&apart) / length(&u)) - 1.0).abs() < 1e-12);
            let inner: f64 = u.iter().zip(&v).map(|(x, y)| x * y).sum();
            let cosine = difference.cosine().expect("both are there");
            assert!((cosine - inner / length(&u) / length(&v)).abs() < 1e-12);
        }
    }

    /// No memory is taken by a number that a file claims.
    #[test]
    fn a_rank_without_values_is_nothing() {
        let (rank, sides) = (1 << 40, [0, 0]);
        let empty = Update { path: "m".into(), rank, sides, scale: 1.0, a: Vec::new(), b: Vec::new(), magnitude: None };
        assert_eq!(empty.norms().update, 0.0);
    }

    #[test]
    fn an_update_lies_on_itself_and_nothing_lies_on_zero() {
        let first = update(3, [7, 5], 2.0, 0.1);
        let same = Difference::new(Some(&first), Some(&first));
        assert_eq!((same.distance(), same.cosine()), (0.0, Some(1.0)));
        let mut zero = first.clone();
        zero.b.fill(0.0);
        assert!(zero.is_untrained() && !first.is_untrained());
        let gone = Difference::new(Some(&first), Some(&zero));
        assert_eq!((gone.distance(), gone.cosine()), (1.0, None));
        assert_eq!(Difference::new(None, Some(&first)).distance(), f64::INFINITY);
        assert_eq!(Difference::new(Some(&zero), Some(&zero)).distance(), 0.0);
        let total = Difference::total([same, gone].iter());
        assert!((total.distance() - 0.5f64.sqrt()).abs() < 1e-12);
        let mut bad = first.clone();
        bad.a[3] = f32::NAN;
        assert!(!bad.is_finite() && Difference::new(Some(&bad), Some(&first)).distance().is_nan());
        assert!(bad.norms().update.is_nan() && Difference::new(Some(&first), Some(&bad)).second().is_nan());
        let with = |value: f32| Update { magnitude: Some(vec![value; 5]), ..first.clone() };
        assert_eq!(with(2.0).magnitudes_apart(&with(3.0)), Some([5.0, 20.0]));
    }

    #[test]
    fn layers_are_groups_and_come_in_their_order() {
        let tensor =
            |name: &str| Tensor { name: name.into(), shape: vec![2, 3], dtype: Dtype::F32, norm: None, not_finite: 0 };
        assert_eq!(tensor("model.layers.12.mlp.up_proj.weight").group(), "model.layers.12");
        assert_eq!(tensor("model.embed_tokens.weight").group(), "model.embed_tokens");
        assert_eq!(tensor("7").group(), "7");
        assert!(natural("model.layers.9.x") < natural("model.layers.10.a"));
    }
}
