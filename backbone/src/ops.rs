//! The operations that the model is made of, one file each: those of its forms that pay (for the CPU, for a GPU), the
//! composition of burn's operations that they are held against, and the choice between them.
//!
//! A form of our own is one pass over memory where a composition takes five. Nothing outside of here (and of `device`) asks
//! which device it is on. `cpu` and `gpu` are where the forms meet burn's tensors and its graph.

mod adamw;
mod attention;
mod checksum;
mod codes;
mod columns;
mod cpu;
mod dropout;
mod gated;
#[cfg(feature = "gpu")]
mod gpu;
mod head;
mod matrix;
mod norm;
mod projection;
mod rotary;
mod speed;
#[cfg(test)]
mod testing;

use burn::tensor::Device;

pub use adamw::{AdamW, Moments, adamw};
pub use attention::{AttentionHeads, attend, attention, attention_bytes, keeps_no_scores, native_is_right};
pub use checksum::checksum;
pub use codes::{Codes, PIECE};
pub use columns::{columns_bytes, scale_columns, times_gain};
pub use dropout::dropout_mask;
pub use gated::{Activation, gated, gated_bytes};
#[cfg(feature = "gpu")]
pub use head::on_gpu::{logits_gradient, softmax_statistics};
pub use head::{Asked, Chunk, Head, HeadGradients, HeadInputs, Pull, chunk_bytes, chunk_rows};
pub(crate) use matrix::on_side_of;
pub use matrix::{Matrix, is_packed};
pub use norm::{norm, norm_bytes};
pub use projection::{
    Projected, Projection, low_rank_bytes, project, project_apart, project_bytes, project_onto, project_together,
};
pub use rotary::rotate;
pub use speed::{measured_flops, peak_flops};

/// The settings on which the activations kept for the backward pass depend.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// Bytes of a value between products.
    pub size: u64,
    /// Frozen matrices are packed, so that kernels of the CPU run in place of burn's operations.
    pub is_packed: bool,
    /// Inputs of adapters are dropped.
    pub drops: bool,
}

/// The implementation of an operation that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// On the CPU, by the crate `kernels`.
    Cpu,
    /// On a GPU, by the crate `cube`.
    #[cfg(feature = "gpu")]
    Gpu,
    /// Composed of burn's operations.
    Composed,
}

impl Form {
    /// The form of a device, for an operation that has one for each.
    pub(crate) fn on(device: &Device) -> Self {
        match crate::device::is_cpu(device) {
            true => Self::Cpu,
            #[cfg(feature = "gpu")]
            false if !gpu::composed() => Self::Gpu,
            false => Self::Composed,
        }
    }
}
