#include "block.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace emulator {
namespace {

constexpr std::size_t stack_bytes = 512 * 1024;
constexpr std::size_t page_bytes = 4096;
constexpr unsigned warp_lanes = 32;
/// Rounds in which nobody did anything but wait for memory, after which nobody ever will.
constexpr unsigned patience = 1000;

// Leaves one stack and enters another: what the calling convention of x86-64 lets a function keep is pushed on the one and
// popped off the other.
extern "C" void emulator_switch(void** left, void* entered);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

enum class State { ready, at_block, at_warp, polling, done };

struct Fiber {
    Thread thread;
    State state = State::done;
    void* stack = nullptr;  // where it was left
    Together together;
    void* mine;
    unsigned site;
};

struct Worker {
    std::vector<Fiber> fibers;
    std::size_t count = 0;  // of this block
    Fiber* running = nullptr;
    void* home = nullptr;
    Launch const* launch = nullptr;
    char* shared = nullptr;
    bool backward = false;
};

thread_local Worker worker;

void leave(State state) {
    Fiber* self = worker.running;
    self->state = state;
    emulator_switch(&self->stack, worker.home);
}

// The first function on a fiber's stack. It never returns: the stack is used again by the next block.
void live() {
    for (;;) {
        worker.launch->run(&worker.running->thread, worker.launch->arguments);
        leave(State::done);
    }
}

[[noreturn]] void fail(char const* what) {
    char const* name = worker.launch ? worker.launch->name : "?";
    std::fprintf(stderr, "emulator: %s in kernel %s", what, name);
    if (worker.running) {
        Thread const& t = worker.running->thread;
        std::fprintf(stderr, ", block %u %u %u, thread %u %u %u", t.block.x, t.block.y, t.block.z, t.thread.x, t.thread.y, t.thread.z);
    }
    std::fprintf(stderr, "\n");
    std::abort();
}

void wait_for_block() { leave(State::at_block); }

void wait_for_warp(Together together, void* mine, unsigned site) {
    Fiber* self = worker.running;
    self->together = together;
    self->mine = mine;
    self->site = site;
    leave(State::at_warp);
}

void wait_a_while() { leave(State::polling); }

void make_fibers(std::size_t count) {
    std::size_t have = worker.fibers.size();
    if (count <= have) return;
    worker.fibers.resize(count);
    for (std::size_t i = have; i < count; i++) {
        // One page below each stack is left without access: a stack that overflows stops there.
        void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, page_bytes, PROT_NONE)) fail("no memory for the stacks");
        // As `emulator_switch` leaves a stack: six registers, then where to go on. A function expects its stack 8 bytes off a
        // multiple of 16.
        void** top = reinterpret_cast<void**>(static_cast<char*>(memory) + stack_bytes) - 1;
        top[-1] = reinterpret_cast<void*>(&live);
        for (int r = 2; r <= 7; r++) top[-r] = nullptr;
        worker.fibers[i].stack = top - 7;
    }
}

void enter(Fiber& fiber) {
    worker.running = &fiber;
    emulator_switch(&worker.home, fiber.stack);
}

// Lanes that wait for their warp go on together when none of the warp can go further alone. Those of the earliest line come
// first: lanes that left a loop, or took the other branch, meet the rest behind it.
bool meet(Fiber* warp, unsigned lanes) {
    Fiber* first = nullptr;
    bool only_barriers = true;
    for (unsigned i = 0; i < lanes; i++) {
        Fiber& fiber = warp[i];
        if (fiber.state != State::at_warp) continue;
        if (!first || fiber.site < first->site) first = &fiber;
        if (fiber.together) only_barriers = false;
    }
    if (!first) return false;
    void* brought[warp_lanes] = {};
    unsigned mask = 0;
    for (unsigned i = 0; i < lanes; i++) {
        Fiber& fiber = warp[i];
        if (fiber.state != State::at_warp) continue;
        if (!only_barriers && fiber.site != first->site) continue;
        brought[i] = fiber.mine;
        mask |= 1u << i;
        fiber.state = State::ready;
    }
    if (!only_barriers && first->together) {
        worker.running = first;
        first->together(brought, mask);
    }
    return true;
}

// Until each of its lanes is done or waits for another warp.
void advance(Fiber* warp, unsigned lanes) {
    do {
        for (unsigned i = 0; i < lanes; i++) {
            Fiber& fiber = warp[worker.backward ? lanes - 1 - i : i];
            if (fiber.state == State::ready) enter(fiber);
        }
    } while (meet(warp, lanes));
}

void run_fibers() {
    unsigned waited = 0;
    std::size_t warps = (worker.count + warp_lanes - 1) / warp_lanes;
    for (;;) {
        for (std::size_t w = 0; w < warps; w++) {
            std::size_t begin = (worker.backward ? warps - 1 - w : w) * warp_lanes;
            std::size_t lanes = worker.count - begin;
            advance(&worker.fibers[begin], lanes < warp_lanes ? lanes : warp_lanes);
        }
        std::size_t at_block = 0, polling = 0, done = 0;
        for (std::size_t i = 0; i < worker.count; i++) {
            State state = worker.fibers[i].state;
            at_block += state == State::at_block;
            polling += state == State::polling;
            done += state == State::done;
        }
        if (done == worker.count) return;
        // Threads that have returned count as having come to the barrier, as on a GPU.
        State released;
        if (at_block + done == worker.count) {
            released = State::at_block;
            waited = 0;
        } else if (polling) {
            released = State::polling;
            if (++waited > patience) fail("a wait without an end");
        } else {
            fail("a barrier that not all threads come to");
        }
        for (std::size_t i = 0; i < worker.count; i++) {
            if (worker.fibers[i].state == released) worker.fibers[i].state = State::ready;
        }
    }
}

}  // namespace

Runtime const runtime = {wait_for_block, wait_for_warp, wait_a_while, fail};

void run_block(Launch const& launch, Index block) {
    worker.launch = &launch;
    worker.count = std::size_t(launch.threads.x) * launch.threads.y * launch.threads.z;
    // A kernel that lacks a barrier may be right by luck when its threads run in ascending order.
    static bool const backward = [] {
        char const* order = std::getenv("CUDA_EMULATOR_ORDER");
        return order && !std::strcmp(order, "backward");
    }();
    worker.backward = backward;
    if (!worker.shared) {
        worker.shared = static_cast<char*>(aligned_alloc(1024, most_shared_bytes));
        if (!worker.shared) fail("no memory for shared memory");
    }
    // Nobody may count on what is in it: NaN in any format of floating point.
    std::memset(worker.shared, 0xff, launch.shared_bytes);
    make_fibers(launch.waits ? worker.count : 1);
    for (std::size_t i = 0; i < worker.count; i++) {
        unsigned x = launch.threads.x, y = launch.threads.y;
        std::size_t at = worker.backward && !launch.waits ? worker.count - 1 - i : i;
        Fiber& fiber = worker.fibers[launch.waits ? at : 0];
        fiber.thread = {{unsigned(at % x), unsigned(at / x % y), unsigned(at / x / y)}, block, launch.threads, launch.blocks,
                        unsigned(at % warp_lanes), worker.shared};
        fiber.state = State::ready;
        if (!launch.waits) {
            worker.running = &fiber;
            launch.run(&fiber.thread, launch.arguments);
        }
    }
    if (launch.waits) run_fibers();
    worker.running = nullptr;
}

}  // namespace emulator
