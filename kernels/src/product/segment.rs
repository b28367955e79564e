//! What a product sums: pairs of factors, and how their values become the words that register tiles read.
//!
//! A word is an f32, or a pair of neighbouring bf16 where the processor multiplies these. Where it does not, bf16 is
//! storage: its values are widened on their way into the caches, once for many rows or columns.

use half::bf16;

use super::tile::FEW_ROWS;
use crate::element::convert_piece;
use crate::packed::STRIP;
use crate::simd::{Lanes, multiversion};

/// One pair of factors.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) left: LeftSide,
    pub(crate) right: RightSide,
    /// Words of the inner dimension.
    pub(crate) steps: usize,
    /// Whether words are pairs of bf16.
    pub(crate) pairs: bool,
}

/// Where the left side lies.
#[derive(Clone, Copy)]
pub(crate) enum LeftSide {
    /// Words of a row side by side; from one row to the next.
    Rows(*const u32, usize),
    /// bf16 of a row side by side, which are multiplied as f32.
    Halves(*const bf16, usize),
    /// f32 of one step side by side, a row each; from one step to the next.
    Steps(*const f32, usize),
}

/// Where the right side lies.
#[derive(Clone, Copy)]
pub(crate) enum RightSide {
    /// Words of a packed matrix; from one strip to the next.
    Strips(*const u32, usize),
    /// Pairs of bf16 of a packed matrix, which are multiplied as f32; from one strip to the next.
    PairStrips(*const u32, usize),
    /// f32 of one step side by side, a column each; from one step to the next.
    Rows(*const f32, usize),
    /// The same of bf16.
    Halves(*const bf16, usize),
}

// SAFETY: segments are only read through.
unsafe impl Sync for Segment {}
// SAFETY: as above.
unsafe impl Send for Segment {}

impl LeftSide {
    /// Copies the words `steps` of a row.
    ///
    /// # Safety
    /// Row and steps lie inside of the factor, and there is room for as many words.
    pub(super) unsafe fn copy(self, row: usize, steps: std::ops::Range<usize>, to: *mut u32) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                // bf16 may lie at odd places of its words.
                Self::Rows(words, stride) => {
                    let from = words.add(row * stride + steps.start).cast::<u8>();
                    std::ptr::copy_nonoverlapping(from, to.cast(), steps.len() * 4);
                }
                Self::Halves(values, stride) => {
                    convert_piece(values.add(row * stride + steps.start), to.cast::<f32>(), steps.len());
                }
                Self::Steps(..) => unreachable!("a left side by steps is read where it lies"),
            }
        }
    }
}

impl RightSide {
    /// Words of a strip of a packed matrix; 0 of another.
    pub(super) fn strip_words(self) -> usize {
        match self {
            Self::Strips(_, stride) | Self::PairStrips(_, stride) => stride,
            Self::Rows(..) | Self::Halves(..) => 0,
        }
    }

    /// This segment in another packing of the same matrix.
    pub(super) fn packed_again(self, words: *const u32) -> Self {
        match self {
            Self::Strips(_, stride) => Self::Strips(words, stride),
            Self::PairStrips(_, stride) => Self::PairStrips(words, stride),
            Self::Rows(..) | Self::Halves(..) => unreachable!("only packed matrices have codes"),
        }
    }

    /// Where the words from `step` and `column` on lie, and from one step to the next, if two vectors, of which `columns`
    /// count, can be read there, and a copy in the first-level cache would not pay for as many rows.
    pub(super) fn in_place(
        self,
        step: usize,
        column: usize,
        columns: usize,
        (width, rows): (usize, usize),
    ) -> Option<(*const u32, usize)> {
        /// Floats between two steps whose cache lines meet in few sets of a cache.
        const CROWDED: usize = 256;
        match self {
            // Strips that are as wide as two vectors are read in order, others skip half of each.
            Self::Strips(words, stride) if width == STRIP || rows <= 3 * FEW_ROWS => {
                let offset = column / STRIP * stride + step * STRIP + column % STRIP;
                Some((words.wrapping_add(offset), STRIP))
            }
            Self::Rows(values, stride) if columns == width && rows <= 3 * FEW_ROWS && stride % CROWDED != 0 => {
                Some((values.wrapping_add(step * stride + column).cast(), stride))
            }
            _ => None,
        }
    }

    /// Copies the words of `steps` and of two vectors of columns from `column` on, of which `columns` count.
    ///
    /// # Safety
    /// Steps and columns lie inside of the factor, and there is room for two vectors a step.
    pub(super) unsafe fn copy(self, steps: std::ops::Range<usize>, column: usize, columns: usize, to: *mut u32) {
        let strip = |words: *const u32, stride: usize, step: usize| {
            words.wrapping_add(column / STRIP * stride + step * STRIP + column % STRIP)
        };
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Strips(words, stride) => {
                    let from = strip(words, stride, steps.start).cast::<f32>();
                    copy_words(from, STRIP, to.cast(), steps.len(), usize::MAX);
                }
                Self::PairStrips(words, stride) => {
                    let from = strip(words, stride, steps.start / 2);
                    widen_pairs(from, steps.start % 2, to.cast(), steps.len());
                }
                Self::Rows(values, stride) => {
                    copy_words(values.add(steps.start * stride + column), stride, to.cast(), steps.len(), columns);
                }
                Self::Halves(values, stride) => {
                    widen(values.add(steps.start * stride + column), stride, to.cast(), steps.len(), columns);
                }
            }
        }
    }
}

multiversion! {
    fn copy_words(from: *const f32, stride: usize, to: *mut f32, steps: usize, columns: usize) = copy_words_body;
}
multiversion! {
    fn widen(from: *const bf16, stride: usize, to: *mut f32, steps: usize, columns: usize) = widen_body;
}
multiversion! { fn widen_pairs(from: *const u32, odd: usize, to: *mut f32, steps: usize) = widen_pairs_body; }

#[inline(always)]
unsafe fn copy_words_body<L: Lanes>(from: *const f32, stride: usize, to: *mut f32, steps: usize, columns: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if columns >= 2 * L::WIDTH {
            for step in 0..steps {
                let (from, to) = (from.add(step * stride), to.add(step * 2 * L::WIDTH));
                L::store(to, L::load(from));
                L::store(to.add(L::WIDTH), L::load(from.add(L::WIDTH)));
            }
            return;
        }
        for step in 0..steps {
            let (from, to) = (from.add(step * stride), to.add(step * 2 * L::WIDTH));
            L::store(to, L::load_part(from, columns));
            let rest = columns.saturating_sub(L::WIDTH);
            L::store(to.add(L::WIDTH), L::load_part(from.wrapping_add(L::WIDTH), rest));
        }
    }
}

#[inline(always)]
unsafe fn widen_body<L: Lanes>(from: *const bf16, stride: usize, to: *mut f32, steps: usize, columns: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        for step in 0..steps {
            let (from, to) = (from.add(step * stride).cast::<u16>(), to.add(step * 2 * L::WIDTH));
            L::store(to, L::load_bf16_part(from, columns));
            let rest = columns.saturating_sub(L::WIDTH);
            L::store(to.add(L::WIDTH), L::load_bf16_part(from.wrapping_add(L::WIDTH), rest));
        }
    }
}

/// Of pairs from `from` on, the first one's second value first where `odd` is 1.
#[inline(always)]
unsafe fn widen_pairs_body<L: Lanes>(from: *const u32, odd: usize, to: *mut f32, steps: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        for vector in 0..2 {
            let (from, to) = (from.add(vector * L::WIDTH), to.add(vector * L::WIDTH));
            if odd == 1 && steps > 0 {
                L::store(to, L::widen_pairs(from).1);
            }
            let (from, to) = (from.add(odd * STRIP), to.wrapping_add(odd * 2 * L::WIDTH));
            let left = steps.saturating_sub(odd);
            for pair in 0..left / 2 {
                let (low, high) = L::widen_pairs(from.add(pair * STRIP));
                L::store(to.add(4 * pair * L::WIDTH), low);
                L::store(to.add((4 * pair + 2) * L::WIDTH), high);
            }
            if left % 2 == 1 {
                L::store(to.add(2 * (left - 1) * L::WIDTH), L::widen_pairs(from.add(left / 2 * STRIP)).0);
            }
        }
    }
}
