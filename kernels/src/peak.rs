//! The largest arithmetic speed of this machine, which others are measured against.

use std::time::Instant;

use rayon::prelude::*;

use crate::simd::{Lanes, level, multiversion};

/// Operations per second that all threads reach together with operands in registers: fused multiply-adds of f32, or
/// bf16 dot products where the processor has them. The best of a few short tries.
pub fn peak_flops(bf16: bool) -> f64 {
    const TIMES: usize = 200_000;
    let tries = (0..5).map(|_| {
        let threads = rayon::current_num_threads();
        let started = Instant::now();
        // SAFETY: no memory is touched.
        let operations: f64 = (0..threads).into_par_iter().map(|_| unsafe { spin(TIMES, bf16) }).sum();
        operations / started.elapsed().as_secs_f64()
    });
    tries.fold(0.0, f64::max)
}

/// Sums that wait for nothing: more than a unit has steps.
const CHAINS: usize = 12;

unsafe fn spin(times: usize, bf16: bool) -> f64 {
    // SAFETY: the level says that these instructions are there, and nothing but registers is touched.
    unsafe {
        if bf16 && level().multiplies_pairs() {
            #[cfg(target_arch = "x86_64")]
            return x86::spin_pairs(times);
        }
        spin_f32(times)
    }
}

multiversion! { fn spin_f32(times: usize) -> f64 = body; }

#[inline(always)]
unsafe fn body<L: Lanes>(times: usize) -> f64 {
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe {
        let mut sums = [L::splat(1.0); CHAINS];
        let (a, b) = (L::splat(std::hint::black_box(0.999)), L::splat(std::hint::black_box(1e-3)));
        for _ in 0..times {
            for sum in &mut sums {
                *sum = L::fma(*sum, a, b);
            }
        }
        std::hint::black_box(sums.map(|sum| L::sum(sum)));
    }
    (times * CHAINS * L::WIDTH * 2) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::CHAINS;

    /// # Safety
    /// The processor multiplies pairs of bf16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn spin_pairs(times: usize) -> f64 {
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        // SAFETY: both are 512 bits.
        let pairs: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(std::hint::black_box(0x3f00_3f00))) };
        for _ in 0..times {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
            }
        }
        std::hint::black_box(sums);
        (times * CHAINS * 16 * 4) as f64
    }
}
