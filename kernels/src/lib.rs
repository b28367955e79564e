//! The hot loops of LoRA training on a CPU, forward and backward, over plain slices of f32 or bf16.
//!
//! Frozen weights are what makes this worth while: they are packed once, in the order in which the product reads them,
//! and need no gradient. Everything else is about few passes over memory: a function here does in one pass what a
//! composition of tensor operations does in five.
//!
//! Every result is the same whatever the number of threads: work is cut into pieces by shape alone, and each output
//! value is summed by one thread in one order.

mod adamw;
mod attention;
mod cross_entropy;
mod element;
mod norm;
mod packed;
mod parallel;
mod peak;
mod product;
mod projection;
mod simd;
mod swiglu;

pub use adamw::{AdamWStep, adamw, sum_of_squares};
pub use attention::{AttentionShape, attention, attention_backward};
pub use cross_entropy::{RowStatistics, logits_gradient, softmax_statistics};
pub use element::{Element, convert};
pub use half::bf16;
pub use norm::{rms_norm, rms_norm_backward};
pub use packed::{Packed, Precision};
pub use peak::peak_flops;
pub use product::{outer, product, product_transposed};
pub use projection::{Factors, Part, ProjectionGradients, project, project_backward};
pub use swiglu::{swiglu, swiglu_backward};
