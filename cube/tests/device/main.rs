//! Every kernel on a device, held against its definition in f64: the first GPU, or with the feature `wgpu` the first device that
//! Vulkan has. The emulator runs them without a GPU (tools/emulator).

#![cfg(any(feature = "cuda", feature = "wgpu"))]

mod adamw;
#[cfg(feature = "cuda")]
mod attention;
mod codes;
mod columns;
mod cross_entropy;
mod gated;
mod rms_norm;
mod rotary;
mod testing;
