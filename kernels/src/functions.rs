//! Functions of vectors that several kernels share.

use crate::simd::Lanes;

/// 1 / (1 + e^-x)
#[inline(always)]
pub(crate) unsafe fn sigmoid<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe {
        let one = L::splat(1.0);
        L::div(one, L::add(one, L::exp(L::sub(L::splat(0.0), x))))
    }
}

/// `tanh x` to a few units in the last place, near zero too. NaN stays NaN.
///
/// `x` is cut into a part within 0.625, where a polynomial keeps every digit that `1 - 2 / (e^2x + 1)` would lose, and
/// the rest; `tanh (a + b) = (tanh a + tanh b) / (1 + tanh a tanh b)`.
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe {
        let (one, two) = (L::splat(1.0), L::splat(2.0));
        // Operands in this order give NaN back when `x` is NaN.
        let near = L::max(L::splat(-0.625), L::min(L::splat(0.625), x));
        let far = L::sub(x, near);
        let square = L::mul(near, near);
        // Coefficients of the Cephes library's tanhf.
        let mut p = L::splat(-5.704_988_7e-3);
        for coefficient in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
            p = L::fma(p, square, L::splat(coefficient));
        }
        let near = L::fma(L::mul(p, square), near, near);
        let far = L::sub(one, L::div(two, L::add(L::exp(L::mul(two, far)), one)));
        L::div(L::add(near, far), L::fma(near, far, one))
    }
}

/// `cap * tanh(x / cap)`, whose slope is [`cap_slope`] of its value.
#[inline(always)]
pub(crate) unsafe fn capped<L: Lanes>(x: L::V, cap: f32) -> L::V {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe { L::mul(tanh::<L>(L::mul(x, L::splat(1.0 / cap))), L::splat(cap)) }
}

/// The slope of [`capped`] where it has the value `c`: `1 - (c / cap)^2`, with `1 / cap` given; 1 where that is 0.
#[inline(always)]
pub(crate) unsafe fn cap_slope<L: Lanes>(c: L::V, reciprocal: f32) -> L::V {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe {
        let t = L::mul(c, L::splat(reciprocal));
        L::sub(L::splat(1.0), L::mul(t, t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::multiversion;

    multiversion! { fn apply(values: *mut f32, count: usize) = apply_body; }

    #[inline(always)]
    unsafe fn apply_body<L: Lanes>(values: *mut f32, count: usize) {
        for i in (0..count).step_by(L::WIDTH) {
            // SAFETY: inside of `multiversion!` the instruction set is there; the caller's pointers hold `count`
            // values, and no lane past them is touched.
            unsafe {
                let x = L::load_part(values.add(i), count - i);
                L::store_part(values.add(i), count - i, tanh::<L>(x));
            }
        }
    }

    #[test]
    fn tanh_keeps_its_digits_near_zero_and_its_bounds_far_from_it() {
        let sizes = [1e-30, 1e-7, 1e-3, 0.1, 0.3, 0.62, 0.63, 1.0, 2.5, 9.0, 20.0, 100.0, 1e30];
        let inputs: Vec<f32> = sizes.into_iter().flat_map(|x| [x, -x]).chain([0.0, f32::NAN]).collect();
        let mut found = inputs.clone();
        // SAFETY: the pointer and the count are those of one vector.
        unsafe { apply(found.as_mut_ptr(), found.len()) }
        for (x, found) in inputs.iter().zip(&found) {
            let expected = f64::from(*x).tanh();
            let near = (f64::from(*found) - expected).abs() <= 4e-7 * expected.abs();
            assert!(near || (x.is_nan() && found.is_nan()), "tanh {x} is not {found}");
        }
    }
}
