//! The device and the number type that a recipe asks for.

use burn::tensor::{DType, Device, Distribution, Tensor};
use faults::{Fault, FromToml, Shape};

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The first GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromToml for DeviceName {
    const EXPECTED: &'static str = "\"auto\", \"cpu\", \"cuda\" or \"cuda:N\"";

    fn shape() -> Shape {
        Shape::Matching("^(auto|cpu|cuda(:[0-9]+)?)$")
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value.as_str()? {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            numbered => numbered.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::String(match self {
            Self::Auto => "auto".into(),
            Self::Cpu => "cpu".into(),
            Self::Cuda(number) => format!("cuda:{number}"),
        })
    }
}

impl DeviceName {
    /// The device of process `local_rank` of those on this machine: where none is named and there are several GPUs, each
    /// process has one. A launcher may show each process a single one: then that is it.
    pub fn of_process(self, local_rank: usize) -> Self {
        match (self, cuda::count()) {
            (Self::Auto, Some(count)) if count > 1 => Self::Cuda(local_rank),
            _ => self,
        }
    }
}

/// A precision of weights and activations by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DTypeName {
    /// bf16 on a GPU, f32 on the CPU.
    Auto,
    /// 32 bits.
    F32,
    /// The upper 16 of these.
    Bf16,
}

/// Opens a device.
///
/// # Errors
/// A GPU is asked for and this program was built without CUDA, or the machine has no such GPU.
pub fn open(wanted: DeviceName) -> Result<Device, Fault> {
    match wanted {
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Auto => Ok(cuda::first().unwrap_or_else(Device::flex)),
        DeviceName::Cuda(index) => cuda::open(index),
    }
}

/// The type that the frozen weights and the activations have on `device`: bf16 on a GPU, f32 on the CPU, unless said.
pub fn dtype(wanted: DTypeName, device: &Device) -> DType {
    match wanted {
        DTypeName::F32 => DType::F32,
        DTypeName::Bf16 => DType::BF16,
        DTypeName::Auto if is_cpu(device) => DType::F32,
        DTypeName::Auto => DType::BF16,
    }
}

/// The name of a device.
pub fn name(device: &Device) -> &'static str {
    if is_cpu(device) { "cpu" } else { "cuda" }
}

/// True where the memory that runs out is not the processor's.
pub fn has_own_memory(device: &Device) -> bool {
    !is_cpu(device)
}

/// Rows of a micro-batch are padded to a multiple of this, which the products of a device are fast at.
pub fn width_multiple(device: &Device) -> usize {
    if is_cpu(device) { 8 } else { 64 }
}

/// A draw from a normal distribution on the device itself, in moments where the processor takes minutes, and other numbers
/// than on other machines. `None` on the CPU.
pub fn draw_normal(deviation: f64, shape: [usize; 2], device: &Device, dtype: DType) -> Option<Tensor<2>> {
    (!is_cpu(device)).then(|| Tensor::random(shape, Distribution::Normal(0.0, deviation), (device, dtype)))
}

/// True for the CPU.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// NVIDIA's GPUs.
#[cfg(feature = "cuda-untuned")]
pub mod cuda {
    use burn::tensor::{Device, DeviceType};
    use cubek_std::config::{CubekConfig, MatmulConfig, RuntimeConfig};
    use faults::Fault;

    /// The first GPU, where there is one.
    pub fn first() -> Option<Device> {
        count().filter(|count| *count > 0).map(|_| device(0))
    }

    /// A GPU whose f32 products are f32, as PyTorch leaves them: burn's would round what they multiply to TF32's 10 bits.
    pub fn device(index: usize) -> Device {
        // Only the first call has an effect, before any kernel is chosen.
        CubekConfig::try_set(CubekConfig { matmul: MatmulConfig { allow_tf32: false } });
        Device::cuda(index)
    }

    /// The GPU of this number.
    ///
    /// # Errors
    /// There is none.
    pub fn open(index: usize) -> Result<Device, Fault> {
        match count() {
            Some(count) if index < count => Ok(device(index)),
            Some(count) if count > 0 => Err(Fault::new(format!("there is no GPU {index}: this machine has {count}"))
                .hint("see `nvidia-smi`; the first is `cuda:0`")),
            _ => Err(Fault::new("this machine has no NVIDIA GPU, or no driver that can be used")
                .hint("see that `nvidia-smi` works, or take the device `cpu`")),
        }
    }

    /// Number of GPUs; `None` without a driver, whose absence is a panic inside the bindings.
    pub fn count() -> Option<usize> {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let count = std::panic::catch_unwind(|| Device::enumerate(DeviceType::Cuda).into_vec().len()).ok();
        std::panic::set_hook(quiet);
        count
    }
}

#[cfg(not(feature = "cuda-untuned"))]
mod cuda {
    use burn::tensor::Device;
    use faults::Fault;

    pub fn count() -> Option<usize> {
        None
    }

    pub fn first() -> Option<Device> {
        None
    }

    pub fn open(_index: usize) -> Result<Device, Fault> {
        Err(Fault::new("this program was built without CUDA")
            .hint("build it with `cargo build --release --features cuda`, or take the device `cpu`"))
    }
}
