// What the kernels of attention share. Before this file stand the constants of a variant (../attention/variant.rs):
//   D        values of a head
//   ROWS     rows of the tile that a block keeps: queries, or keys and values
//   OTHER    rows of the tiles that it goes through
//   STAGES   how many of those it has room for: with 2, one is brought while the other is multiplied
//   FLOAT    1: numbers are f32, multiplied as such; 0: bf16 on tensor cores (compute capability 8.0 and newer). Sums are f32.
//   PACKED   1: what a query sees is said by `ends` and `depths`; 0: all before it
//
// A product of tiles is that of a warp: 16 rows, of which a lane has rows `lane / 4` and `lane / 4 + 8`, and there of every eight
// columns the two from `lane % 4 * 2` on: `c[j][2 * h + e]` is row `lane / 4 + 8 h`, column `8 j + lane % 4 * 2 + e`. That is how
// `mma.sync.m16n8k16` has them.

#if FLOAT
typedef float number;
constexpr int SPARE = 4;
#else
typedef unsigned short number;
constexpr int SPARE = 8;
#endif
constexpr int LINE = 16 / sizeof(number);  // numbers that are copied at once
constexpr int PAD = D + SPARE;             // a row in shared memory: 16 bytes more, so that rows read together lie in other banks
constexpr int TALLIED = 64;                // keys that `seen` tells the farthest and the nearest end of
constexpr float HIDDEN = -1e30f;           // a score that comes to nothing beside any that is seen
constexpr float LOG2E = 1.4426950408889634f;

struct alignas(16) Line {
    unsigned words[4];
};

// Where heads stand: numbers from one row of the batch, one head and one position to the next.
struct Heads {
    long long batch, head, position;
};

struct Shape {
    int queries, keys, heads, key_heads;  // the queries are the last of the keys' positions
    Heads q, k, v;
    float scale, cap;  // cap 0: none
    int window;        // how many positions back a query sees, itself included
    long long seen;    // words of `seen` from one row of the batch to the next
};

// For each key: what it is seen by stands before its end, and its depth; for each 64 keys the largest end and the smallest.
struct Seen {
    int const *ends, *depths, *largest, *smallest;

    __device__ __forceinline__ Seen(int const* seen, Shape const& s, int batch) {
        ends = seen + batch * s.seen;
        depths = ends + s.keys;
        largest = depths + s.keys;
        smallest = largest + (s.keys + TALLIED - 1) / TALLIED;
    }
    // `query` is a position among the keys.
    __device__ __forceinline__ bool operator()(int query, int key, Shape const& s) const {
        if (key > query || query >= s.keys) return false;
#if PACKED
        return query < ends[key] && depths[query] - depths[key] < s.window;
#else
        return query - key < s.window;
#endif
    }
    // Whether any of `rows` queries may see any of `count` keys; both begin inside of their rows.
    __device__ __forceinline__ bool any(int query, int rows, int key, int count, Shape const& s) const {
        if (key > query + rows - 1) return false;
#if PACKED
        for (int tile = key / TALLIED; tile * TALLIED < min(key + count, s.keys); tile++)
            if (largest[tile] > query) return true;
        return false;
#else
        return query - (key + count - 1) < s.window;
#endif
    }
    // Whether all of them see all. Depths differ by no more than positions.
    __device__ __forceinline__ bool all(int query, int rows, int key, int count, Shape const& s) const {
        bool whole = key + count - 1 <= query && query + rows <= s.keys && query + rows - 1 - key < s.window;
#if PACKED
        if (whole)
            for (int tile = key / TALLIED; tile * TALLIED < key + count; tile++) whole = whole && smallest[tile] >= query + rows;
#endif
        return whole;
    }
};

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// The logarithm to the base of two of a score's exponential, and how fast the score goes with the product it is made of.
__device__ __forceinline__ float logit(float product, Shape const& s, float& slope) {
    float score = product * s.scale;
    slope = 1;
    if (s.cap > 0) {
        // tanh(x) = 1 - 2 / (e^2x + 1)
        float t = 1 - __fdividef(2.0f, power_of_two(score / s.cap * (2 * LOG2E)) + 1);
        slope = 1 - t * t;
        score = s.cap * t;
    }
    return score * LOG2E;
}

// Sums and largest of the four lanes that share a row.
__device__ __forceinline__ float row_sum(float v) {
    v += __shfl_xor_sync(0xffffffff, v, 1);
    return v + __shfl_xor_sync(0xffffffff, v, 2);
}
__device__ __forceinline__ float row_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffff, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffff, v, 2));
}

// Begins to bring `count` rows from `first` on; those behind the last are zero.
template <int COUNT, int THREADS>
__device__ __forceinline__ void bring(number* tile, number const* from, long long row, int first, int rows) {
    for (int i = threadIdx.x; i < COUNT * (D / LINE); i += THREADS) {
        int r = i / (D / LINE), c = i % (D / LINE) * LINE;
        unsigned to = __cvta_generic_to_shared(tile + r * PAD + c);
        bool there = first + r < rows;
        number const* at = from + (there ? first + r : 0) * row + c;
        unsigned bytes = there ? 16 : 0;
        asm volatile("cp.async.cg.shared::cta.global [%0], [%1], 16, %2;" : : "r"(to), "l"(at), "r"(bytes) : "memory");
    }
}
__device__ __forceinline__ void brought() { asm volatile("cp.async.commit_group;" : : : "memory"); }
// Waits for all that was begun but the last `left` of what `brought` closed.
template <int left>
__device__ __forceinline__ void here() {
    if (left) asm volatile("cp.async.wait_group 1;" : : : "memory");
    else asm volatile("cp.async.wait_group 0;" : : : "memory");
}

#if FLOAT
__device__ __forceinline__ float dot(float4 const& a, float4 const& b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
__device__ __forceinline__ float4 wide(number const* at) { return *reinterpret_cast<float4 const*>(at); }

// c[16, 8 N] += left[16, D] right[8 N, D]^T.
template <int N>
__device__ __forceinline__ void rows_by_rows(float (&c)[N][4], number const* left, number const* right) {
    int lane = threadIdx.x % 32;
    for (int k = 0; k < D; k += 4) {
        float4 a = wide(left + lane / 4 * PAD + k), b = wide(left + (lane / 4 + 8) * PAD + k);
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float4 d = wide(right + (j * 8 + lane % 4 * 2 + e) * PAD + k);
                c[j][e] += dot(a, d);
                c[j][2 + e] += dot(b, d);
            }
    }
}
// sum[16, 8 N] += p[16, OTHER] rows[OTHER, the 8 N columns from `rows` on].
template <int N>
__device__ __forceinline__ void by_columns(float (&sum)[N][4], number const* p, number const* rows) {
    int lane = threadIdx.x % 32;
    for (int k = 0; k < OTHER; k++) {
        float a = p[lane / 4 * (OTHER + SPARE) + k], b = p[(lane / 4 + 8) * (OTHER + SPARE) + k];
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float d = rows[k * PAD + j * 8 + lane % 4 * 2 + e];
                sum[j][e] += a * d;
                sum[j][2 + e] += b * d;
            }
    }
}
__device__ __forceinline__ void two(number* to, float a, float b) { to[0] = a, to[1] = b; }
__device__ __forceinline__ float one(number from) { return from; }
#else
__device__ __forceinline__ unsigned pair(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
__device__ __forceinline__ void multiply(float (&d)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};" : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(d[0]), "f"(d[1]), "f"(d[2]), "f"(d[3]));
}
__device__ __forceinline__ void four(unsigned (&r)[4], number const* row) {
    unsigned at = __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}
__device__ __forceinline__ void four_turned(unsigned (&r)[4], number const* row) {
    unsigned at = __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}
__device__ __forceinline__ void two_turned(unsigned& a, unsigned& b, number const* row) {
    unsigned at = __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0, %1}, [%2];" : "=r"(a), "=r"(b) : "r"(at) : "memory");
}

// c[16, 8 N] += left[16, D] right[8 N, D]^T, N even.
template <int N>
__device__ __forceinline__ void rows_by_rows(float (&c)[N][4], number const* left, number const* right) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        unsigned a[4], b[4];
        four(a, left + lane % 16 * PAD + k + lane / 16 * 8);
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            four(b, right + (j * 8 + lane / 16 * 8 + lane % 8) * PAD + k + lane / 8 % 2 * 8);
            multiply(c[j], a, b[0], b[1]);
            multiply(c[j + 1], a, b[2], b[3]);
        }
    }
}
// sum[16, 8 N] += a[16, 16] rows[16, the 8 N columns from `rows` on].
template <int N>
__device__ __forceinline__ void step(float (&sum)[N][4], unsigned const (&a)[4], number const* rows) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j + 1 < N; j += 2) {
        unsigned b[4];
        four_turned(b, rows + lane % 16 * PAD + j * 8 + lane / 16 * 8);
        multiply(sum[j], a, b[0], b[1]);
        multiply(sum[j + 1], a, b[2], b[3]);
    }
    if (N % 2) {
        unsigned b0, b1;
        two_turned(b0, b1, rows + lane % 16 * PAD + (N - 1) * 8);
        multiply(sum[N - 1], a, b0, b1);
    }
}
// sum[16, 8 N] += p[16, OTHER] rows[OTHER, the 8 N columns from `rows` on].
template <int N>
__device__ __forceinline__ void by_columns(float (&sum)[N][4], number const* p, number const* rows) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < OTHER; k += 16) {
        unsigned a[4];
        four(a, p + lane % 16 * (OTHER + SPARE) + k + lane / 16 * 8);
        step(sum, a, rows + k * PAD);
    }
}
__device__ __forceinline__ void two(number* to, float a, float b) { *reinterpret_cast<unsigned*>(to) = pair(a, b); }
__device__ __forceinline__ float one(number from) { return __uint_as_float(unsigned(from) << 16); }
#endif

// A lane's part of a product into a tile of rows `row` apart.
template <int N>
__device__ __forceinline__ void put(number* tile, int row, float const (&c)[N][4]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) two(tile + (lane / 4 + 8 * h) * row + j * 8 + lane % 4 * 2, c[j][2 * h], c[j][2 * h + 1]);
}
