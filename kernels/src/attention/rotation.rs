//! Rotary encoding while heads are read and written: rotate-half layout (Su et al. 2021, arXiv 2104.09864).

use std::ops::Range;

use crate::element::Element;
use crate::simd::{Lanes, multiversion};

/// One head of queries, keys or values inside of the packed rows, and where its rows go.
pub(super) struct Rotation<'a> {
    pub(super) cosine: &'a [f32],
    pub(super) sine: &'a [f32],
    pub(super) half: usize,
    /// Values of a head behind those that are turned.
    pub(super) rest: usize,
}

/// Which way [`Rotation::rows`] turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Forward,
    Back,
    /// The values pass as they are.
    None,
}

impl Rotation<'_> {
    /// Copies rows, turned by their positions and scaled.
    ///
    /// # Safety
    /// `from` and `to` have as many rows as there are positions, of their strides; `to` is nobody else's.
    pub(super) unsafe fn rows<A: Element, B: Element>(
        &self,
        turn: Turn,
        scale: f32,
        positions: Range<usize>,
        (from, from_stride): (*const A, usize),
        (to, to_stride): (*mut B, usize),
    ) {
        for (row, position) in positions.enumerate() {
            // SAFETY: as the caller promises, of each row in turn.
            unsafe {
                let (from, to) = (from.add(row * from_stride), to.add(row * to_stride));
                let sign = match turn {
                    Turn::Forward => 1.0,
                    Turn::Back => -1.0,
                    Turn::None => 0.0,
                };
                let table = position * self.half;
                let (cosine, sine) = (self.cosine[table..].as_ptr(), self.sine[table..].as_ptr());
                rotate(from, to, cosine, sine, self.half, self.rest, sign, scale);
            }
        }
    }
}

multiversion! {
    fn rotate<A: Element, B: Element>(
        from: *const A, to: *mut B, cosine: *const f32, sine: *const f32, half: usize, rest: usize, sign: f32, scale: f32,
    ) = rotate_body;
}

/// A `sign` of 0 does not turn.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as `multiversion!` takes them")]
unsafe fn rotate_body<L: Lanes, A: Element, B: Element>(
    from: *const A,
    to: *mut B,
    cosine: *const f32,
    sine: *const f32,
    half: usize,
    rest: usize,
    sign: f32,
    scale: f32,
) {
    for i in (0..half).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold a row: two
        // halves and the rest, and no lane past them is touched.
        unsafe {
            let left = half - i;
            let (first, second) = (A::load::<L>(from.add(i), left), A::load::<L>(from.add(half + i), left));
            let (mut a, mut b) = (first, second);
            if sign != 0.0 {
                let cosine = L::load_part(cosine.add(i), left);
                let sine = L::mul(L::load_part(sine.add(i), left), L::splat(sign));
                a = L::sub(L::mul(first, cosine), L::mul(second, sine));
                b = L::fma(first, sine, L::mul(second, cosine));
            }
            B::store::<L>(to.add(i), left, L::mul(a, L::splat(scale)));
            B::store::<L>(to.add(half + i), left, L::mul(b, L::splat(scale)));
        }
    }
    for i in (0..rest).step_by(L::WIDTH) {
        // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold a row: two
        // halves and the rest, and no lane past them is touched.
        unsafe {
            let place = 2 * half + i;
            let passed = A::load::<L>(from.add(place), rest - i);
            B::store::<L>(to.add(place), rest - i, L::mul(passed, L::splat(scale)));
        }
    }
}
