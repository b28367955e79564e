//! Whether burn's native causal attention, forward and back, can be believed on a device.
//!
//! It keeps no scores, which a composed one does, and is what a long row on a GPU needs. On one device that it could be run
//! on (0.23.0-pre.1, Vulkan on the processor) its gradients of keys and values were wrong by as much as themselves
//! (docs/performance.md). So it is tried before it is used, against the composed way on the same device: once for each
//! shape for which burn chooses kernels anew.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Int, Tensor};

/// The sizes by which burn chooses its attention kernel, beside device and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the batch.
    pub rows: usize,
    /// Positions of a row.
    pub positions: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`.
    pub key_heads: usize,
    /// Values of a head.
    pub width: usize,
}

/// True where the native output and gradients are those of the composed attention, to the rounding of `dtype`. False on the
/// CPU, which has no native ones. The first question about sizes takes as long as their kernels take to be compiled.
pub fn is_right(device: &Device, dtype: DType, sizes: Sizes) -> bool {
    static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    if crate::device::is_cpu(device) {
        return false;
    }
    // Kernels are chosen anew where one of these doubles.
    let anchors = [sizes.rows, sizes.positions].map(usize::next_power_of_two);
    let key = format!("{device:?} {dtype:?} {anchors:?} {} {} {}", sizes.heads, sizes.key_heads, sizes.width);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.get_or_insert_default().entry(key).or_insert_with(|| {
        // Kernels that decline these sizes do so by a panic.
        let tried = std::panic::catch_unwind(AssertUnwindSafe(|| largest_error(device, dtype, sizes)));
        let error = tried.unwrap_or(f32::NAN);
        // A few roundings of the type, where f32 may be multiplied as TF32; NaN is above it, too.
        let right = error <= if dtype == DType::F32 { 5e-3 } else { 3e-2 };
        if !right {
            tracing::warn!(
                "the native attention of this device is wrong (relative error {error:.2e}): it is composed instead, and \
                 keeps scores"
            );
        }
        right
    })
}

/// The largest relative error of output and gradients, in the norm, of the first and the last heads: composed, all of them
/// together might not fit.
fn largest_error(device: &Device, dtype: DType, sizes: Sizes) -> f32 {
    let Sizes { rows, positions, heads, key_heads, width } = sizes;
    let numbers = |count: usize, seed: f32| -> Tensor<4> {
        let values = rows * count * positions * width;
        let places = Tensor::<1, Int>::arange(0..values as i64, device).float().cast(DType::F32);
        // The inputs of both are rounded alike, so that what differs is the arithmetic.
        let waves = places.mul_scalar(0.7).remainder_scalar(std::f32::consts::TAU).add_scalar(seed).sin();
        // As a projection leaves heads, and as the model hands them on.
        waves.reshape([rows, positions, count, width]).cast(dtype).swap_dims(1, 2)
    };
    let inputs = [numbers(heads, 0.0), numbers(key_heads, 0.4), numbers(key_heads, 0.8), numbers(heads, 1.2)];
    let native = attend(inputs.clone(), None);
    let group = heads / key_heads;
    let hides_nothing = Tensor::<4, Bool>::zeros([1, 1, positions, positions], device);
    let hides_nothing = hides_nothing.expand([1, group, positions, positions]);
    let mut largest = 0.0;
    for (row, key_head) in [(0, 0), (rows - 1, key_heads - 1)] {
        let cut = |tensor: &Tensor<4>| {
            let count = if tensor.dims()[1] == heads { group } else { 1 };
            tensor.clone().narrow(0, row, 1).narrow(1, key_head * count, count).cast(DType::F32)
        };
        let composed = attend(inputs.each_ref().map(cut), Some(hides_nothing.clone()));
        for (native, composed) in native.iter().map(cut).zip(composed) {
            let norm = |x: Tensor<4>| crate::values(x.powi_scalar(2).sum())[0].sqrt();
            let error = norm(native - composed.clone()) / norm(composed);
            // Not `f32::max`, which passes over a NaN.
            largest = if error <= largest { largest } else { error };
        }
    }
    largest
}

/// The output and the gradients of queries, keys and values, given these and the gradient of the output. With a mask,
/// attention is composed.
fn attend([queries, keys, values, gradient]: [Tensor<4>; 4], mask: Option<Tensor<4, Bool>>) -> [Tensor<4>; 4] {
    let leaves = [queries, keys, values].map(|tensor| tensor.autodiff().require_grad());
    let [queries, keys, values] = leaves.clone();
    let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
    let attended = attention(queries, keys, values, mask.map(Tensor::autodiff), None, options);
    let mut found = (attended.clone() * gradient.autodiff()).sum().backward();
    let [queries, keys, values] = leaves.map(|leaf| leaf.grad_remove(&mut found).expect("a gradient of each leaf"));
    [attended.inner(), queries, keys, values]
}
