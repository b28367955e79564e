//! How fast a device is.

use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use kernels::Packed;

use super::is_packed;
use super::matrix::precision;
use crate::device::is_cpu;

/// Floating-point operations per second of a matrix product on this device, of the kind that a step is made of.
pub fn measured_flops(device: &Device, dtype: DType, trained: bool) -> f64 {
    let size = 512;
    let product: Box<dyn Fn()> = if is_packed(device, trained) {
        let values = vec![1.0; size * size];
        let packed = Packed::new(&values, [size, size], (size, 1), 1.0, precision(dtype));
        Box::new(move || drop(kernels::product::<f32, f32>(&values, size, &packed)))
    } else {
        let random = || Tensor::<2>::random([size, size], Distribution::Default, (device, dtype));
        let (a, b) = (random(), random());
        Box::new(move || {
            a.clone().matmul(b.clone()).sum().into_scalar::<f32>();
        })
    };
    product();
    let started = Instant::now();
    let times = 4;
    for _ in 0..times {
        product();
    }
    (times * 2 * size * size * size) as f64 / started.elapsed().as_secs_f64().max(1e-9)
}

/// The most floating-point operations per second that the CPU has, just measured; `None` of a GPU.
pub fn peak_flops(device: &Device, dtype: DType) -> Option<f64> {
    is_cpu(device).then(|| kernels::peak_flops(dtype == DType::BF16))
}
