// What this driver keeps of a CUtensorMap, and kernels read: a tensor in device memory and the box that is copied of it at once.
#pragma once

#include <cstdint>

namespace emulator {

struct TensorMap {
    char* address;
    unsigned rank, element_bytes;
    int swizzle;  // CUtensorMapSwizzle: 0 none, 1 32 bytes, 2 64 bytes, 3 128 bytes
    std::uint64_t dimensions[5], stride_bytes[5];  // the innermost first
    std::uint32_t box[5];
};

}  // namespace emulator
