// Products of small matrices by a warp: `nvcuda::wmma`, and the PTX instructions `mma.sync`, `ldmatrix` and `stmatrix`, whose registers
// lie as "Matrix multiply-accumulate instructions" of the PTX ISA says.
//
// Products of two bf16 or f16 are exact in f32; their sums are taken one after another in f32. How a GPU sums is not documented.
#pragma once

namespace kernel {

/// d = a b + c, row-major.
template <int M, int N, int K, class In, class Sum>
static inline void multiply(In const (&a)[M][K], In const (&b)[K][N], Sum (&d)[M][N]) {
    for (int i = 0; i < M; i++)
        for (int k = 0; k < K; k++)
            for (int j = 0; j < N; j++) d[i][j] += Sum(a[i][k]) * Sum(b[k][j]);
}

/// What a tensor core takes in for an f32: ten digits after the point, ties away from zero.
static inline float to_tf32(float value) {
    unsigned bits = bits_as<unsigned>(value);
    if ((bits & 0x7f800000) == 0x7f800000) return value;
    return bits_as<float>((bits + 0x1000) & 0xffffe000);
}

static inline void whole_warp(unsigned mask) {
    if (mask != ~0u) emulator::runtime->fail("a matrix operation without all lanes of the warp");
}

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}
static inline float __float_to_tf32(float value) { return to_tf32(value); }

template <class T>
struct element {
    typedef T stored;
    typedef std::conditional_t<std::is_integral_v<T>, int, float> computed;
    static computed take(T value) { return computed(value); }
};
template <>
struct element<precision::tf32> {
    typedef float stored;
    typedef float computed;
    static float take(float value) { return to_tf32(value); }
};

/// A lane's part of a tile. Which elements these are is nobody's business but this file's: here, lane `l` has the elements
/// from `l * num_elements` on in row-major order.
template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M;
    static constexpr int columns = std::is_same_v<Use, matrix_a> ? K : N;
    static constexpr int num_elements = rows * columns / 32;
    typedef element<T> kind;
    typename kind::stored x[num_elements];
};

template <class F, class T>
static inline void fill_fragment(F& fragment, T value) {
    for (auto& x : fragment.x) x = value;
}

// Memory is read and written for all lanes at once, since one lane may go on to write what another has still to read.
template <class F, class P, bool store>
struct Move {
    F* part;
    P* memory;
    unsigned stride;
    bool columns_first;

    static void together(Move* const* lanes, unsigned mask) {
        whole_warp(mask);
        for (int lane = 0; lane < 32; lane++) {
            Move& it = *lanes[lane];
            for (int e = 0; e < F::num_elements; e++) {
                unsigned at = lane * F::num_elements + e, row = at / F::columns, column = at % F::columns;
                P* place = it.memory + (it.columns_first ? column * it.stride + row : row * it.stride + column);
                if constexpr (store) *place = it.part->x[e];
                else it.part->x[e] = *place;
            }
        }
    }
};
template <class Use, int M, int N, int K, class T, class Layout, class P>
static inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& to, P const* from, unsigned stride, unsigned site = __builtin_LINE()) {
    Move<fragment<Use, M, N, K, T, Layout>, P const, false> mine{&to, from, stride, std::is_same_v<Layout, col_major>};
    kernel::together(mine, site);
}
template <int M, int N, int K, class T, class P>
static inline void load_matrix_sync(fragment<accumulator, M, N, K, T>& to, P const* from, unsigned stride, layout_t layout, unsigned site = __builtin_LINE()) {
    Move<fragment<accumulator, M, N, K, T>, P const, false> mine{&to, from, stride, layout == mem_col_major};
    kernel::together(mine, site);
}
template <int M, int N, int K, class T, class P>
static inline void store_matrix_sync(P* to, fragment<accumulator, M, N, K, T>& from, unsigned stride, layout_t layout, unsigned site = __builtin_LINE()) {
    Move<fragment<accumulator, M, N, K, T>, P, true> mine{&from, to, stride, layout == mem_col_major};
    kernel::together(mine, site);
}

template <int M, int N, int K, class A, class B, class C, class D>
struct Product {
    D* d;
    A const* a;
    B const* b;
    C const* c;

    template <class F, class Lane, class Tile>
    static void gather(Product* const* lanes, Lane lane, Tile& tile) {
        auto* flat = &tile[0][0];
        for (int l = 0; l < 32; l++)
            for (int e = 0; e < F::num_elements; e++) flat[l * F::num_elements + e] = F::kind::take((lanes[l]->*lane)->x[e]);
    }
    static void together(Product* const* lanes, unsigned mask) {
        whole_warp(mask);
        typename A::kind::computed a[M][K], b[K][N], d[M][N];
        gather<A>(lanes, &Product::a, a);
        gather<B>(lanes, &Product::b, b);
        gather<C>(lanes, &Product::c, d);
        multiply(a, b, d);
        for (int l = 0; l < 32; l++)
            for (int e = 0; e < D::num_elements; e++) lanes[l]->d->x[e] = (&d[0][0])[l * D::num_elements + e];
    }
};
template <int M, int N, int K, class TA, class LA, class TB, class LB, class TC, class TD>
static inline void mma_sync(fragment<accumulator, M, N, K, TD>& d, fragment<matrix_a, M, N, K, TA, LA> const& a,
                            fragment<matrix_b, M, N, K, TB, LB> const& b, fragment<accumulator, M, N, K, TC> const& c, unsigned site = __builtin_LINE()) {
    Product<M, N, K, fragment<matrix_a, M, N, K, TA, LA>, fragment<matrix_b, M, N, K, TB, LB>, fragment<accumulator, M, N, K, TC>,
            fragment<accumulator, M, N, K, TD>>
        mine{&d, &a, &b, &c};
    kernel::together(mine, site);
}

}  // namespace nvcuda::wmma

// mma.sync.m16n8kK. Lane l belongs to row or column `l / 4` of an 8 x 8 block and to its columns or rows `l % 4 * PER ..`,
// PER being how many elements a 32-bit register has. Registers go down the rows first, then along the columns.
template <int K, class T>
struct MatrixProduct {
    static constexpr int per = 4 / sizeof(T);
    static constexpr int registers_a = 16 * K / 32 / per, registers_b = 8 * K / 32 / per;
    unsigned a[registers_a], b[registers_b];
    float c[4];

    static float take(unsigned bits, int part) {
        if constexpr (per == 1) return to_tf32(bits_as<float>(bits));
        else return float(bits_as<T>((unsigned short)(bits >> 16 * part)));
    }
    static void together(MatrixProduct* const* lanes, unsigned mask) {
        whole_warp(mask);
        float a[16][K], b[K][8], d[16][8];
        for (int l = 0; l < 32; l++) {
            int group = l / 4, along = l % 4 * per;
            for (int r = 0; r < registers_a; r++)
                for (int p = 0; p < per; p++) a[group + r % 2 * 8][along + r / 2 * 4 * per + p] = take(lanes[l]->a[r], p);
            for (int r = 0; r < registers_b; r++)
                for (int p = 0; p < per; p++) b[along + r * 4 * per + p][group] = take(lanes[l]->b[r], p);
            for (int r = 0; r < 4; r++) d[group + r / 2 * 8][l % 4 * 2 + r % 2] = lanes[l]->c[r];
        }
        multiply(a, b, d);
        for (int l = 0; l < 32; l++)
            for (int r = 0; r < 4; r++) lanes[l]->c[r] = d[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2];
    }
};
#define MMA_2(name, K, T)                                                                                                          \
    static inline void name(float& d0, float& d1, float& d2, float& d3, unsigned a0, unsigned a1, unsigned b0, float c0, float c1, \
                            float c2, float c3, unsigned site = __builtin_LINE()) {                                                \
        MatrixProduct<K, T> mine{{a0, a1}, {b0}, {c0, c1, c2, c3}};                                                                \
        together(mine, site);                                                                                                      \
        d0 = mine.c[0], d1 = mine.c[1], d2 = mine.c[2], d3 = mine.c[3];                                                            \
    }
#define MMA_4(name, K, T)                                                                                                           \
    static inline void name(float& d0, float& d1, float& d2, float& d3, unsigned a0, unsigned a1, unsigned a2, unsigned a3,         \
                            unsigned b0, unsigned b1, float c0, float c1, float c2, float c3, unsigned site = __builtin_LINE()) {   \
        MatrixProduct<K, T> mine{{a0, a1, a2, a3}, {b0, b1}, {c0, c1, c2, c3}};                                                     \
        together(mine, site);                                                                                                       \
        d0 = mine.c[0], d1 = mine.c[1], d2 = mine.c[2], d3 = mine.c[3];                                                             \
    }
MMA_2(ptx_mma_sync_aligned_m16n8k8_row_col_f32_bf16_bf16_f32, 8, __nv_bfloat16)
MMA_2(ptx_mma_sync_aligned_m16n8k8_row_col_f32_f16_f16_f32, 8, __half)
MMA_2(ptx_mma_sync_aligned_m16n8k4_row_col_f32_tf32_tf32_f32, 4, float)
MMA_4(ptx_mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32, 16, __nv_bfloat16)
MMA_4(ptx_mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32, 16, __half)
MMA_4(ptx_mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32, 8, float)
#undef MMA_2
#undef MMA_4

/// A pointer into shared memory as PTX has it.
static inline unsigned __cvta_generic_to_shared(void const volatile* pointer) {
    return unsigned(static_cast<char const volatile*>(pointer) - emulator::current->shared);
}
static inline char* from_shared(unsigned address) { return emulator::current->shared + address; }

// ldmatrix and stmatrix of 8 x 8 blocks of 16-bit elements: lane l names row `l % 8` of block `l / 8`, and has of each block the
// elements `l % 4 * 2` and the next of row `l / 4`, or, transposed, of that column.
template <int BLOCKS, bool TRANSPOSED, bool STORE>
struct MoveBlocks {
    char* row;
    unsigned registers[BLOCKS];

    static void together(MoveBlocks* const* lanes, unsigned mask) {
        whole_warp(mask);
        for (int block = 0; block < BLOCKS; block++)
            for (int l = 0; l < 32; l++)
                for (int p = 0; p < 2; p++) {
                    int row = l / 4, column = l % 4 * 2 + p;
                    if (TRANSPOSED) std::swap(row, column);
                    char* memory = lanes[block * 8 + row]->row + 2 * column;
                    char* mine = reinterpret_cast<char*>(&lanes[l]->registers[block]) + 2 * p;
                    std::memcpy(STORE ? memory : mine, STORE ? mine : memory, 2);
                }
    }
};
#define LOAD_BLOCKS(suffix, TRANSPOSED)                                                                                              \
    static inline void ptx_ldmatrix_sync_aligned_m8n8_x1##suffix(unsigned& a, unsigned row, unsigned site = __builtin_LINE()) {      \
        MoveBlocks<1, TRANSPOSED, false> mine{from_shared(row)};                                                                     \
        together(mine, site);                                                                                                        \
        a = mine.registers[0];                                                                                                       \
    }                                                                                                                                \
    static inline void ptx_ldmatrix_sync_aligned_m8n8_x2##suffix(unsigned& a, unsigned& b, unsigned row,                             \
                                                                 unsigned site = __builtin_LINE()) {                                 \
        MoveBlocks<2, TRANSPOSED, false> mine{from_shared(row)};                                                                     \
        together(mine, site);                                                                                                        \
        a = mine.registers[0], b = mine.registers[1];                                                                                \
    }                                                                                                                                \
    static inline void ptx_ldmatrix_sync_aligned_m8n8_x4##suffix(unsigned& a, unsigned& b, unsigned& c, unsigned& d, unsigned row,   \
                                                                 unsigned site = __builtin_LINE()) {                                 \
        MoveBlocks<4, TRANSPOSED, false> mine{from_shared(row)};                                                                     \
        together(mine, site);                                                                                                        \
        a = mine.registers[0], b = mine.registers[1], c = mine.registers[2], d = mine.registers[3];                                  \
    }
LOAD_BLOCKS(_shared__cta_b16, false)
LOAD_BLOCKS(_trans_shared__cta_b16, true)
#undef LOAD_BLOCKS
#define STORE_BLOCKS(suffix, TRANSPOSED)                                                                                              \
    static inline void ptx_stmatrix_sync_aligned_m8n8_x1##suffix(unsigned row, unsigned a, unsigned site = __builtin_LINE()) {        \
        MoveBlocks<1, TRANSPOSED, true> mine{from_shared(row), {a}};                                                                  \
        together(mine, site);                                                                                                         \
    }                                                                                                                                 \
    static inline void ptx_stmatrix_sync_aligned_m8n8_x2##suffix(unsigned row, unsigned a, unsigned b, unsigned site = __builtin_LINE()) { \
        MoveBlocks<2, TRANSPOSED, true> mine{from_shared(row), {a, b}};                                                               \
        together(mine, site);                                                                                                         \
    }                                                                                                                                 \
    static inline void ptx_stmatrix_sync_aligned_m8n8_x4##suffix(unsigned row, unsigned a, unsigned b, unsigned c, unsigned d,        \
                                                                 unsigned site = __builtin_LINE()) {                                  \
        MoveBlocks<4, TRANSPOSED, true> mine{from_shared(row), {a, b, c, d}};                                                         \
        together(mine, site);                                                                                                         \
    }
STORE_BLOCKS(_shared__cta_b16, false)
STORE_BLOCKS(_trans_shared__cta_b16, true)
#undef STORE_BLOCKS

}  // namespace kernel
