#pragma once

#include <string>

namespace emulator {

/// CUDA C++ as g++ takes it after `device/cuda.h`. Lines stay where they are: they tell places of warp operations apart.
std::string translate(std::string const& source);

/// The kernel's name; empty where there is none.
std::string kernel_name(std::string const& source);

}  // namespace emulator
