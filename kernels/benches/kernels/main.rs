//! Each hot function beside the naive version of it, at the shapes of SmolLM2-135M with 4 x 256 tokens.
//!
//! `cargo bench -p kernels`; the column `fastest` is the one to read on a machine that others use too. A naive version is
//! the loop over f32 on one thread that one would write first, or the plain sequence of passes that a composition of
//! tensor operations is. It computes what the function beside it computes, and each is held against the other before it
//! is timed.

mod attention;
mod codes;
mod head;
mod naive;
mod passes;
mod products;

use kernels::bf16;

fn main() {
    divan::main();
}

/// Tokens of a step.
const ROWS: usize = 1024;
const HIDDEN: usize = 576;
const INNER: usize = 1536;
const RANK: usize = 16;

/// Numbers between -1 and 1 without an order, the same in every run.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let draw = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(draw).collect()
}

fn halved(values: &[f32]) -> Vec<bf16> {
    kernels::convert(values)
}

/// Items of a throughput: floating-point operations where nothing else is said.
fn operations(count: usize) -> divan::counter::ItemsCount {
    divan::counter::ItemsCount::new(count)
}

/// The naive version computes what the function beside it does, up to its rounding: the largest difference is a
/// thousandth of the largest value or less.
fn assert_same(found: &[f32], naive: &[f32]) {
    assert_eq!(found.len(), naive.len(), "of one shape");
    let largest = naive.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let difference = found.iter().zip(naive).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
    assert!(difference <= 1e-3 * largest, "{difference} of {largest}");
}
