//! Dropped inputs of adapters. What is dropped is a function of a key and a place, so that no mask is ever kept: the way
//! back, or a recomputed block, draws it again.

use rayon::prelude::*;

use crate::element::Element;
use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// Rows of a task.
const ROWS: usize = 32;

/// Values are zeroed with some probability, and the others divided by the probability of the opposite.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    key: u64,
    /// Places with a hash below are dropped.
    below: u32,
    /// The scale of values that are kept, `1 / (1 - p)`.
    factor: f32,
}

impl Dropout {
    /// A `probability` in `[0, 1)`; the same key drops the same places.
    pub fn new(key: u64, probability: f64) -> Self {
        assert!((0.0..1.0).contains(&probability), "a probability to drop everything");
        let below = (probability * 2f64.powi(32)) as u32;
        Self { key, below, factor: (1.0 / (1.0 - probability)) as f32 }
    }

    /// The key it was made with.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The mask of values `[rows, width]`: zero where they are dropped, else the scale of those kept.
    pub fn mask(&self, rows: usize, width: usize) -> Vec<f32> {
        self.kept(&vec![1.0; rows * width], width)
    }

    /// The values of rows of `width` after dropout.
    pub fn kept<E: Element>(&self, values: &[E], width: usize) -> Vec<E> {
        self.each_row(values, width, multiply)
    }

    /// The values less what is kept of them, as that was rounded: the two together are the values again.
    pub fn rest<E: Element>(&self, values: &[E], width: usize) -> Vec<E> {
        self.each_row(values, width, subtract)
    }

    fn each_row<E: Element>(
        &self,
        values: &[E],
        width: usize,
        make: unsafe fn(*const E, *const f32, *mut E, usize),
    ) -> Vec<E> {
        assert!(width > 0 && values.len().is_multiple_of(width), "rows of another width");
        let build = Build::new(values.len());
        values.par_chunks(ROWS * width).enumerate().for_each(|(chunk, rows)| {
            let mut own = vec![0.0; width];
            for (row, values) in rows.chunks_exact(width).enumerate() {
                let row = chunk * ROWS + row;
                // SAFETY: each row has a place of its own, and `own` is as wide as a row.
                unsafe {
                    draw(self.row_key(row), self.below, self.factor, own.as_mut_ptr(), width);
                    make(values.as_ptr(), own.as_ptr(), build.at(row * width), width);
                }
            }
        });
        // SAFETY: every row was written.
        unsafe { build.finish() }
    }

    /// The key of a row's places: a step of SplitMix64 (Steele, Lea and Flood 2014).
    fn row_key(&self, row: usize) -> u64 {
        let mut z = self.key.wrapping_add((row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The paths of a projection whose inputs are dropped.
#[derive(Debug, Clone, Copy)]
pub enum Dropped {
    /// None.
    Nothing,
    /// The adapter sees what is kept, the matrix everything: LoRA in training.
    Adapter(Dropout),
    /// Both see what is kept: the half of DoRA that is brought to new lengths.
    Both(Dropout),
    /// Both see everything less what is kept: the other half.
    Rest(Dropout),
}

impl Dropped {
    /// The inputs that the matrix sees, where they are not all.
    pub(crate) fn of_matrix<E: Element>(self, x: &[E], width: usize) -> Option<Vec<E>> {
        match self {
            Self::Nothing | Self::Adapter(_) => None,
            Self::Both(dropout) => Some(dropout.kept(x, width)),
            Self::Rest(dropout) => Some(dropout.rest(x, width)),
        }
    }

    /// The inputs that the adapter sees, where they are not all.
    pub(crate) fn of_adapter<E: Element>(self, x: &[E], width: usize) -> Option<Vec<E>> {
        match self {
            Self::Adapter(dropout) => Some(dropout.kept(x, width)),
            other => other.of_matrix(x, width),
        }
    }

    /// The gradient of inputs before anything was dropped, from that of the inputs seen.
    pub(crate) fn back(self, gradient: Vec<f32>, width: usize) -> Vec<f32> {
        self.of_adapter(&gradient, width).unwrap_or(gradient)
    }
}

multiversion! {
    fn draw(key: u64, below: u32, factor: f32, to: *mut f32, width: usize) = draw_body;
}
multiversion! {
    fn multiply<E: Element>(from: *const E, by: *const f32, to: *mut E, width: usize) = multiply_body;
}
multiversion! {
    fn subtract<E: Element>(from: *const E, by: *const f32, to: *mut E, width: usize) = subtract_body;
}

/// The finaliser of MurmurHash3 (Appleby) of each place: plain integers, which the compiler turns into vectors.
#[inline(always)]
unsafe fn draw_body<L: Lanes>(key: u64, below: u32, factor: f32, to: *mut f32, width: usize) {
    let (low, high) = (key as u32, (key >> 32) as u32);
    for place in 0..width {
        let mut hash = (place as u32).wrapping_add(low).wrapping_mul(0x9E37_79B9) ^ high;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
        hash ^= hash >> 16;
        // SAFETY: the caller's pointer holds `width` values.
        unsafe { *to.add(place) = if hash < below { 0.0 } else { factor } };
    }
}

#[inline(always)]
unsafe fn multiply_body<L: Lanes, E: Element>(from: *const E, by: *const f32, to: *mut E, width: usize) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // and no lane past them is touched.
        unsafe {
            let count = width - i;
            let product = L::mul(E::load::<L>(from.add(i), count), L::load_part(by.add(i), count));
            E::store::<L>(to.add(i), count, product);
        }
    }
}

#[inline(always)]
unsafe fn subtract_body<L: Lanes, E: Element>(from: *const E, by: *const f32, to: *mut E, width: usize) {
    for i in (0..width).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `width` values,
        // and no lane past them is touched.
        unsafe {
            let (count, to) = (width - i, to.add(i));
            let value = E::load::<L>(from.add(i), count);
            E::store::<L>(to, count, L::mul(value, L::load_part(by.add(i), count)));
            E::store::<L>(to, count, L::sub(value, E::load::<L>(to, count)));
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Shares of a binomial distribution lie within five of its deviations.
    fn near(found: f64, expected: f64, draws: usize) {
        let deviation = (expected * (1.0 - expected) / draws as f64).sqrt();
        assert!((found - expected).abs() <= 5.0 * deviation, "{found} is not {expected}");
    }

    #[test]
    fn places_are_dropped_independently_with_the_probability_asked_for() {
        let (rows, width) = (701, 577);
        for probability in [0.0, 0.05, 0.5, 0.9] {
            let dropped = |key: u64| -> Vec<bool> {
                Dropout::new(key, probability).mask(rows, width).iter().map(|factor| *factor == 0.0).collect()
            };
            let (own, other) = (dropped(7), dropped(8));
            let share = |pairs: &mut dyn Iterator<Item = bool>, expected: f64| {
                let pairs: Vec<bool> = pairs.collect();
                near(pairs.iter().filter(|both| **both).count() as f64 / pairs.len() as f64, expected, pairs.len());
            };
            share(&mut own.iter().copied(), probability);
            let both = probability * probability;
            for distance in [1, 2, 16, width, 2 * width, width + 1] {
                share(&mut own.iter().zip(&own[distance..]).map(|(a, b)| *a && *b), both);
            }
            share(&mut own.iter().zip(&other).map(|(a, b)| *a && *b), both);
        }
    }

    #[test]
    fn what_is_kept_and_the_rest_are_the_whole() {
        let (rows, width) = (67, 45);
        let values: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let dropout = Dropout::new(3, 0.25);
        let (kept, rest, mask) =
            (dropout.kept(&values, width), dropout.rest(&values, width), dropout.mask(rows, width));
        for (((value, kept), rest), mask) in values.iter().zip(&kept).zip(&rest).zip(&mask) {
            assert!(*mask == 0.0 || *mask == 1.0 / 0.75, "{mask}");
            assert!((kept - value * mask).abs() < 1e-6 && (kept + rest - value).abs() < 1e-6, "{value} {kept} {rest}");
        }
        assert!(dropout.kept(&values[..40 * width], width) == kept[..40 * width], "the number of rows changes a row");
        let half: Vec<bf16> = crate::convert(&values);
        let expected = half.iter().zip(&mask).map(|(value, mask)| bf16::from_f32(value.to_f32() * mask));
        let kept = dropout.kept(&half, width);
        assert!(kept.iter().copied().eq(expected));
        let rest = half.iter().zip(&kept).map(|(value, kept)| bf16::from_f32(value.to_f32() - kept.to_f32()));
        assert!(dropout.rest(&half, width).into_iter().eq(rest));
    }
}
