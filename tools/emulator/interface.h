// What the driver and a compiled kernel know of each other: a kernel is a shared object with the three
// `emulator_` symbols at the end of this file, and calls the driver only through `Runtime`.
#pragma once

namespace emulator {

struct Index {
    unsigned x, y, z;
};

/// One CUDA thread, as its kernel sees it.
struct Thread {
    Index thread, block;    // threadIdx, blockIdx
    Index threads, blocks;  // blockDim, gridDim
    unsigned lane;          // within its warp
    char* shared;           // the block's shared memory
};

/// What a warp does together once its lanes have come to the same place: `lanes[i]` is what lane `i` brought,
/// for each lane whose bit is set in `mask`.
typedef void (*Together)(void* const* lanes, unsigned mask);

struct Runtime {
    /// `__syncthreads`.
    void (*wait_for_block)();
    /// Any operation of a whole warp. `site` is the line of the call: lanes that took different branches come to
    /// different lines. `together` may be null: `__syncwarp`.
    void (*wait_for_warp)(Together together, void* mine, unsigned site);
    /// Lets the other threads run: a wait for what another thread writes to memory.
    void (*wait_a_while)();
    /// The kernel did what no GPU does: ends the process with the names of kernel, block and thread.
    [[noreturn]] void (*fail)(char const* what);
};

}  // namespace emulator

// extern "C" void emulator_start(emulator::Runtime const*);             once, after loading
// extern "C" void emulator_run(emulator::Thread*, void** arguments);    one thread from beginning to end
// extern "C" bool const emulator_waits;                                 whether it calls any of `Runtime`'s waits
