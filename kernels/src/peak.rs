//! The largest arithmetic speed of this machine, which others are measured against.

use std::time::Instant;

use rayon::prelude::*;

use crate::simd::{Lanes, multiversion};

/// Operations per second that all threads reach together with operands in registers: fused multiply-adds of f32, or
/// bf16 dot products. The best of a few short tries.
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

multiversion! { fn spin(times: usize, bf16: bool) -> f64 = body; }

#[inline(always)]
unsafe fn body<L: Lanes>(times: usize, bf16: bool) -> f64 {
    const CHAINS: usize = 12;
    // SAFETY: inside of `multiversion!` the instruction set is there, and nothing but registers is touched.
    unsafe {
        let mut sums = [L::splat(1.0); CHAINS];
        let (a, b) = (L::splat(std::hint::black_box(0.999)), L::splat(std::hint::black_box(1e-3)));
        let pairs = L::splat_pair(std::hint::black_box(0x3f00_3f00));
        for _ in 0..times {
            for sum in &mut sums {
                *sum = if bf16 { L::dot(pairs, pairs, *sum) } else { L::fma(*sum, a, b) };
            }
        }
        std::hint::black_box(sums.map(|sum| L::sum(sum)));
    }
    (times * CHAINS * L::WIDTH * if bf16 { 4 } else { 2 }) as f64
}
