//! Of burn's operations: every device, every kind of matrix that is not packed.

use burn::tensor::Tensor;

use super::Projection;
use crate::ops::columns::times_gain;
use crate::ops::matrix::{Unpacked, on_side_of};

pub(super) fn project(projection: Projection, weight: &Unpacked, x: Tensor<2>) -> Tensor<2> {
    let y = weight.product(x.clone());
    let dtype = y.dtype();
    let with_bias = |y: Tensor<2>| match projection.bias {
        Some(bias) => y + on_side_of(&x, bias).unsqueeze(),
        None => y,
    };
    let Some(lora) = projection.lora else { return with_bias(y) };
    let (a, b) = (lora.a(&x).cast(dtype), lora.b(&x).cast(dtype));
    let x = x.clone().cast(dtype);
    let mask = lora.mask(projection.name, &x, projection.dropout_seed);
    let dropped = mask.clone().map_or_else(|| x.clone(), |mask| x.clone() * mask);
    let low = dropped.clone().matmul(a.transpose()).matmul(b.transpose()).mul_scalar(lora.scale());
    if !projection.is_scaled() {
        return with_bias(y) + low;
    }
    let gain = projection.gain(&x);
    with_bias(match mask {
        // As PEFT: the rows' new lengths act on what is dropped too, on top of the plain product.
        Some(_) => y + times_gain(weight.product(dropped), gain.clone() - 1.0) + times_gain(low, gain),
        None => times_gain(y + low, gain),
    })
}
