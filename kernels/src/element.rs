//! The two types that activations are kept in.

use half::bf16;
use rayon::prelude::*;

use crate::parallel::Build;
use crate::simd::{Lanes, multiversion};

/// f32 or bf16. Arithmetic is always done in f32.
pub trait Element: Copy + Send + Sync + 'static + sealed::Memory {}

impl Element for f32 {}
impl Element for bf16 {}

pub(crate) mod sealed {
    use half::bf16;

    use crate::simd::Lanes;

    /// How values come from and go to memory.
    pub trait Memory: Sized {
        /// True for bf16.
        const IS_BF16: bool;

        /// The first `count` lanes, zero in the rest.
        ///
        /// # Safety
        /// As for all methods of [`Lanes`].
        unsafe fn load<L: Lanes>(from: *const Self, count: usize) -> L::V;

        /// # Safety
        /// As for all methods of [`Lanes`].
        unsafe fn store<L: Lanes>(to: *mut Self, count: usize, v: L::V);
    }

    impl Memory for f32 {
        const IS_BF16: bool = false;
        #[inline(always)]
        unsafe fn load<L: Lanes>(from: *const Self, count: usize) -> L::V {
            // SAFETY: as the caller promises.
            unsafe { L::load_part(from, count) }
        }
        #[inline(always)]
        unsafe fn store<L: Lanes>(to: *mut Self, count: usize, v: L::V) {
            // SAFETY: as the caller promises.
            unsafe { L::store_part(to, count, v) }
        }
    }

    impl Memory for bf16 {
        const IS_BF16: bool = true;
        #[inline(always)]
        unsafe fn load<L: Lanes>(from: *const Self, count: usize) -> L::V {
            // SAFETY: as the caller promises; a bf16 is two bytes.
            unsafe { L::load_bf16_part(from.cast(), count) }
        }
        #[inline(always)]
        unsafe fn store<L: Lanes>(to: *mut Self, count: usize, v: L::V) {
            // SAFETY: as the caller promises; a bf16 is two bytes.
            unsafe { L::store_bf16_part(to.cast(), count, v) }
        }
    }
}

/// Converts values to another type, rounded to nearest.
pub fn convert<A: Element, B: Element>(values: &[A]) -> Vec<B> {
    const PIECE: usize = 1 << 14;
    let build = Build::new(values.len());
    values.par_chunks(PIECE).enumerate().for_each(|(index, piece)| {
        // SAFETY: pieces are disjoint, and `build` has as many places as there are values.
        unsafe { convert_piece(piece.as_ptr(), build.at(index * PIECE), piece.len()) }
    });
    // SAFETY: every value was written.
    unsafe { build.finish() }
}

multiversion! { pub(crate) fn convert_piece<A: Element, B: Element>(from: *const A, to: *mut B, count: usize) = body; }

#[inline(always)]
unsafe fn body<L: Lanes, A: Element, B: Element>(from: *const A, to: *mut B, count: usize) {
    for i in (0..count).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count` values,
        // and no lane past them is touched.
        unsafe { B::store::<L>(to.add(i), count - i, A::load::<L>(from.add(i), count - i)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_rounds_as_the_half_crate_does() {
        let values: Vec<f32> = (0..1003).map(|i| (i as f32 * 0.37).sin() * 1e3).collect();
        let found: Vec<bf16> = convert(&values);
        let expected: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
        assert_eq!(found, expected);
        let back: Vec<f32> = convert(&found);
        assert!(back.iter().zip(&expected).all(|(a, b)| *a == b.to_f32()));
    }
}
