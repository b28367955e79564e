//! Sums and maxima over the units of a cube, always in the same order.

use cubecl::prelude::*;

/// The sum of every unit's value, given to all of them. The units are a power of two; `shared` has a place for each and may
/// be used again afterwards.
#[cube]
pub(crate) fn cube_sum(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let distance = comptime!(units >> (step + 1));
        if unit < distance {
            let other = shared[unit + distance];
            shared[unit] += other;
        }
        sync_cube();
    }
    let total = shared[0];
    sync_cube();
    total
}

/// As [`cube_sum`], the largest.
#[cube]
pub(crate) fn cube_max(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let distance = comptime!(units >> (step + 1));
        if unit < distance {
            let other = shared[unit + distance];
            shared[unit] = max(shared[unit], other);
        }
        sync_cube();
    }
    let largest = shared[0];
    sync_cube();
    largest
}
