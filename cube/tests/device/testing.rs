//! What the tests of the kernels share: a device, and numbers on it.

use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind, IntKind, UIntKind};
use cubecl::prelude::*;

use cube::Buffer;

pub const F32: ElemType = ElemType::Float(FloatKind::F32);
pub const F16: ElemType = ElemType::Float(FloatKind::F16);
pub const BF16: ElemType = ElemType::Float(FloatKind::BF16);
pub const I32: ElemType = ElemType::Int(IntKind::I32);

/// Places behind the numbers of a buffer: memory may be longer than what is in it, as CUDA's rows are.
const BEHIND: usize = 37;

/// The device under test: the first GPU, or the first that wgpu finds.
pub struct Device {
    pub client: Client,
}

impl Device {
    pub fn open() -> Self {
        #[cfg(feature = "cuda")]
        let device = cubecl::Device::Cuda(Default::default());
        #[cfg(not(feature = "cuda"))]
        let device = cubecl::Device::Wgpu(Default::default());
        Self { client: device.client() }
    }

    /// The float types that this device stores.
    pub fn elements(&self) -> Vec<ElemType> {
        use cubecl::features::TypeUsage;
        let stored = |element: &ElemType| {
            let usage = self.client.properties().type_usage(*element);
            usage.is_superset(TypeUsage::Buffer | TypeUsage::Conversion)
        };
        [F32, F16, BF16].into_iter().filter(stored).collect()
    }

    pub fn empty(&self, length: usize, element: ElemType) -> Buffer {
        let room = Buffer::empty(&self.client, length + BEHIND, element);
        Buffer { length, ..room }
    }

    pub fn empty_f32(&self, length: usize) -> Buffer {
        self.empty(length, F32)
    }

    pub fn f32(&self, values: &[f32]) -> Buffer {
        self.buffer(values, F32)
    }

    /// Values rounded to a type, and behind them what no kernel may read.
    pub fn buffer(&self, numbers: &[f32], element: ElemType) -> Buffer {
        let values = [numbers, &[f32::NAN; BEHIND]].concat();
        let handle = if element == F32 {
            self.client.create_from_slice(f32::as_bytes(&values))
        } else if element == F16 {
            let values: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
            self.client.create_from_slice(half::f16::as_bytes(&values))
        } else {
            let values: Vec<half::bf16> = values.iter().map(|v| half::bf16::from_f32(*v)).collect();
            self.client.create_from_slice(half::bf16::as_bytes(&values))
        };
        Buffer { handle, length: numbers.len(), element }
    }

    /// Words of 32 bits, and more behind them.
    pub fn words(&self, values: &[u32]) -> Buffer {
        let handle = self.client.create_from_slice(u32::as_bytes(&[values, &[u32::MAX; BEHIND]].concat()));
        Buffer { handle, length: values.len(), element: ElemType::UInt(UIntKind::U32) }
    }

    pub fn read(&self, buffer: &Buffer) -> Vec<f64> {
        let bytes = self.client.read_one(buffer.handle.clone()).expect("the device gives its memory back");
        let values: Vec<f64> = if buffer.element == F32 {
            f32::from_bytes(&bytes).iter().map(|v| f64::from(*v)).collect()
        } else if buffer.element == F16 {
            half::f16::from_bytes(&bytes).iter().map(|v| f64::from(*v)).collect()
        } else {
            half::bf16::from_bytes(&bytes).iter().map(|v| f64::from(*v)).collect()
        };
        assert!(values.len() >= buffer.length);
        values[..buffer.length].to_vec()
    }

    /// How far a result of a type may lie from the exact one, relative to the largest: the rounding of the type, and for
    /// f32 that of a sum.
    pub fn tolerance(&self, element: ElemType) -> f64 {
        if element == F32 {
            2e-6
        } else if element == F16 {
            1e-3
        } else {
            8e-3
        }
    }
}

/// Numbers between -2 and 2.
pub fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.73 + seed).sin() * 2.0).collect()
}

/// Within `tolerance` of the largest expected value, or of 1.
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{index}: {a} is not {b}");
    }
}
