// `__nv_bfloat16`, `__half` and their pairs. Every operation is one in f32 (or f64), rounded once to the nearest, ties to even: for
// sums, products and quotients that is the correctly rounded result, because f32 has more than twice their digits.
#pragma once

namespace kernel {

template <class To, class From>
static inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

struct __nv_bfloat16 {
    unsigned short bits;

    __nv_bfloat16() = default;
    __nv_bfloat16(float value) : bits(round(value)) {}
    __nv_bfloat16(double value) : bits(round(value)) {}
    template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
    __nv_bfloat16(T value) : bits(round(double(value))) {}
    operator float() const { return bits_as<float>(unsigned(bits) << 16); }

    static unsigned short round(float value) {
        unsigned all = bits_as<unsigned>(value);
        if (value != value) return 0x7fff;
        return (all + 0x7fff + (all >> 16 & 1)) >> 16;
    }
    // Through f32 with the last bit set where something was cut off, so that only the second rounding rounds.
    static unsigned short round(double value) {
        float near = float(value);
        if (double(near) != value && value == value && std::isfinite(near)) {
            unsigned all = bits_as<unsigned>(near);
            if (std::fabs(double(near)) > std::fabs(value)) all--;
            near = bits_as<float>(all | 1);
        }
        return round(near);
    }
};

struct __half {
    _Float16 value;

    __half() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    __half(T from) : value(_Float16(from)) {}
    explicit __half(_Float16 from) : value(from) {}
    operator float() const { return float(value); }
};

template <class T>
struct alignas(4) pair_of {
    T x, y;

    pair_of() = default;
    pair_of(T x, T y) : x(x), y(y) {}
};
typedef pair_of<__nv_bfloat16> __nv_bfloat162;
typedef pair_of<__half> __half2;

struct alignas(16) float4 {
    float x, y, z, w;
};
static inline void ptx_cvt_rn_bf16x2_f32(unsigned& both, float high, float low) {
    both = unsigned(__nv_bfloat16::round(high)) << 16 | __nv_bfloat16::round(low);
}

#define OPERATORS(T)                                                                    \
    static inline T operator+(T a, T b) { return T(float(a) + float(b)); }              \
    static inline T operator-(T a, T b) { return T(float(a) - float(b)); }              \
    static inline T operator*(T a, T b) { return T(float(a) * float(b)); }              \
    static inline T operator/(T a, T b) { return T(float(a) / float(b)); }              \
    static inline T operator-(T a) { return T(-float(a)); }                             \
    static inline T& operator+=(T& a, T b) { return a = a + b; }                        \
    static inline T& operator-=(T& a, T b) { return a = a - b; }                        \
    static inline T& operator*=(T& a, T b) { return a = a * b; }                        \
    static inline bool operator==(T a, T b) { return float(a) == float(b); }            \
    static inline bool operator!=(T a, T b) { return float(a) != float(b); }            \
    static inline bool operator<(T a, T b) { return float(a) < float(b); }              \
    static inline bool operator<=(T a, T b) { return float(a) <= float(b); }            \
    static inline bool operator>(T a, T b) { return float(a) > float(b); }              \
    static inline bool operator>=(T a, T b) { return float(a) >= float(b); }            \
    static inline T __hfma(T a, T b, T c) { return T(double(float(a)) * float(b) + float(c)); } \
    static inline T __habs(T a) { return T(std::fabs(float(a))); }                      \
    static inline T __hmin(T a, T b) { return T(std::fmin(float(a), float(b))); }       \
    static inline T __hmax(T a, T b) { return T(std::fmax(float(a), float(b))); }       \
    static inline T __hmin_nan(T a, T b) { return a != a ? a : b != b ? b : __hmin(a, b); } \
    static inline T __hmax_nan(T a, T b) { return a != a ? a : b != b ? b : __hmax(a, b); } \
    static inline bool __hisnan(T a) { return a != a; }                                 \
    static inline bool __hisinf(T a) { return std::isinf(float(a)); }
OPERATORS(__nv_bfloat16)
OPERATORS(__half)
#undef OPERATORS

#define PAIRWISE(name, scalar)                                                           \
    template <class T>                                                                   \
    static inline pair_of<T> name(pair_of<T> a, pair_of<T> b) {                          \
        return {scalar(a.x, b.x), scalar(a.y, b.y)};                                     \
    }
#define INFIX(name, sign)                                                                \
    template <class T>                                                                   \
    static inline pair_of<T> name(pair_of<T> a, pair_of<T> b) {                          \
        return {a.x sign b.x, a.y sign b.y};                                             \
    }
INFIX(operator+, +)
INFIX(operator-, -)
INFIX(operator*, *)
INFIX(operator/, /)
PAIRWISE(__hmin2, __hmin)
PAIRWISE(__hmax2, __hmax)
PAIRWISE(__hmin2_nan, __hmin_nan)
PAIRWISE(__hmax2_nan, __hmax_nan)
#undef PAIRWISE
#undef INFIX
template <class T>
static inline pair_of<T> operator-(pair_of<T> a) {
    return {-a.x, -a.y};
}
template <class T>
static inline pair_of<T> __habs2(pair_of<T> a) {
    return {__habs(a.x), __habs(a.y)};
}
template <class T>
static inline pair_of<T> __hfma2(pair_of<T> a, pair_of<T> b, pair_of<T> c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

}  // namespace kernel
