// Copies into shared memory beside the computation, and the barriers that tell when they are done. Here they are done at once, which
// is the earliest that a GPU may be.
#pragma once

namespace kernel {

struct CUtensorMap_st;

namespace cooperative_groups {
struct thread_block {};
static inline thread_block this_thread_block() { return {}; }
}  // namespace cooperative_groups

namespace cuda {

enum thread_scope { thread_scope_system, thread_scope_device, thread_scope_block, thread_scope_thread };

/// Eight bytes in shared memory, as on a GPU: how many threads come to it, how many of them and how many bytes are still to come in
/// this phase, and the phase.
template <thread_scope>
struct barrier {
    typedef unsigned arrival_token;
    unsigned long long expected : 12, pending : 12, phase : 8;
    long long bytes : 32;

    arrival_token arrive(unsigned count = 1) {
        arrival_token token = phase;
        if (count > pending) emulator::runtime->fail("more arrivals at a barrier than it was made for");
        pending -= count;
        flip();
        return token;
    }
    void wait(arrival_token token) {
        while (phase == token) emulator::wait_a_while();
    }
    void wait_parity(bool parity) {
        while ((phase & 1) == parity) emulator::wait_a_while();
    }
    void arrive_and_wait() { wait(arrive()); }
    void expect(int more) { bytes += more; }
    void came(int fewer) {
        bytes -= fewer;
        flip();
    }
    void flip() {
        if (pending || bytes) return;
        pending = expected;
        phase++;
    }
};
template <thread_scope S>
static inline void init(barrier<S>* it, unsigned expected) {
    it->expected = it->pending = expected;
    it->phase = 0;
    it->bytes = 0;
}
template <thread_scope S>
static inline void memcpy_async(void* to, void const* from, std::size_t bytes, barrier<S>&) {
    std::memcpy(to, from, bytes);
}
template <thread_scope S>
static inline void memcpy_async(cooperative_groups::thread_block, void* to, void const* from, std::size_t bytes, barrier<S>&) {
    emulator::Thread const& self = *emulator::current;
    if (!self.thread.x && !self.thread.y && !self.thread.z) std::memcpy(to, from, bytes);
    // The copy belongs to all threads of the block: none goes on before it is done.
    emulator::wait_for_block();
}

namespace device {

template <thread_scope S>
static inline barrier<S>* barrier_native_handle(barrier<S>& it) {
    return &it;
}
template <thread_scope S>
static inline unsigned barrier_arrive_tx(barrier<S>& it, unsigned count, int bytes) {
    it.expect(bytes);
    return it.arrive(count);
}
template <thread_scope S>
static inline void barrier_expect_tx(barrier<S>& it, int bytes) {
    it.expect(bytes);
}
template <thread_scope S>
static inline void memcpy_async_tx(void* to, void const* from, std::size_t bytes, barrier<S>& it) {
    std::memcpy(to, from, bytes);
    it.came(int(bytes));
}

namespace experimental {

static inline void fence_proxy_async_shared_cta() {}
static inline void cp_async_bulk_commit_group() {}
template <int>
static inline void cp_async_bulk_wait_group_read() {}

// One box of a tensor between device and shared memory. What lies outside of the tensor is read as zero and not written. Swizzled,
// the 16-byte pieces of a row of shared memory are exchanged by the number of its row, so that columns spread over the banks.
template <bool LOAD, class Map>
static inline unsigned box(Map const* opaque, char* shared, int const (&from)[5]) {
    emulator::TensorMap* map;
    std::memcpy(&map, opaque, sizeof map);
    unsigned size = map->element_bytes, count = 1;
    for (unsigned d = 0; d < map->rank; d++) count *= map->box[d];
    unsigned base = __cvta_generic_to_shared(shared);
    for (unsigned e = 0; e < count; e++) {
        unsigned rest = e;
        bool inside = true;
        char* place = map->address;
        for (unsigned d = 0; d < map->rank; d++) {
            long long at = from[d] + (long long)(rest % map->box[d]);
            rest /= map->box[d];
            inside = inside && at >= 0 && at < (long long)map->dimensions[d];
            place += at * (long long)map->stride_bytes[d];
        }
        unsigned address = base + e * size;
        if (map->swizzle) address ^= (address >> 7 & ((1u << map->swizzle) - 1)) << 4;
        char* here = from_shared(address);
        if (LOAD && inside) std::memcpy(here, place, size);
        else if (LOAD) std::memset(here, 0, size);
        else if (inside) std::memcpy(place, here, size);
    }
    return count * size;
}
#define BOX(rank, parameters, ...)                                                                                               \
    template <class Map, thread_scope S>                                                                                         \
    static inline void cp_async_bulk_tensor_##rank##d_global_to_shared(void* shared, Map const* map, parameters, barrier<S>& it) { \
        it.came(box<true>(map, static_cast<char*>(shared), {__VA_ARGS__}));                                                      \
    }                                                                                                                            \
    template <class Map>                                                                                                         \
    static inline void cp_async_bulk_tensor_##rank##d_shared_to_global(Map const* map, parameters, void* shared) {               \
        box<false>(map, static_cast<char*>(shared), {__VA_ARGS__});                                                              \
    }
#define AND ,
BOX(1, int a, a)
BOX(2, int a AND int b, a, b)
BOX(3, int a AND int b AND int c, a, b, c)
BOX(4, int a AND int b AND int c AND int d, a, b, c, d)
BOX(5, int a AND int b AND int c AND int d AND int e, a, b, c, d, e)
#undef AND
#undef BOX

}  // namespace experimental
}  // namespace device
}  // namespace cuda

template <class T>
static inline void copy_async(unsigned to, T const* from, unsigned bytes, unsigned present) {
    std::memcpy(from_shared(to), from, present);
    std::memset(from_shared(to) + present, 0, bytes - present);
}
template <class T>
static inline void ptx_cp_async_cg_shared__cta_global(unsigned to, T const* from, unsigned bytes, unsigned present) {
    copy_async(to, from, bytes, present);
}
template <class T>
static inline void ptx_cp_async_ca_shared__cta_global(unsigned to, T const* from, unsigned bytes, unsigned present) {
    copy_async(to, from, bytes, present);
}
// Without `.noinc` the arrival was counted in before: nothing changes when the copies are done already.
static inline void ptx_cp_async_mbarrier_arrive_shared__cta_b64(unsigned) {}
static inline void ptx_cp_async_bulk_wait_group(unsigned) {}
static inline void ptx_cp_async_commit_group() {}
static inline void ptx_cp_async_wait_group(unsigned) {}

}  // namespace kernel
