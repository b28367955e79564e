// CUDA's functions on numbers. Those of the C library are at least as exact as a GPU's, so approximate ones have no form of their own.
#pragma once

namespace kernel {

using std::abs, std::fabs, std::exp, std::expm1, std::log, std::log1p, std::log2, std::exp2, std::sin, std::cos, std::tan, std::asin, std::acos, std::atan,
    std::sinh, std::cosh, std::tanh, std::asinh, std::acosh, std::atanh, std::atan2, std::sqrt, std::cbrt, std::hypot, std::pow, std::fmod, std::floor,
    std::ceil, std::trunc, std::round, std::rint, std::erf, std::fma, std::isnan, std::isinf, std::isfinite, std::signbit, std::copysign;

static inline float rsqrt(float a) { return float(1.0 / std::sqrt(double(a))); }
static inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
static inline float rcbrt(float a) { return float(1.0 / std::cbrt(double(a))); }

// The names with an f, and those of the fast forms.
#define F32(name, of) static inline float name(float a) { return of(a); }
F32(expf, exp) F32(logf, log) F32(sinf, sin) F32(cosf, cos) F32(tanhf, tanh) F32(sqrtf, sqrt) F32(rsqrtf, rsqrt) F32(fabsf, fabs)
F32(floorf, floor) F32(ceilf, ceil) F32(log2f, log2) F32(coshf, cosh) F32(sinhf, sinh)
F32(__expf, exp) F32(__logf, log) F32(__sinf, sin) F32(__cosf, cos) F32(__tanhf, tanh) F32(__fsqrt_rn, sqrt) F32(__frsqrt_rn, rsqrt)
#undef F32
static inline float __powf(float a, float b) { return pow(a, b); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1 / a; }
static inline float fmaxf(float a, float b) { return std::fmax(a, b); }
static inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
static inline float __fmaf_rn(float a, float b, float c) { return fma(a, b, c); }

// A number wins against NaN, as with fmin and fmax.
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
static inline std::common_type_t<A, B> min(A a, B b) {
    std::common_type_t<A, B> x = a, y = b;
    return x < y || y != y ? x : y;
}
template <class A, class B, class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
static inline std::common_type_t<A, B> max(A a, B b) {
    std::common_type_t<A, B> x = a, y = b;
    return x > y || y != y ? x : y;
}

// `exp` and `hexp` of half a float, `h2exp` of a pair.
#define HALVES(name)                                                                                       \
    static inline __nv_bfloat16 h##name(__nv_bfloat16 a) { return __nv_bfloat16(float(name(float(a)))); }  \
    static inline __half h##name(__half a) { return __half(float(name(float(a)))); }                       \
    static inline __nv_bfloat16 name(__nv_bfloat16 a) { return h##name(a); }                               \
    static inline __half name(__half a) { return h##name(a); }                                             \
    template <class T>                                                                                     \
    static inline pair_of<T> h2##name(pair_of<T> a) {                                                      \
        return {h##name(a.x), h##name(a.y)};                                                               \
    }
HALVES(exp) HALVES(log) HALVES(sin) HALVES(cos) HALVES(tanh) HALVES(sqrt) HALVES(rsqrt) HALVES(ceil) HALVES(floor) HALVES(trunc) HALVES(rint)
#undef HALVES

static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
static inline int __clz(unsigned a) { return a ? __builtin_clz(a) : 32; }
static inline int __clzll(unsigned long long a) { return a ? __builtin_clzll(a) : 64; }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline int __ffsll(long long a) { return __builtin_ffsll(a); }
static inline unsigned __brev(unsigned a) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) reversed |= (a >> i & 1) << (31 - i);
    return reversed;
}
static inline unsigned long long __brevll(unsigned long long a) { return (unsigned long long)__brev(unsigned(a)) << 32 | __brev(unsigned(a >> 32)); }
static inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
static inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (unsigned char)(a >> 8 * i) * (unsigned char)(b >> 8 * i);
    return c;
}

static inline void ptx_add_sat_s32(int& d, int a, int b) {
    if (__builtin_add_overflow(a, b, &d)) d = a < 0 ? -__INT_MAX__ - 1 : __INT_MAX__;
}
static inline void ptx_sub_sat_s32(int& d, int a, int b) {
    if (__builtin_sub_overflow(a, b, &d)) d = a < 0 ? -__INT_MAX__ - 1 : __INT_MAX__;
}
// Approximate on a GPU, to two units in the last place; what is below the normal numbers is zero.
static inline void ptx_ex2_approx_ftz_f32(float& d, float a) {
    d = exp2(a);
    if (d < 1.17549435e-38f) d = 0;
}
static inline void ptx_min_NaN_f32(float& d, float a, float b) { d = a != a ? a : b != b ? b : min(a, b); }
static inline void ptx_max_NaN_f32(float& d, float a, float b) { d = a != a ? a : b != b ? b : max(a, b); }

}  // namespace kernel
