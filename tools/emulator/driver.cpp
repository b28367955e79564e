// In place of libcuda.so: a device whose memory is this machine's and whose kernels are shared objects made by `nvrtc.cpp`.
//
// Everything happens at once and in the order of the calls, which CUDA allows: streams and events have nothing to wait for.
// What the environment may say: CUDA_EMULATOR_SM (80: the compute capability, times ten), CUDA_EMULATOR_THREADS (1),
// CUDA_EMULATOR_ORDER (`backward`: threads and blocks in descending order; `shuffled`: blocks in another order at every launch, as on a
// GPU), CUDA_EMULATOR_LOG (a file for what was launched).
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "block.h"
#include "tensor_map.h"

using emulator::Index;
using emulator::Launch;

namespace {

// The driver's numbers, as far as they are used (CUresult, CUdevice_attribute, CUmemorytype).
enum Result {
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    invalid_device = 101,
    invalid_image = 200,
    not_found = 500,
    not_supported = 801,
};

enum Attribute {
    max_threads_per_block = 1,
    max_block_x = 2,
    max_block_y = 3,
    max_block_z = 4,
    max_grid_x = 5,
    max_grid_y = 6,
    max_grid_z = 7,
    shared_per_block = 8,
    warp_size = 10,
    registers_per_block = 12,
    clock_rate = 13,
    multiprocessors = 16,
    integrated = 18,
    memory_clock_rate = 36,
    memory_bus_width = 37,
    l2_cache_size = 38,
    threads_per_multiprocessor = 39,
    capability_major = 75,
    capability_minor = 76,
    shared_per_multiprocessor = 81,
    shared_per_block_optin = 97,
};

constexpr int memory_host = 1;
constexpr std::size_t alignment = 512;
/// Fresh memory up to this size is filled with NaN, since nobody may count on what is in it. Beyond, it would only be touched for that.
constexpr std::size_t poisoned_bytes = std::size_t(256) << 20;

int setting(char const* name, int otherwise) {
    char const* value = std::getenv(name);
    return value ? std::atoi(value) : otherwise;
}

int capability() {
    static int const value = setting("CUDA_EMULATOR_SM", 80);
    return value;
}

int optin_shared_bytes() {
    switch (capability()) {
        case 75: return 64 << 10;
        case 80: return 163 << 10;
        case 86:
        case 89:
        case 120: return 99 << 10;
        default: return 227 << 10;
    }
}

std::size_t memory_bytes() { return std::size_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

struct Module {
    void* handle;
    void (*run)(emulator::Thread*, void**);
    bool waits;
};

struct Function {
    std::string name;
    Module* module;
};

struct Event {
    std::chrono::steady_clock::time_point recorded;
};

std::mutex device;  // one launch at a time

struct Count {
    long launches = 0, blocks = 0;
    double seconds = 0;
};
std::map<std::string, Count> counts;

void write_log() {
    FILE* file = std::fopen(std::getenv("CUDA_EMULATOR_LOG"), "w");
    if (!file) return;
    for (auto const& [name, count] : counts) std::fprintf(file, "%9.3f s %7ld launches %9ld blocks  %s\n", count.seconds, count.launches, count.blocks, name.c_str());
    std::fclose(file);
}

// Threads of this machine beside the one that launches, kept for the next launch: each has stacks of its own.
class Helpers {
  public:
    explicit Helpers(int count) {
        for (int i = 0; i < count; i++) {
            std::thread([this] { live(); }).detach();
        }
        alive = count;
    }
    /// Does `work` on every one of them and on the caller's.
    void everywhere(std::function<void()> const& work) {
        {
            std::lock_guard<std::mutex> guard(lock);
            job = &work;
            busy = alive;
            round++;
        }
        changed.notify_all();
        work();
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [this] { return busy == 0; });
    }

  private:
    void live() {
        std::unique_lock<std::mutex> guard(lock);
        for (long seen = 0;; seen++) {
            changed.wait(guard, [&] { return round > seen; });
            guard.unlock();
            (*job)();
            guard.lock();
            if (--busy == 0) changed.notify_all();
        }
    }

    std::mutex lock;
    std::condition_variable changed;
    std::function<void()> const* job = nullptr;
    long round = 0;
    int alive = 0, busy = 0;
};

void launch(Launch const& it) {
    unsigned long long blocks = 1ull * it.blocks.x * it.blocks.y * it.blocks.z;
    static std::string const order = std::getenv("CUDA_EMULATOR_ORDER") ? std::getenv("CUDA_EMULATOR_ORDER") : "";
    // The first block, and the step from one to the next, which has no divisor in common with their number.
    unsigned long long first = 0, step = 1;
    if (order == "backward") first = blocks - 1, step = blocks - 1;
    if (order == "shuffled") {
        static std::minstd_rand random;
        first = random() % blocks;
        do step = random() % blocks + 1;
        while (std::gcd(step, blocks) != 1);
    }
    // Never destroyed: at the end of the process its threads may still wait in it.
    static Helpers& helpers = *new Helpers(std::max(1, setting("CUDA_EMULATOR_THREADS", 1)) - 1);
    std::atomic<unsigned long long> next{0};
    std::function<void()> work = [&] {
        for (unsigned long long taken; (taken = next++) < blocks;) {
            unsigned long long at = (first + taken % blocks * step) % blocks;
            emulator::run_block(it, {unsigned(at % it.blocks.x), unsigned(at / it.blocks.x % it.blocks.y), unsigned(at / it.blocks.x / it.blocks.y)});
        }
    };
    if (blocks == 1) work();
    else helpers.everywhere(work);
}

// How long an ELF image is: its table of sections stands at its end.
std::size_t image_bytes(void const* image) {
    auto header = static_cast<Elf64_Ehdr const*>(image);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG)) return 0;
    return header->e_shoff + std::size_t(header->e_shnum) * header->e_shentsize;
}

}  // namespace

extern "C" {

typedef unsigned long long Pointer;

int cuInit(unsigned) {
    static std::once_flag once;
    std::call_once(once, [] {
        if (std::getenv("CUDA_EMULATOR_LOG")) std::atexit(write_log);
    });
    return success;
}
int cuDriverGetVersion(int* version) { return *version = 13000, success; }
int cuGetErrorName(int error, char const** name) {
    static thread_local char text[32];
    std::snprintf(text, sizeof text, "CUDA_ERROR_%d", error);
    return *name = text, success;
}
int cuGetErrorString(int error, char const** text) { return cuGetErrorName(error, text); }

int cuDeviceGetCount(int* count) { return *count = 1, success; }
int cuDeviceGet(int* handle, int ordinal) { return *handle = ordinal, ordinal == 0 ? success : invalid_device; }
int cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, length, "emulated sm_%d", capability()), success; }
int cuDeviceTotalMem_v2(std::size_t* bytes, int) { return *bytes = memory_bytes(), success; }
int cuDeviceGetPCIBusId(char* text, int length, int) { return std::snprintf(text, length, "0000:00:00.0"), success; }
int cuDeviceGetUuid_v2(char* uuid, int) { return std::memset(uuid, 0, 16), success; }
int cuDeviceGetLuid(char*, unsigned*, int) { return not_supported; }
int cuDeviceCanAccessPeer(int* can, int, int) { return *can = 0, success; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case max_threads_per_block:
        case max_block_x:
        case max_block_y: *value = 1024; break;
        case max_block_z: *value = 64; break;
        case max_grid_x: *value = 0x7fffffff; break;
        case max_grid_y:
        case max_grid_z: *value = 65535; break;
        case shared_per_block: *value = 48 << 10; break;
        case warp_size: *value = 32; break;
        case registers_per_block: *value = 65536; break;
        case clock_rate: *value = 1980000; break;
        case multiprocessors: *value = 132; break;
        case memory_clock_rate: *value = 3201000; break;
        case memory_bus_width: *value = 6144; break;
        case l2_cache_size: *value = 50 << 20; break;
        case threads_per_multiprocessor: *value = 2048; break;
        case capability_major: *value = capability() / 10; break;
        case capability_minor: *value = capability() % 10; break;
        case shared_per_block_optin: *value = optin_shared_bytes(); break;
        case shared_per_multiprocessor: *value = optin_shared_bytes() + 1024; break;
        default: *value = 0;
    }
    return success;
}

static char context;
int cuDevicePrimaryCtxRetain(void** handle, int) { return *handle = &context, success; }
int cuDevicePrimaryCtxRelease_v2(int) { return success; }
int cuCtxSetCurrent(void*) { return success; }
int cuCtxGetCurrent(void** handle) { return *handle = &context, success; }
int cuCtxGetDevice(int* handle) { return *handle = 0, success; }
int cuCtxSynchronize() { return success; }
int cuCtxGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, success; }
int cuCtxEnablePeerAccess(void*, unsigned) { return not_supported; }

int cuMemAlloc_v2(Pointer* pointer, std::size_t bytes) {
    void* memory = aligned_alloc(alignment, (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment);
    if (!memory) return out_of_memory;
    if (bytes <= poisoned_bytes) std::memset(memory, 0xff, bytes);
    return *pointer = reinterpret_cast<Pointer>(memory), success;
}
int cuMemAllocAsync(Pointer* pointer, std::size_t bytes, void*) { return cuMemAlloc_v2(pointer, bytes); }
int cuMemFree_v2(Pointer pointer) { return std::free(reinterpret_cast<void*>(pointer)), success; }
int cuMemFreeAsync(Pointer pointer, void*) { return cuMemFree_v2(pointer); }
int cuMemAllocHost_v2(void** pointer, std::size_t bytes) {
    Pointer memory;
    int result = cuMemAlloc_v2(&memory, bytes);
    if (result == success) *pointer = reinterpret_cast<void*>(memory);
    return result;
}
int cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) { return cuMemAllocHost_v2(pointer, bytes); }
int cuMemFreeHost(void* pointer) { return std::free(pointer), success; }
int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
    *total = memory_bytes();
    *free = std::size_t(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    return success;
}
int cuMemcpyHtoD_v2(Pointer to, void const* from, std::size_t bytes) { return std::memcpy(reinterpret_cast<void*>(to), from, bytes), success; }
int cuMemcpyHtoDAsync_v2(Pointer to, void const* from, std::size_t bytes, void*) { return cuMemcpyHtoD_v2(to, from, bytes); }
int cuMemcpyDtoH_v2(void* to, Pointer from, std::size_t bytes) { return std::memcpy(to, reinterpret_cast<void*>(from), bytes), success; }
int cuMemcpyDtoHAsync_v2(void* to, Pointer from, std::size_t bytes, void*) { return cuMemcpyDtoH_v2(to, from, bytes); }
int cuMemcpyDtoD_v2(Pointer to, Pointer from, std::size_t bytes) {
    return std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), success;
}
int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, std::size_t bytes, void*) { return cuMemcpyDtoD_v2(to, from, bytes); }
int cuMemsetD8_v2(Pointer to, unsigned char value, std::size_t bytes) { return std::memset(reinterpret_cast<void*>(to), value, bytes), success; }
int cuMemsetD8Async(Pointer to, unsigned char value, std::size_t bytes, void*) { return cuMemsetD8_v2(to, value, bytes); }

// CUDA_MEMCPY2D.
struct Side {
    std::size_t x_bytes, y;
    int memory;
    void* host;
    Pointer device;
    void* array;
    std::size_t pitch;
};
struct Copy2D {
    Side from, to;
    std::size_t width_bytes, height;
};
int cuMemcpy2DAsync_v2(Copy2D const* copy, void*) {
    auto start = [](Side const& side) {
        char* base = side.memory == memory_host ? static_cast<char*>(side.host) : reinterpret_cast<char*>(side.device);
        return base + side.y * side.pitch + side.x_bytes;
    };
    for (std::size_t row = 0; row < copy->height; row++) {
        std::memcpy(start(copy->to) + row * copy->to.pitch, start(copy->from) + row * copy->from.pitch, copy->width_bytes);
    }
    return success;
}

int cuStreamCreate(void** stream, unsigned) { return *stream = new char, success; }
int cuStreamCreateWithPriority(void** stream, unsigned, int) { return cuStreamCreate(stream, 0); }
int cuStreamDestroy_v2(void* stream) { return delete static_cast<char*>(stream), success; }
int cuStreamSynchronize(void*) { return success; }
int cuStreamQuery(void*) { return success; }
int cuStreamWaitEvent(void*, void*, unsigned) { return success; }
int cuStreamIsCapturing(void*, int* capturing) { return *capturing = 0, success; }

int cuEventCreate(void** event, unsigned) { return *event = new Event, success; }
int cuEventRecord(void* event, void*) { return static_cast<Event*>(event)->recorded = std::chrono::steady_clock::now(), success; }
int cuEventSynchronize(void*) { return success; }
int cuEventQuery(void*) { return success; }
int cuEventDestroy_v2(void* event) { return delete static_cast<Event*>(event), success; }
int cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) {
    std::chrono::duration<float, std::milli> between = static_cast<Event*>(to)->recorded - static_cast<Event*>(from)->recorded;
    return *milliseconds = between.count(), success;
}
int cuEventElapsedTime(float* milliseconds, void* from, void* to) { return cuEventElapsedTime_v2(milliseconds, from, to); }

int cuModuleLoadData(void** module, void const* image) {
    std::size_t bytes = image_bytes(image);
    if (!bytes) return invalid_image;
    // In a file of a name of its own: by its name, a second object would be taken for the first.
    char path[] = "/tmp/kernel-XXXXXX";
    int file = mkstemp(path);
    if (file < 0) return invalid_image;
    bool written = write(file, image, bytes) == ssize_t(bytes);
    close(file);
    void* handle = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path);
    if (!handle) return std::fprintf(stderr, "emulator: %s\n", dlerror()), invalid_image;
    auto start = reinterpret_cast<void (*)(emulator::Runtime const*)>(dlsym(handle, "emulator_start"));
    auto run = reinterpret_cast<void (*)(emulator::Thread*, void**)>(dlsym(handle, "emulator_run"));
    auto waits = static_cast<bool const*>(dlsym(handle, "emulator_waits"));
    if (!start || !run || !waits) return invalid_image;
    start(&emulator::runtime);
    return *module = new Module{handle, run, *waits}, success;
}
int cuModuleLoadDataEx(void** module, void const* image, unsigned, void*, void*) { return cuModuleLoadData(module, image); }
// As on a device, a kernel of the module may still be named by somebody.
int cuModuleUnload(void*) { return success; }
int cuModuleGetFunction(void** function, void* module, char const* name) {
    auto* owner = static_cast<Module*>(module);
    if (!dlsym(owner->handle, name)) return not_found;
    return *function = new Function{name, owner}, success;
}
int cuModuleGetGlobal_v2(Pointer*, std::size_t*, void*, char const*) { return not_found; }

// "Linking" hands the image on: it is whole already.
int cuLinkCreate_v2(unsigned, void*, void*, void** state) { return *state = new std::vector<char>, success; }
int cuLinkAddData_v2(void* state, int, void* data, std::size_t bytes, char const*, unsigned, void*, void*) {
    return static_cast<std::vector<char>*>(state)->assign(static_cast<char*>(data), static_cast<char*>(data) + bytes), success;
}
int cuLinkComplete(void* state, void** image, std::size_t* bytes) {
    auto* all = static_cast<std::vector<char>*>(state);
    return *image = all->data(), *bytes = all->size(), success;
}
int cuLinkDestroy(void* state) { return delete static_cast<std::vector<char>*>(state), success; }

int cuFuncSetAttribute(void*, int, int bytes) { return bytes <= optin_shared_bytes() ? success : invalid_value; }
int cuFuncGetAttribute(int* value, int, void*) { return *value = 64, success; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, std::size_t) { return *blocks = 2, success; }

int cuLaunchKernel(void* function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x, unsigned threads_y,
                   unsigned threads_z, unsigned shared_bytes, void*, void** arguments, void**) {
    auto* it = static_cast<Function*>(function);
    bool fits = blocks_x && blocks_y && blocks_z && blocks_x <= 0x7fffffff && blocks_y <= 65535 && blocks_z <= 65535 && threads_x && threads_y &&
                threads_z && threads_x <= 1024 && threads_y <= 1024 && threads_z <= 64 && threads_x * threads_y * threads_z <= 1024 &&
                int(shared_bytes) <= optin_shared_bytes();
    if (!fits) return invalid_value;
    std::lock_guard<std::mutex> one(device);
    auto begin = std::chrono::steady_clock::now();
    launch({it->name.c_str(), it->module->run, it->module->waits, arguments, {blocks_x, blocks_y, blocks_z}, {threads_x, threads_y, threads_z}, shared_bytes});
    Count& count = counts[it->name];
    count.launches++;
    count.blocks += long(blocks_x) * blocks_y * blocks_z;
    count.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return success;
}

int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, std::uint64_t const* dimensions, std::uint64_t const* strides,
                           std::uint32_t const* box, std::uint32_t const* element_strides, int interleave, int swizzle, int, int fill) {
    static int const type_bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
    if (rank < 1 || rank > 5 || type < 0 || type > 12 || interleave || fill) return not_supported;
    auto* tensor = new emulator::TensorMap{};
    tensor->address = static_cast<char*>(address);
    tensor->rank = rank;
    tensor->element_bytes = type_bytes[type];
    tensor->swizzle = swizzle;
    for (unsigned d = 0; d < rank; d++) {
        tensor->dimensions[d] = dimensions[d];
        tensor->stride_bytes[d] = d ? strides[d - 1] : tensor->element_bytes;
        tensor->box[d] = box[d];
        if (element_strides[d] != 1) return not_supported;
    }
    // The 128 bytes of a CUtensorMap are opaque to everybody else. What they point to lives as long as the process: a kernel's
    // arguments are copied, and nothing says when the last copy goes.
    std::memset(map, 0, 128);
    std::memcpy(map, &tensor, sizeof tensor);
    return success;
}
int cuTensorMapEncodeIm2col(void*) { return not_supported; }
int cuTensorMapEncodeIm2colWide(void*) { return not_supported; }

int cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = &context, success; }
int cuMemPoolSetAttribute(void*, int, void*) { return success; }
int cuGetProcAddress_v2(char const*, void**, int, std::uint64_t, int*) { return not_found; }

}  // extern "C"
