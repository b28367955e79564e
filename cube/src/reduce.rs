//! Sums and maxima over the units of a cube, always in the same order.

use cubecl::prelude::*;

/// How two values become one.
#[cube]
pub(crate) trait Join {
    fn join(a: f32, b: f32) -> f32;
}

pub(crate) struct Sum;
pub(crate) struct Largest;

#[cube]
impl Join for Sum {
    fn join(a: f32, b: f32) -> f32 {
        a + b
    }
}

#[cube]
impl Join for Largest {
    fn join(a: f32, b: f32) -> f32 {
        max(a, b)
    }
}

/// Every unit's value joined, given to all of them. The units are a power of two; `shared` has a place for each and may be
/// used again afterwards.
#[cube]
pub(crate) fn over_cube<J: Join>(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let distance = comptime!(units >> (step + 1));
        if unit < distance {
            shared[unit] = J::join(shared[unit], shared[unit + distance]);
        }
        sync_cube();
    }
    let all = shared[0];
    sync_cube();
    all
}
