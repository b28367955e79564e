//! The hot loops of a training step as CubeCL kernels: what `kernels` is for the CPU, for every device that CubeCL
//! compiles for.
//!
//! The functions here launch kernels on plain buffers and know no tensor library. All numbers are contiguous; storage is
//! f32 or a half type, arithmetic is f32. Nothing waits for the device.

#![cfg(feature = "device")]

mod adamw;
#[cfg(feature = "cuda")]
mod attention;
mod codes;
mod columns;
#[cfg(feature = "cuda")]
mod compiled;
mod cross_entropy;
mod gated;
#[cfg(feature = "cuda")]
mod on_stream;
mod reduce;
mod rms_norm;
mod rotary;

use cubecl::client::Client;
use cubecl::ir::{AddressType, ElemType};
use cubecl::prelude::{BufferArg, CubeCount, CubeDim, VectorSize};
use cubecl::server::Handle;

pub use adamw::{AdamWBuffers, AdamWStep, adamw};
#[cfg(feature = "cuda")]
pub use attention::{
    Attention, AttentionForward, AttentionGradients, Heads, attention, attention_backward, attention_fits, seen,
};
pub use codes::{Coded, Rows, dequantise};
pub use columns::{scale_columns, scale_columns_backward};
pub use cross_entropy::{Statistics, logits_gradient, softmax_statistics};
pub use gated::{Activation, gated, gated_backward};
pub use rms_norm::{rms_norm, rms_norm_backward, rms_norm_weight_backward};
pub use rotary::{Layout, rotate};

/// Contiguous numbers on a device.
#[derive(Clone)]
pub struct Buffer {
    /// Where they are.
    pub handle: Handle,
    /// How many.
    pub length: usize,
    /// Of what type.
    pub element: ElemType,
}

impl Buffer {
    /// Room for `length` numbers of a type.
    pub fn empty(client: &Client, length: usize, element: ElemType) -> Self {
        Self { handle: client.empty(length * element.size()), length, element }
    }

    /// Bytes from the beginning of its memory, which is aligned for every vector.
    fn offset(&self) -> usize {
        self.handle.offset_start.unwrap_or(0) as usize
    }

    fn argument(&self) -> BufferArg {
        // In a kernel, `len()` is what the memory has room for, whatever length is said here; and CUDA's memory goes on behind
        // the numbers, filled up to whole rows. So what is behind them is cut off.
        let used = (self.length * self.element.size()) as u64;
        let behind = self.handle.size_in_used().checked_sub(used).expect("room for every number");
        // SAFETY: every function here checks the lengths it is given against each other before it launches.
        unsafe { BufferArg::from_raw_parts(self.handle.clone().offset_end(behind), self.length) }
    }
}

/// Units of a cube that reduces a row, unless the row is short.
const UNITS: usize = 256;

/// Cubes in the first dimension of a launch: less than any device's limit.
const CUBES: usize = 1 << 15;

/// A cube a row.
fn rows(count: usize) -> CubeCount {
    CubeCount::Static(count.min(CUBES) as u32, count.div_ceil(CUBES) as u32, 1)
}

/// Units for a row of so many vectors: a power of two, as the reductions need.
fn units(client: &Client, vectors: usize) -> usize {
    let most = client.properties().hardware.max_units_per_cube as usize;
    let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
    vectors.next_power_of_two().clamp(32, UNITS).min(most)
}

/// The cubes for one unit a vector, and their size.
fn elementwise(client: &Client, vectors: usize) -> (CubeCount, CubeDim) {
    let units = units(client, UNITS);
    (rows(vectors.div_ceil(units)), CubeDim::new_1d(units as u32))
}

/// How many numbers are read at once: 16 bytes of f32, where the row's width and the places of the buffers allow it.
fn lanes(client: &Client, width: usize, buffers: &[&Buffer]) -> VectorSize {
    let sizes = client.io_optimized_vector_sizes(size_of::<f32>());
    let aligned =
        |size: usize| buffers.iter().all(|buffer| buffer.offset().is_multiple_of(size * buffer.element.size()));
    sizes.filter(|size| width.is_multiple_of(*size) && aligned(*size)).max().unwrap_or(1)
}

fn address(buffers: &[&Buffer]) -> AddressType {
    AddressType::from_len(buffers.iter().map(|buffer| buffer.length).max().unwrap_or(0))
}
