// One fiber a CUDA thread, one block at a time. A thread that never waits needs no fiber of its own: the fiber goes on with the next thread.
#include "emulator.h"
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <csignal>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

extern "C" void bp_switch(void** save, void* to);
extern "C" void bp_begin();
// What a called function must keep is pushed; a new fiber finds its state in rbx.
asm(R"(
    .pushsection .text
    .hidden bp_switch
    .type bp_switch, @function
bp_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .hidden bp_begin
    .type bp_begin, @function
bp_begin:
    mov %rbx, %rdi
    call bp_worker
    ud2
    .popsection
)");

namespace bp {
static u64 next_random(State* s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    return s->random ^= s->random << 17;
}

void fail(State* s, const char* format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const Index& b = s->now->block;
    char where[256];
    snprintf(where, sizeof where, "%s, block (%u,%u,%u), thread %u: ", s->launch->kernel->name, b.x, b.y, b.z, s->running);
    s->error = std::string(where) + text;
    void* abandoned;
    bp_switch(&abandoned, s->host.sp);   // the block's fibers are reset before the next launch
    __builtin_unreachable();
}

static void set_ready(State* s, unsigned warp, unsigned lanes) {
    s->warps[warp].ready |= lanes;
    if (s->warps[warp].ready) s->ready_warps |= 1u << warp;
}

static unsigned take(State* s, unsigned warp, unsigned lane) {
    Warp& w = s->warps[warp];
    w.ready &= ~(1u << lane);
    if (!w.ready) s->ready_warps &= ~(1u << warp);
    return warp * 32 + lane;
}

static unsigned lowest(unsigned mask) { return unsigned(__builtin_ctz(mask)); }
static unsigned highest(unsigned mask) { return 31 - unsigned(__builtin_clz(mask)); }
static unsigned any_of(State* s, unsigned mask) {
    for (unsigned skip = unsigned(next_random(s) >> 33) % unsigned(__builtin_popcount(mask)); skip; skip--) mask &= mask - 1;
    return lowest(mask);
}

// All threads once, then all again.
static unsigned pick_in_turn(State* s) {
    for (unsigned tries = 0; tries <= s->warps_used; tries++) {
        if (unsigned lanes = s->turn & s->warps[s->cursor].ready) {
            unsigned lane = lowest(lanes);
            s->turn = lane == 31 ? 0 : s->turn & (~0u << (lane + 1));
            return take(s, s->cursor, lane);
        }
        s->cursor = s->cursor + 1 == s->warps_used ? 0 : s->cursor + 1;
        s->turn = ~0u;
    }
    return NONE;
}

static unsigned pick(State* s) {
    if (!s->ready_warps) return NONE;
    switch (s->order) {
        case Order::InTurn: return pick_in_turn(s);
        case Order::Forward:
            if (!(s->ready_warps >> s->cursor & 1)) s->cursor = lowest(s->ready_warps);
            return take(s, s->cursor, lowest(s->warps[s->cursor].ready));
        case Order::Backward:
            if (!(s->ready_warps >> s->cursor & 1)) s->cursor = highest(s->ready_warps);
            return take(s, s->cursor, highest(s->warps[s->cursor].ready));
        default: break;
    }
    unsigned warp = any_of(s, s->ready_warps);
    return take(s, warp, any_of(s, s->warps[warp].ready));
}

static void enter(State* s, unsigned thread) {
    Now* now = s->now;
    const Index& d = now->block_dim;
    s->running = now->linear = thread;
    if (d.x == s->threads) now->thread.x = thread;
    else now->thread = {thread % d.x, thread / d.x % d.y, thread / d.x / d.y};
}

static void refresh(State* s, Fiber* f) {
    // Staggered: else the tops of all stacks fall into the same sets of the cache.
    void** sp = reinterpret_cast<void**>(f->stack + STACK - f->index % 64 * 192);
    *--sp = reinterpret_cast<void*>(bp_begin);   // when it is returned to, the stack is aligned as before a call
    *--sp = nullptr;      // rbp
    *--sp = s;            // rbx
    for (int i = 0; i < 4; i++) *--sp = nullptr;
    f->sp = sp;
}

static Fiber* unused_fiber(State* s) {
    if (s->unused.empty()) {
        const size_t guard = 4096;
        char* memory = static_cast<char*>(mmap(nullptr, STACK + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
        if (memory == MAP_FAILED) fail(s, "no memory for a fiber's stack");
        mprotect(memory, guard, PROT_NONE);
        Fiber* f = new Fiber{nullptr, memory + guard, unsigned(s->fibers.size())};
        s->fibers.push_back(f);
        refresh(s, f);
        return f;
    }
    Fiber* f = s->unused.back();
    s->unused.pop_back();
    return f;
}

static void resume(State* s, unsigned thread) {
    Fiber *from = s->current, *to = s->fiber_of[thread];
    if (!to) to = s->fiber_of[thread] = unused_fiber(s);
    enter(s, thread);
    if (to == from) return;
    s->current = to;
    bp_switch(&from->sp, to->sp);
}

static void open_barrier(State* s) {
    s->waiting = 0;
    s->epoch++;
    s->predicates_last = s->predicates;
    s->predicates = 0;
    for (unsigned w = 0; w < s->warps_used; w++) {
        set_ready(s, w, s->warps[w].at_barrier);
        s->warps[w].at_barrier = 0;
    }
    s->cursor = s->order == Order::Backward ? s->warps_used - 1 : 0;
    s->turn = ~0u;
}

// Nobody can run: some lanes wait for others that will never come.
[[noreturn]] static void report_stuck(State* s) {
    for (unsigned w = 0; w < s->warps_used; w++)
        for (unsigned m = 0; m < s->warps[w].masks; m++)
            for (unsigned g = 0; g < 2; g++) {
                const Lanes& l = s->warps[w].lanes[m];
                if (!l.arrived[g] || l.arrived[g] == l.mask) continue;
                const unsigned missing = l.mask & ~l.arrived[g];
                s->running = w * 32 + lowest(l.arrived[g]);
                fail(s, "warp operation at line %u never completes: lanes %08x of mask %08x are here, of the others %08x have exited and %08x wait at a __syncthreads (line %u)",
                     l.line[g], l.arrived[g], l.mask, missing & s->warps[w].exited, missing & s->warps[w].at_barrier, s->barrier_line);
            }
    fail(s, "deadlock: %u threads wait, nobody can run", s->live);
}

static void wait(State* s) {
    unsigned next = pick(s);
    if (next == NONE) report_stuck(s);
    resume(s, next);
}

static void exit_thread(State* s) {
    Warp& w = s->warps[s->running / 32];
    w.exited |= 1u << (s->running & 31);
    if (s->copies_used && !s->copies[s->running].empty()) fail(s, "the thread ends with asynchronous copies that it never waited for");
    s->live--;
    if (s->live && s->waiting == s->live) open_barrier(s);
}

extern "C" __attribute__((visibility("hidden"), used)) void bp_worker(State* s) {
    for (;;) {
        s->launch->kernel->body(s->argument_pointers);
        exit_thread(s);
        unsigned next = pick(s);
        Fiber* me = s->current;
        if (next != NONE && !s->fiber_of[next]) {
            s->fiber_of[next] = me;
            enter(s, next);
            continue;
        }
        if (next == NONE && s->live) report_stuck(s);
        s->unused.push_back(me);
        if (next != NONE) {
            resume(s, next);
        } else {
            s->current = &s->host;
            bp_switch(&me->sp, s->host.sp);
        }
    }
}

static void barrier(void* state, unsigned line) {
    State* s = static_cast<State*>(state);
    if (s->waiting && s->barrier_line != line) fail(s, "divergent __syncthreads: this thread is at line %u, %u others wait at line %u", line, s->waiting, s->barrier_line);
    s->barrier_line = line;
    s->warps[s->running / 32].at_barrier |= 1u << (s->running & 31);
    if (++s->waiting == s->live) open_barrier(s);
    wait(s);
}

static unsigned barrier_count(void* state, unsigned holds, unsigned line) {
    State* s = static_cast<State*>(state);
    s->predicates += holds;
    barrier(state, line);
    return s->predicates_last;
}

static Lanes& lanes_of(State* s, Warp& w, unsigned mask, unsigned line) {
    for (unsigned i = 0; i < w.masks; i++) if (w.lanes[i].mask == mask) return w.lanes[i];
    if (w.masks == MAX_MASKS) fail(s, "line %u: more than %u different lane masks in one warp", line, MAX_MASKS);
    Lanes& l = w.lanes[w.masks++];
    memset(&l, 0, offsetof(Lanes, bits));
    memset(l.bits, 0xff, sizeof l.bits);
    l.mask = mask;
    return l;
}

static const u64* meet(void* state, unsigned mask, u64 bits, Meeting kind, unsigned line) {
    State* s = static_cast<State*>(state);
    const unsigned thread = s->running, lane = thread & 31, warp = thread / 32;
    Warp& w = s->warps[warp];
    if (!(mask >> lane & 1)) fail(s, "warp operation at line %u: lane %u is not in its own mask %08x", line, lane, mask);
    Lanes& l = lanes_of(s, w, mask & w.present, line);
    const unsigned turn = l.turn[lane]++ & 1;
    if (l.arrived[turn] && l.line[turn] != line) fail(s, "divergent warp operation: this thread is at line %u, lanes %08x wait at line %u", line, l.arrived[turn], l.line[turn]);
    l.line[turn] = line;
    l.bits[turn][lane] = bits;
    l.arrived[turn] |= 1u << lane;
    if (l.arrived[turn] == l.mask) {
        l.arrived[turn ^ 1] = 0;
        if (kind == SYNCWARP) s->clock[warp]++;
        // Lanes that came earlier go first or last as the order has it.
        set_ready(s, warp, s->order == Order::Forward || s->order == Order::Backward ? l.mask & ~(1u << lane) : l.mask);
        if (s->order == Order::Forward || s->order == Order::Backward) return l.bits[turn];
    }
    wait(s);
    return l.bits[turn];
}

static void access(void* state, const void* address, unsigned bytes, Access kind) {
    if (State* s = static_cast<State*>(state)) check_access(s, static_cast<const char*>(address), bytes, kind);
}

static void fence(void* state) { static_cast<State*>(state)->check.fenced = true; }

static void copy_async(void* state, void* to, const void* from, unsigned bytes, unsigned valid) {
    State* s = static_cast<State*>(state);
    if (!s->copies_used) {
        s->copies_used = true;
        s->copies.resize(MAX_THREADS);
        memset(s->copy_group, 0, sizeof s->copy_group);
    }
    if (valid > bytes || (bytes != 4 && bytes != 8 && bytes != 16)) fail(s, "an asynchronous copy of %u bytes, %u of them valid", bytes, valid);
    if (reinterpret_cast<uintptr_t>(to) % bytes || reinterpret_cast<uintptr_t>(from) % bytes) fail(s, "an asynchronous copy of %u bytes is not aligned to them", bytes);
    s->copies[s->running].push_back({to, from, bytes, valid, s->copy_group[s->running]});
}

static void copy_commit(void* state) {
    State* s = static_cast<State*>(state);
    if (s->copies_used) s->copy_group[s->running]++;
}

static void copy_wait(void* state, unsigned pending) {
    State* s = static_cast<State*>(state);
    if (!s->copies_used) return;
    auto& queue = s->copies[s->running];
    const unsigned thread = s->running;
    size_t done = 0;
    while (done < queue.size() && queue[done].group + pending < s->copy_group[thread]) {
        const CopyAsync& c = queue[done++];
        if (s->launch->image->checked) {
            if (c.valid) check_access(s, static_cast<const char*>(c.from), c.valid, READ);
            check_access(s, static_cast<const char*>(c.to), c.bytes, WRITE);
        }
        memcpy(c.to, c.from, c.valid);
        memset(static_cast<char*>(c.to) + c.valid, 0, c.bytes - c.valid);
    }
    queue.erase(queue.begin(), queue.begin() + long(done));
}

static void fail_at(void* state, const char* text, unsigned line) { fail(static_cast<State*>(state), "line %u: %s", line, text); }

const Runtime& runtime() {
    static const Runtime table = {barrier, barrier_count, meet, access, fence, copy_async, copy_commit, copy_wait, fail_at};
    return table;
}

static void begin_block(State* s) {
    s->live = s->threads;
    s->waiting = s->ready_warps = s->predicates = 0;
    s->turn = ~0u;
    s->cursor = s->order == Order::Backward ? s->warps_used - 1 : 0;
    s->epoch++;
    memset(s->fiber_of, 0, s->threads * sizeof s->fiber_of[0]);
    for (unsigned w = 0; w < s->warps_used; w++) {
        Warp& warp = s->warps[w];
        warp.present = s->threads - w * 32 >= 32 ? ~0u : (1u << (s->threads - w * 32)) - 1;
        warp.at_barrier = warp.exited = warp.masks = warp.ready = 0;
        set_ready(s, w, warp.present);
    }
    memset(s->shared_begin, 0xff, size_t(s->shared_end - s->shared_begin));
    memset(s->dynamic, 0xff, s->launch->dynamic_shared);
    if (s->launch->image->checked) check_block_begins(s);
}

static void forget_fibers(State* s) {
    s->unused.clear();
    for (auto f = s->fibers.rbegin(); f != s->fibers.rend(); ++f) {
        refresh(s, *f);
        s->unused.push_back(*f);
    }
    for (auto& queue : s->copies) queue.clear();
}

static void run_blocks(State* s) {
    const unsigned* g = s->launch->grid;
    const u64 blocks = u64(g[0]) * g[1] * g[2];
    for (u64 i = 0; i < blocks; i++) {
        s->block = unsigned(i);
        s->now->block = {unsigned(i % g[0]), unsigned(i / g[0] % g[1]), unsigned(i / g[0] / g[1])};
        begin_block(s);
        s->current = &s->host;
        resume(s, pick(s));
        if (s->error.empty()) continue;
        forget_fibers(s);
        return;
    }
}

// A kernel that leaves all memory ends the process: say at least which one it was, then let the fault happen again.
static thread_local const State* running_state;
static struct sigaction earlier_action;
static void on_fault(int, siginfo_t* info, void*) {
    if (const State* s = running_state) {
        char text[256];
        const Index& b = s->now->block;
        const int n = snprintf(text, sizeof text, "CUDA emulator: %s, block (%u,%u,%u), thread %u: access to %p, which is no memory\n", s->launch->kernel->name, b.x, b.y, b.z, s->running, info->si_addr);
        if (write(2, text, size_t(n)) < 0) _exit(1);
    }
    sigaction(SIGSEGV, &earlier_action, nullptr);
}
static void watch_faults() {
    static const int done = [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        return sigaction(SIGSEGV, &action, &earlier_action);
    }();
    (void)done;
}

static std::mutex pool_lock;
static std::vector<std::unique_ptr<State>> pool;

static std::unique_ptr<State> take_state() {
    {
        std::lock_guard<std::mutex> hold(pool_lock);
        if (!pool.empty()) {
            auto s = std::move(pool.back());
            pool.pop_back();
            return s;
        }
    }
    auto s = std::make_unique<State>();
    s->dynamic_memory = static_cast<char*>(aligned_alloc(1024, MAX_SHARED + 1024));
    return s;
}

std::string run(const Launch& launch, unsigned order) {
    auto s = take_state();
    const unsigned* b = launch.block;
    s->launch = &launch;
    s->error.clear();
    s->order = order > 3 ? Order::Random : Order(order);
    s->random = 0x9e3779b97f4a7c15ull + order;
    s->threads = b[0] * b[1] * b[2];
    s->warps_used = (s->threads + 31) / 32;
    s->copies_used = false;
    s->shared_end = launch.kernel->shared_end;
    s->shared_begin = launch.shared_begin;
    s->dynamic = s->dynamic_memory;
    for (unsigned i = 0; i < launch.kernel->arity; i++) {
        s->arguments[i] = launch.arguments[i];
        s->argument_pointers[i] = &s->arguments[i];
    }
    Now* now = s->now = launch.image->now;
    *now = {{0, 0, 0}, {0, 0, 0}, {b[0], b[1], b[2]}, {launch.grid[0], launch.grid[1], launch.grid[2]}, 0, s->dynamic, s.get()};
    std::unique_lock<std::recursive_mutex> hold_memory(memory_lock(), std::defer_lock);
    if (launch.image->checked) {
        hold_memory.lock();       // nobody frees what a checked kernel may touch
        check_launch_begins(s.get());
    }
    watch_faults();
    running_state = s.get();
    if (s->error.empty()) run_blocks(s.get());
    running_state = nullptr;
    if (launch.image->checked) check_launch_ends(s.get());
    std::string error = std::move(s->error);
    now->state = nullptr;
    std::lock_guard<std::mutex> hold(pool_lock);
    pool.push_back(std::move(s));
    return error;
}
}  // namespace bp
