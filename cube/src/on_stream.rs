//! Work that is not CubeCL's on the stream and the memory of CubeCL's client: launches of CUDA C++.
//!
//! It runs on the device's own thread, after everything that this thread has launched and before what it launches next, and
//! nothing waits for it. Where it fails, its reason stays with what it should have written: whoever reads that is told.

use std::any::TypeId;

use cubecl::client::Client;
use cubecl::device_handle::DeviceHandle;
use cubecl::server::{BufferBinding, Handle, ServerError, ServerStorage};
use cubecl_environment::backtrace::BackTrace;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cubecl_server::command::DeviceStream;
use cubecl_server::storage::{ComputeStorage, ManagedResource};
use cubecl_server::stream::{ExecuteScope, WriteScoped};
use cudarc::driver::sys::CUstream;

type CudaServer = <cubecl::cuda::CudaRuntime as Runtime>::Server;
type Resource = <<CudaServer as ServerStorage>::Storage as ComputeStorage>::Resource;

/// What work is given: the stream, and where its buffers are while it is enqueued. Addresses hold for one call: CubeCL moves
/// memory.
pub struct Place<'a> {
    /// The stream.
    pub stream: CUstream,
    /// The device's number.
    pub device: usize,
    /// Addresses of what is read, in the order in which it was named.
    pub reads: &'a [u64],
    /// Addresses of what is written.
    pub writes: &'a [u64],
}

/// True where the client is one of an NVIDIA GPU.
pub fn is_cuda(client: &Client) -> bool {
    client.service_id().service == TypeId::of::<CudaServer>()
}

/// Runs `work` in order with the launches of `client`.
///
/// # Panics
/// The client is not of an NVIDIA GPU.
pub fn on_stream<W>(client: &Client, reads: Vec<Handle>, writes: Vec<Handle>, work: W)
where
    W: FnOnce(Place<'_>) -> Result<(), String> + Send + 'static,
{
    assert!(is_cuda(client), "work for an NVIDIA GPU");
    let device = client.service_id().device;
    let stream = StreamId::current();
    DeviceHandle::<CudaServer>::new(device).submit(move |server| {
        // A failure stays with the outputs, and is told to whoever reads them.
        let _ = enqueue(server, stream, usize::from(device.index_id), reads, writes, work);
    });
}

fn enqueue<W>(
    server: &mut CudaServer,
    stream: StreamId,
    device: usize,
    reads: Vec<Handle>,
    writes: Vec<Handle>,
    work: W,
) -> Result<(), ServerError>
where
    W: FnOnce(Place<'_>) -> Result<(), String>,
{
    // Each is aligned with the stream it comes from, keeps its page, and is refused where the work that should have written it
    // failed.
    let resolve = |server: &mut CudaServer, handle: Handle| server.get_resource(handle.binding(), stream);
    let written: Vec<BufferBinding> = writes.iter().cloned().map(Handle::binding).collect();
    let reads = reads.into_iter().map(|handle| resolve(server, handle)).collect::<Result<Vec<_>, _>>();
    let writes = writes.into_iter().map(|handle| resolve(server, handle)).collect::<Result<Vec<_>, _>>();
    ExecuteScope::over(server, stream, written)
        .execute(|server| {
            let (reads, writes) = (reads?, writes?);
            let raw = server.write_streams().try_stream_mut(&stream).expect("resolved above").signal();
            let address = |resource: &ManagedResource<Resource>| resource.resource().ptr;
            let (reads, writes): (Vec<u64>, Vec<u64>) =
                (reads.iter().map(address).collect(), writes.iter().map(address).collect());
            work(Place { stream: raw, device, reads: &reads, writes: &writes })
                .map_err(|reason| ServerError::Generic { reason, backtrace: BackTrace::capture() })
        })
        .into_result()
}
