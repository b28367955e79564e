// In place of libnvrtc.so: g++ compiles what `translate` makes of the CUDA source. Its "PTX" is the shared object's image.
//
// What the environment may say: CUDA_EMULATOR_CACHE (a folder for compiled kernels; ~/.cache/cuda-emulator), CUDA_EMULATOR_CXX (g++),
// CUDA_EMULATOR_CONTRACT (`fast`: a * b + c in one rounding, as NVRTC does unless told otherwise; `off`), CUDA_EMULATOR_REFUSE (a regular
// expression: kernels whose names have it do not compile, so that a tuner passes over them).
#include <dlfcn.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "translate.h"

extern char** environ;

namespace {

struct Program {
    std::string source, image, log;
};

std::string setting(char const* name, std::string const& otherwise) {
    char const* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

std::string read(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// The folder of this library: the prelude lies beside it.
std::string home() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&home), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/') + 1);
}

// FNV-1a.
std::string hash(std::string const& text) {
    std::uint64_t value = 0xcbf29ce484222325;
    for (unsigned char byte : text) value = (value ^ byte) * 0x100000001b3;
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
    return digits;
}

bool run(std::vector<std::string> const& words, std::string const& log) {
    std::vector<char*> arguments;
    for (auto const& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int status = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (status) return false;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The key of a kernel: whatever its image depends on.
std::string const& prelude_hash() {
    static std::string const value = hash(read(home() + "device.stamp"));
    return value;
}

}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, 0; }
char const* nvrtcGetErrorString(int code) { return code ? "NVRTC_ERROR_COMPILATION" : "NVRTC_SUCCESS"; }
int nvrtcCreateProgram(Program** program, char const* source, char const*, int, char const* const*, char const* const*) {
    return *program = new Program{source, {}, {}}, 0;
}
int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, 0; }

int nvrtcCompileProgram(Program* program, int, char const* const*) {
    static std::string const cache = setting("CUDA_EMULATOR_CACHE", setting("HOME", "/tmp") + "/.cache/cuda-emulator");
    static std::string const contract = setting("CUDA_EMULATOR_CONTRACT", "fast");
    static std::string const optimise = setting("CUDA_EMULATOR_OPTIMISE", "-O1");
    static std::atomic<int> count{0};
    static std::string const refused = setting("CUDA_EMULATOR_REFUSE", "");
    mkdir(cache.c_str(), 0755);
    std::string name = emulator::kernel_name(program->source);
    if (!refused.empty() && std::regex_search(name, std::regex(refused))) return program->log = "refused: " + name, 6;
    // Large kernels are straight lines of thousands of statements, each run a few times: they cost more to optimise than they take.
    std::string base = cache + "/" + hash(program->source + contract + optimise + prelude_hash());
    std::string object = base + ".so";
    if (access(object.c_str(), R_OK)) {
        std::string own = base + "." + std::to_string(getpid()) + "." + std::to_string(count++);
        std::ofstream(own + ".cpp") << emulator::translate(program->source);
        bool compiled = run({setting("CUDA_EMULATOR_CXX", "g++"), "-std=c++20", optimise, "-march=native", "-fPIC", "-shared", "-w", "-fno-strict-aliasing",
                             "-fwrapv", "-fno-semantic-interposition", "-ffp-contract=" + contract, "-include", home() + "device/cuda.h", own + ".cpp", "-o", own + ".so"},
                            own + ".log");
        program->log = read(own + ".log");
        std::remove((own + ".log").c_str());
        if (!compiled) return 6;
        std::rename((own + ".cpp").c_str(), (base + ".cpp").c_str());
        std::rename((own + ".so").c_str(), object.c_str());
    }
    program->image = read(object);
    return 0;
}

int nvrtcGetPTXSize(Program* program, std::size_t* bytes) { return *bytes = program->image.size(), 0; }
int nvrtcGetPTX(Program* program, char* image) { return std::memcpy(image, program->image.data(), program->image.size()), 0; }
int nvrtcGetProgramLogSize(Program* program, std::size_t* bytes) { return *bytes = program->log.size() + 1, 0; }
int nvrtcGetProgramLog(Program* program, char* log) { return std::memcpy(log, program->log.c_str(), program->log.size() + 1), 0; }

}  // extern "C"
