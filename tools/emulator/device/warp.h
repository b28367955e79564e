// Barriers, and what the lanes of a warp tell each other.
//
// `__activemask()` claims the whole warp: who takes part in an operation are the lanes that come to its line (see `meet` in block.cpp).
#pragma once

namespace kernel {

static constexpr int warpSize = 32;

static inline void __syncthreads() { emulator::wait_for_block(); }
static inline void __syncwarp(unsigned = ~0u, unsigned site = __builtin_LINE()) { emulator::wait_for_warp(nullptr, nullptr, site); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline unsigned __activemask() { return ~0u; }

// `Work::together` sees what each lane brought.
template <class Work>
static inline void together(Work& mine, unsigned site) {
    emulator::wait_for_warp(
        [](void* const* lanes, unsigned mask) {
            Work* all[32];
            for (int i = 0; i < 32; i++) all[i] = static_cast<Work*>(lanes[i]);
            Work::together(all, mask);
        },
        &mine, site);
}

template <class T>
struct Shuffle {
    T value, result;
    unsigned from;

    static void together(Shuffle* const* lanes, unsigned mask) {
        for (int i = 0; i < 32; i++) {
            if (!(mask >> i & 1)) continue;
            unsigned from = lanes[i]->from;
            // What a lane that is not there would give is undefined.
            if (mask >> from & 1) lanes[i]->result = lanes[from]->value;
            else std::memset(&lanes[i]->result, 0xff, sizeof(T));
        }
    }
};
template <class T>
static inline T shuffle(T value, unsigned from, unsigned site) {
    Shuffle<T> mine{value, value, from};
    together(mine, site);
    return mine.result;
}
template <class T>
static inline T __shfl_sync(unsigned, T value, int lane, unsigned width = 32, unsigned site = __builtin_LINE()) {
    unsigned self = emulator::current->lane;
    return shuffle(value, (self & ~(width - 1)) | (unsigned(lane) & (width - 1)), site);
}
template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int lanes, unsigned width = 32, unsigned site = __builtin_LINE()) {
    unsigned self = emulator::current->lane, from = self ^ unsigned(lanes);
    return shuffle(value, from < (self & ~(width - 1)) + width ? from : self, site);
}
template <class T>
static inline T __shfl_up_sync(unsigned, T value, unsigned delta, unsigned width = 32, unsigned site = __builtin_LINE()) {
    unsigned self = emulator::current->lane;
    return shuffle(value, (self & (width - 1)) >= delta ? self - delta : self, site);
}
template <class T>
static inline T __shfl_down_sync(unsigned, T value, unsigned delta, unsigned width = 32, unsigned site = __builtin_LINE()) {
    unsigned self = emulator::current->lane;
    return shuffle(value, (self & (width - 1)) + delta < width ? self + delta : self, site);
}

struct Vote {
    bool mine;
    unsigned who, for_it;

    static void together(Vote* const* lanes, unsigned mask) {
        unsigned for_it = 0;
        for (int i = 0; i < 32; i++) {
            if (mask >> i & 1 && lanes[i]->mine) for_it |= 1u << i;
        }
        for (int i = 0; i < 32; i++) {
            if (mask >> i & 1) lanes[i]->who = mask, lanes[i]->for_it = for_it;
        }
    }
};
static inline Vote vote(bool mine, unsigned site) {
    Vote all{mine};
    together(all, site);
    return all;
}
static inline unsigned __ballot_sync(unsigned, bool mine, unsigned site = __builtin_LINE()) { return vote(mine, site).for_it; }
static inline int __any_sync(unsigned, bool mine, unsigned site = __builtin_LINE()) { return vote(mine, site).for_it != 0; }
static inline int __all_sync(unsigned, bool mine, unsigned site = __builtin_LINE()) {
    Vote all = vote(mine, site);
    return all.for_it == all.who;
}
// One lane of those that are here, the lowest.
static inline void ptx_elect_sync(unsigned& elected, unsigned site = __builtin_LINE()) {
    unsigned who = vote(true, site).who;
    elected = unsigned(__builtin_ctz(who)) == emulator::current->lane;
}

// Atomic operations. Blocks may run on several threads of this machine.
template <class T>
static inline T atomicExch(T* at, T value) {
    T before;
    __atomic_exchange(at, &value, &before, __ATOMIC_RELAXED);
    return before;
}
template <class T>
static inline T atomicCAS(T* at, T expected, T value) {
    __atomic_compare_exchange(at, &expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T, class Change>
static inline T atomically(T* at, Change change) {
    T before = __atomic_load_n(at, __ATOMIC_RELAXED);
    T after;
    do after = change(before);
    while (!__atomic_compare_exchange(at, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
// Floats go through integers of their size: they are compared bit by bit.
template <class Number, class Bits, class Change>
static inline Number atomically_as(void* at, Change change) {
    Bits before = atomically(static_cast<Bits*>(at), [&](Bits bits) { return bits_as<Bits>(change(bits_as<Number>(bits))); });
    return bits_as<Number>(before);
}
#define ATOMIC_INTEGER(name, T, change)                                                     \
    template <class P>                                                                      \
    static inline void name(T& before, P* at, T b) {                                        \
        before = atomically((T*)at, [&](T a) { return change; });                           \
    }
#define ATOMIC_FLOAT(name, T, Bits, change)                                                 \
    template <class P>                                                                      \
    static inline void name(T& before, P* at, T b) {                                        \
        before = atomically_as<T, Bits>((void*)at, [&](T a) { return T(change); });         \
    }
ATOMIC_INTEGER(ptx_atom_relaxed_add_u32, unsigned, a + b)
ATOMIC_INTEGER(ptx_atom_relaxed_add_u32, int, a + b)
ATOMIC_INTEGER(ptx_atom_relaxed_add_u64, unsigned long long, a + b)
ATOMIC_INTEGER(ptx_atom_relaxed_min_u32, unsigned, min(a, b))
ATOMIC_INTEGER(ptx_atom_relaxed_max_u32, unsigned, max(a, b))
ATOMIC_INTEGER(ptx_atom_relaxed_min_s32, int, min(a, b))
ATOMIC_INTEGER(ptx_atom_relaxed_max_s32, int, max(a, b))
ATOMIC_FLOAT(ptx_atom_relaxed_add_f32, float, unsigned, a + b)
ATOMIC_FLOAT(ptx_atom_relaxed_add_f64, double, unsigned long long, a + b)
#undef ATOMIC_INTEGER
#undef ATOMIC_FLOAT

}  // namespace kernel
