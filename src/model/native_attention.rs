//! Whether burn's native way back through causal attention can be believed on a device.
//!
//! It keeps no scores, which a composed one does, and is what a long row on a GPU needs. On one device that it could be run
//! on (0.23.0-pre.1, Vulkan on the processor) its gradients of keys and values were wrong by as much as themselves
//! (docs/performance.md). So it is tried before it is used: once for each shape of heads, against the composed way on
//! the same device.

use std::collections::HashMap;
use std::sync::Mutex;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

/// What a trial depends on beside the device: the kernels are chosen by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Those of the queries.
    pub queries: usize,
    /// Those of keys and values.
    pub keys: usize,
    /// Values of each.
    pub width: usize,
    /// What the products are multiplied with; `None` for `1 / sqrt(width)`.
    pub scale: Option<f64>,
}

/// Rows and positions of a trial: more than one tile of any kernel, and the last tile cut.
const ROWS: usize = 2;
const POSITIONS: usize = 200;

/// True where the native gradients are those of the composed attention, to the rounding of `dtype`. False on the CPU, which
/// has no native ones. The first question about a shape takes as long as its kernels take to be compiled.
pub fn is_right(device: &Device, dtype: DType, heads: Heads) -> bool {
    static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    if crate::device::is_cpu(device) {
        return false;
    }
    let key = format!("{device:?} {dtype:?} {heads:?}");
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.get_or_insert_default().entry(key).or_insert_with(|| {
        let error = largest_error(device, dtype, heads);
        // A few roundings of the type, where f32 may be multiplied as TF32; NaN is above it, too.
        let right = error <= if dtype == DType::F32 { 5e-3 } else { 3e-2 };
        if !right {
            tracing::warn!(
                "the native attention of this device gives wrong gradients (relative error {error:.2e}): it is composed \
                 instead, and keeps scores that the estimate of memory does not count"
            );
        }
        right
    })
}

/// The largest relative error of the three gradients, in the norm.
fn largest_error(device: &Device, dtype: DType, heads: Heads) -> f32 {
    let hides_nothing = Tensor::<4, Bool>::zeros([1, 1, POSITIONS, POSITIONS], device);
    let hides_nothing = hides_nothing.expand([ROWS, heads.queries, POSITIONS, POSITIONS]);
    let native = gradients(device, dtype, heads, None);
    let composed = gradients(device, DType::F32, heads, Some(hides_nothing));
    let errors = native.into_iter().zip(composed).map(|(native, composed)| {
        let norm = |x: Tensor<4>| x.powi_scalar(2).sum().sqrt().into_data().iter::<f32>().next().unwrap_or(f32::NAN);
        norm(native - composed.clone()) / norm(composed)
    });
    // Not `f32::max`, which passes over a NaN.
    errors.fold(0.0, |largest, error| if error <= largest { largest } else { error })
}

/// Those of queries, keys and values, in f32, where all numbers were rounded to `rounded` first. With a mask, attention
/// is composed, in f32.
fn gradients(device: &Device, rounded: DType, heads: Heads, mask: Option<Tensor<4, Bool>>) -> [Tensor<4>; 3] {
    let dtype = if mask.is_some() { DType::F32 } else { rounded };
    let numbers = |heads: usize, width: usize, seed: f32| {
        let shape = [ROWS, heads, POSITIONS, width];
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 0.7 + seed).sin()).collect();
        Tensor::<4>::from_data(TensorData::new(values, shape), device).cast(rounded).cast(dtype).autodiff()
    };
    let leaves = [(heads.queries, 0.0), (heads.keys, 0.4), (heads.keys, 0.8)]
        .map(|(count, seed)| numbers(count, heads.width, seed).require_grad());
    let [queries, keys, values] = leaves.clone();
    let options = AttentionModuleOptions { scale: heads.scale, is_causal: true, ..Default::default() };
    let output = attention(queries, keys, values, mask, None, options);
    let mut found = (output * numbers(heads.queries, heads.width, 1.2)).sum().backward();
    leaves.map(|leaf| match leaf.grad_remove(&mut found) {
        Some(gradient) => gradient.cast(DType::F32),
        None => Tensor::full(leaf.dims(), f32::NAN, device),
    })
}
