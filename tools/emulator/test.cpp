// Kernels whose results are known: the emulator is wrong if this fails. Build and run: ./test.sh
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
int nvrtcCreateProgram(void**, char const*, char const*, int, char const* const*, char const* const*);
int nvrtcCompileProgram(void*, int, char const* const*);
int nvrtcGetPTXSize(void*, std::size_t*);
int nvrtcGetPTX(void*, char*);
int nvrtcGetProgramLogSize(void*, std::size_t*);
int nvrtcGetProgramLog(void*, char*);
int cuModuleLoadData(void**, void const*);
int cuModuleGetFunction(void**, void*, char const*);
int cuMemAlloc_v2(unsigned long long*, std::size_t);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
}

static void need(bool holds, char const* what) {
    if (!holds) std::printf("wrong: %s\n", what), std::exit(1);
}

/// Runs `body` with `float const* in`, `float* out` and shared memory `room`.
static std::vector<float> run(std::string const& body, std::vector<float> in, int outs, int blocks, int threads) {
    std::string source = "#include <cuda_bf16.h>\nextern \"C\" __global__ void __launch_bounds__(" + std::to_string(threads) +
                         ")  test(float const* const __restrict__ in, float * const __restrict__ out) {\nextern __shared__ __align__(16) char room[];\n" + body + "\n}\n";
    void *program, *module, *function;
    nvrtcCreateProgram(&program, source.c_str(), nullptr, 0, nullptr, nullptr);
    if (nvrtcCompileProgram(program, 0, nullptr)) {
        std::size_t size;
        nvrtcGetProgramLogSize(program, &size);
        std::string log(size, 0);
        nvrtcGetProgramLog(program, log.data());
        std::printf("%s\n", log.c_str());
        std::exit(1);
    }
    std::size_t size;
    nvrtcGetPTXSize(program, &size);
    std::vector<char> image(size);
    nvrtcGetPTX(program, image.data());
    need(!cuModuleLoadData(&module, image.data()) && !cuModuleGetFunction(&function, module, "test"), "loading");
    unsigned long long from, to;
    cuMemAlloc_v2(&from, in.size() * 4 + 4), cuMemAlloc_v2(&to, outs * 4);
    std::memcpy(reinterpret_cast<void*>(from), in.data(), in.size() * 4);
    void* arguments[] = {&from, &to};
    need(!cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 16384, nullptr, arguments, nullptr), "launching");
    auto* result = reinterpret_cast<float*>(to);
    return {result, result + outs};
}

// Small whole numbers: exact in bf16, their sums of products exact in f32.
static std::vector<float> numbers(int count) {
    std::vector<float> values;
    for (int i = 0; i < count; i++) values.push_back(float((i * 37 + 11) % 17 - 8));
    return values;
}

static void product(std::vector<float> const& in, std::vector<float> const& out, int m, int n, int k, char const* what) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++) sum += double(in[i * k + l]) * in[m * k + l * n + j];
            need(out[i * n + j] == sum, what);
        }
}

int main() {
    // Ties of bf16 go to even: 1 + 2^-8 down to 1, 1 + 3 2^-8 up; 2^-9 more, and no tie is left. Doubles are rounded once.
    auto rounded = run("out[threadIdx.x] = float(__nv_bfloat16(in[threadIdx.x]));\nif (threadIdx.x == 3) out[3] = float(__nv_bfloat16(1.0 + 1.0 / 256 + 1e-12));",
                       {1 + 1 / 256.f, 1 + 3 / 256.f, 1 + 1 / 256.f + 1 / 512.f, 0}, 4, 1, 4);
    need(rounded[0] == 1 && rounded[1] == 1 + 4 / 256.f && rounded[2] == 1 + 2 / 256.f && rounded[3] == 1 + 2 / 256.f, "rounding to bf16");

    // Lanes that leave a loop early do not take part in its later shuffles; behind it, all meet again.
    auto lanes = run(
        "float v = threadIdx.x;\nfloat seen = 0;\nfor (unsigned i = 0; i <= threadIdx.x % 2; i++) {\nseen += float(__popc(__ballot_sync(__activemask(), true)));\n}\n"
        "float sum = v;\nfor (int d = 16; d; d /= 2) {\nsum += __shfl_xor_sync(__activemask(), sum, d);\n}\nout[threadIdx.x] = sum;\nout[32 + threadIdx.x] = seen;",
        {}, 64, 1, 32);
    for (int i = 0; i < 32; i++) need(lanes[i] == 496 && lanes[32 + i] == (i % 2 ? 48 : 32), "shuffles and branches");

    // A block that reads what other warps wrote, and threads that have returned before the barrier.
    auto block = run("float* all = reinterpret_cast<float*>(room);\nif (threadIdx.x >= 96) { return; }\nall[threadIdx.x] = threadIdx.x;\n__syncthreads();\nout[blockIdx.x * 96 + threadIdx.x] = all[95 - threadIdx.x];",
                     {}, 192, 2, 128);
    for (int i = 0; i < 192; i++) need(block[i] == 95 - i % 96, "a barrier of a block");

    // mma.m16n8k16 and ldmatrix with the places of the PTX ISA, sections "Matrix Fragments for mma.m16n8k16" and "ldmatrix".
    auto in = numbers(16 * 16 + 16 * 8);
    std::string pack = "__nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(room);\nfor (int i = threadIdx.x; i < 384; i += 32) {\ntile[i] = in[i];\n}\n__syncthreads();\n"
                       "unsigned a[4], b[2];\nunsigned l = threadIdx.x;\n";
    std::string multiply =
        "float d[4];\nfloat zero = 0;\nasm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};\" : "
        "\"=f\"(d[0]), \"=f\"(d[1]), \"=f\"(d[2]), \"=f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]), \"f\"(zero), \"f\"(zero), \"f\"(zero), \"f\"(zero) );\n"
        "for (int i = 0; i < 4; i++) {\nout[(l / 4 + (i < 2 ? 0 : 8)) * 8 + l % 4 * 2 + (i & 1)] = d[i];\n}\n";
    std::string by_hand =
        "for (int i = 0; i < 8; i++) {\nint row = l / 4 + ((i < 2) || (i >= 4 && i < 6) ? 0 : 8);\nint column = l % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0);\n"
        "reinterpret_cast<__nv_bfloat16*>(a)[i] = tile[row * 16 + column];\n}\n"
        "for (int i = 0; i < 4; i++) {\nint row = l % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0);\nreinterpret_cast<__nv_bfloat16*>(b)[i] = tile[256 + row * 8 + l / 4];\n}\n";
    product(in, run(pack + by_hand + multiply, in, 128, 1, 32), 16, 8, 16, "mma.m16n8k16");
    std::string by_ldmatrix =
        "unsigned row = __cvta_generic_to_shared(&tile[l % 16 * 16 + l / 16 * 8]);\nasm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];\" : "
        "\"=r\"(a[0]), \"=r\"(a[1]), \"=r\"(a[2]), \"=r\"(a[3]) : \"r\"(row) : \"memory\");\n"
        "unsigned column = __cvta_generic_to_shared(&tile[256 + l % 16 * 8]);\nasm volatile(\"ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0, %1}, [%2];\" : "
        "\"=r\"(b[0]), \"=r\"(b[1]) : \"r\"(column) : \"memory\");\n";
    product(in, run(pack + by_ldmatrix + multiply, in, 128, 1, 32), 16, 8, 16, "ldmatrix");

    auto square = numbers(512);
    product(square,
            run("__nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(room);\nfor (int i = threadIdx.x; i < 512; i += 32) {\ntile[i] = in[i];\n}\n__syncthreads();\n"
                "using namespace nvcuda;\nwmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> a;\nwmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> b;\n"
                "wmma::fragment<wmma::accumulator, 16, 16, 16, float> c;\nwmma::fill_fragment(c, 0.0f);\nwmma::load_matrix_sync(a, tile, 16);\nwmma::load_matrix_sync(b, tile + 256, 16);\n"
                "wmma::mma_sync(c, a, b, c);\nwmma::store_matrix_sync(out, c, 16, wmma::mem_row_major);",
                square, 256, 1, 32),
            16, 16, 16, "wmma");
    std::printf("the emulator gives what is known\n");
}
