//! Kernels in CUDA C++, compiled for the device they run on (NVRTC) and kept for as long as the process lives.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Mutex;

use cudarc::driver::result as driver;
use cudarc::driver::sys::{CUdevice_attribute, CUfunction, CUfunction_attribute};
use cudarc::nvrtc::result as nvrtc;

use crate::on_stream::Place;

/// A launch: the grid, the threads of a block, its bytes of shared memory.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    pub blocks: [usize; 3],
    pub threads: usize,
    pub shared_bytes: usize,
}

/// A number that a device says of itself; 0 where it does not.
pub fn attribute(device: usize, which: CUdevice_attribute) -> i32 {
    // SAFETY: the driver was started with CubeCL's client, and refuses a device that is not there.
    driver::device::get(device as i32)
        .and_then(|device| unsafe { driver::device::get_attribute(device, which) })
        .unwrap_or(0)
}

/// Compute capability times ten.
pub fn architecture(device: usize) -> i32 {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    10 * attribute(device, MAJOR) + attribute(device, MINOR)
}

/// Bytes of shared memory that a block may ask for.
pub fn shared_bytes(device: usize) -> usize {
    attribute(device, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN).max(0) as usize
}

/// Launches the kernel `name` of `source` with `arguments`, each a pointer to a value of the type that the kernel has there.
/// The first launch of a source on a device compiles it.
///
/// # Errors
/// It does not compile, or the device refuses it.
///
/// # Safety
/// The arguments are those of the kernel, and it stays inside of their memory.
pub unsafe fn launch(
    place: &Place<'_>,
    source: &str,
    name: &str,
    launch: Launch,
    arguments: &mut [*mut c_void],
) -> Result<(), String> {
    let function = function(place.device, source, name)?;
    let failed = |error: driver::DriverError| format!("{name}: {error}");
    // More than the 48 KiB that a kernel has without asking.
    let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let [x, y, z] = launch.blocks.map(|count| count as u32);
    // SAFETY: the function is that of a module that is never unloaded; the rest is the caller's promise.
    unsafe {
        driver::function::set_function_attribute(function, limit, launch.shared_bytes as i32).map_err(failed)?;
        let (threads, shared) = ((launch.threads as u32, 1, 1), launch.shared_bytes as u32);
        driver::launch_kernel(function, (x, y, z), threads, shared, place.stream, arguments).map_err(failed)
    }
}

fn function(device: usize, source: &str, name: &str) -> Result<CUfunction, String> {
    /// Addresses of functions by device and source, which has one kernel.
    static KNOWN: Mutex<Option<HashMap<(usize, String), usize>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = known.get_or_insert_default();
    if let Some(address) = known.get(&(device, source.to_owned())) {
        return Ok(*address as CUfunction);
    }
    let image = compile(device, source, name)?;
    // SAFETY: the image is that of the compiler, and the device's context is current on its thread.
    let function = unsafe { driver::module::load_data(image.as_ptr().cast()) }
        .and_then(|module| {
            let name = CString::new(name).expect("a name without zeros");
            // SAFETY: the module was just loaded, and stays.
            unsafe { driver::module::get_function(module, name) }
        })
        .map_err(|error| format!("{name}: {error}"))?;
    known.insert((device, source.to_owned()), function as usize);
    Ok(function)
}

/// PTX for the device's architecture; the driver makes the rest of it.
fn compile(device: usize, source: &str, name: &str) -> Result<Vec<std::ffi::c_char>, String> {
    let source = CString::new(source).expect("a source without zeros");
    let architecture = format!("--gpu-architecture=compute_{}", architecture(device));
    let failed = |error: nvrtc::NvrtcError| format!("{name} does not compile: {error}");
    let program = nvrtc::create_program(&source, None).map_err(failed)?;
    // SAFETY: the program is destroyed at the end, and not before.
    unsafe {
        let compiled = nvrtc::compile_program(program, &[architecture]);
        let image = match compiled {
            Ok(()) => nvrtc::get_ptx(program).map_err(failed),
            Err(error) => {
                let log: Vec<u8> =
                    nvrtc::get_program_log(program).unwrap_or_default().into_iter().map(|c| c as u8).collect();
                Err(format!("{}: {}", failed(error), String::from_utf8_lossy(&log).trim_end_matches('\0')))
            }
        };
        nvrtc::destroy_program(program).map_err(failed)?;
        image
    }
}

/// A device pointer as an argument.
pub fn argument<T>(value: &mut T) -> *mut c_void {
    std::ptr::from_mut(value).cast()
}
