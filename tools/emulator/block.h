// Runs the threads of one block after another on one thread of this machine.
//
// A kernel that never waits is a loop over its threads. In one that does, each thread is a fiber, a stack of its own that is
// left at a barrier and entered again when the others have come there, too.
#pragma once

#include <cstddef>

#include "interface.h"

namespace emulator {

struct Launch {
    char const* name;
    void (*run)(Thread*, void**);
    bool waits;
    void** arguments;
    Index blocks, threads;
    std::size_t shared_bytes;
};

/// Runs the block at `block`. Whatever a thread of this machine needs for it (stacks, shared memory) is kept for its next block.
void run_block(Launch const& launch, Index block);

extern Runtime const runtime;

/// The most shared memory a block may ask for on any GPU known here.
constexpr std::size_t most_shared_bytes = 228 * 1024;

}  // namespace emulator
