// Enough of CUDA C++ for g++ to compile what CubeCL writes. Included before every kernel.
//
// All names that a kernel may use are in the namespace it is put into, where they hide those of the C library.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../interface.h"
#include "../tensor_map.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__

namespace emulator {

static Runtime const* runtime;
// The fiber that runs now. Each wait gives the worker to other fibers, and puts this back when it returns.
static thread_local Thread* current;

static inline void wait_for_block() {
    Thread* self = current;
    runtime->wait_for_block();
    current = self;
}
static inline void wait_for_warp(Together together, void* mine, unsigned site) {
    Thread* self = current;
    runtime->wait_for_warp(together, mine, site);
    current = self;
}
static inline void wait_a_while() {
    Thread* self = current;
    runtime->wait_a_while();
    current = self;
}

template <class... Parameters, std::size_t... I>
static inline void pass(void** arguments, void (*function)(Parameters...), std::index_sequence<I...>) {
    function(*static_cast<std::remove_cv_t<std::remove_reference_t<Parameters>>*>(arguments[I])...);
}
template <class... Parameters>
static inline void run(Thread* thread, void** arguments, void (*function)(Parameters...)) {
    current = thread;
    pass(arguments, function, std::index_sequence_for<Parameters...>());
}

}  // namespace emulator

extern "C" void emulator_start(emulator::Runtime const* runtime) { emulator::runtime = runtime; }

#define threadIdx (::emulator::current->thread)
#define blockIdx (::emulator::current->block)
#define blockDim (::emulator::current->threads)
#define gridDim (::emulator::current->blocks)

#include "numbers.h"
#include "mathematics.h"
#include "warp.h"
#include "matrix.h"
#include "memory.h"
