// The checked mode: every access of a kernel to memory comes by here.
#include "emulator.h"
#include <algorithm>
#include <cstring>

namespace bp {
static const char* verb(bool write) { return write ? "write" : "read"; }

// Launches are checked one at a time; epochs go on from one to the next.
static uint32_t last_epoch = 1;

// Where an argument's extent is known only that may be touched, else the whole allocation that it points into.
static std::string buffers_of_arguments(State* s) {
    Checker& c = s->check;
    const Launch& l = *s->launch;
    std::vector<Buffer> all = live_buffers();
    c.buffers.clear();
    for (unsigned i = 0; i < l.kernel->arity; i++) {
        char* begin = static_cast<char*>(l.arguments[i]);
        if (!begin) continue;
        auto at = std::upper_bound(all.begin(), all.end(), begin, [](char* p, const Buffer& b) { return p < b.begin; });
        if (at == all.begin() || begin > (at - 1)->begin + (at - 1)->bytes) return "argument " + std::to_string(i) + " points into no live allocation";
        Buffer b = *(at - 1);
        b.read_only = l.kernel->read_only[i];
        if (i < l.extents.size()) {
            if (begin + l.extents[i] > b.begin + b.bytes) return "argument " + std::to_string(i) + " ends past its allocation";
            b.begin = begin;
            b.bytes = l.extents[i];
        }
        c.buffers.push_back(b);
    }
    return "";
}

void check_launch_begins(State* s) {
    Checker& c = s->check;
    s->epoch = last_epoch;
    if (std::string wrong = buffers_of_arguments(s); !wrong.empty()) s->error = std::string(s->launch->kernel->name) + ": " + wrong;
    const size_t cells = size_t(s->shared_end - s->shared_begin) / 4 + MAX_SHARED / 4 + 16;
    if (c.shared.size() < cells) c.shared.resize(cells);
    c.block_epoch.clear();
    c.acquired.clear();
    c.released.clear();
    c.last = 0;
    c.any_acquired = false;
}

void check_launch_ends(State* s) { last_epoch = s->epoch; }

void check_block_begins(State* s) {
    Checker& c = s->check;
    c.block_epoch.push_back(s->epoch);
    if (c.any_acquired) std::fill(c.acquired.begin(), c.acquired.end(), 0);
    c.acquired.push_back(0);
    c.fenced = c.any_acquired = false;
}

static unsigned block_at(const Checker& c, unsigned epoch) {
    return unsigned(std::upper_bound(c.block_epoch.begin(), c.block_epoch.end(), epoch) - c.block_epoch.begin()) - 1;
}

// How an earlier access at `epoch` by `thread` stands to the running one.
enum class Relation { Before, SameThread, SameWarp, OtherWarp, OtherBlock };
static Relation relation(const State* s, unsigned epoch, unsigned clock, unsigned thread, bool shared) {
    const Checker& c = s->check;
    if (epoch < (shared ? c.block_epoch.back() : c.block_epoch.front())) return Relation::Before;
    if (epoch < c.block_epoch.back()) return c.acquired[block_at(c, epoch)] >= epoch ? Relation::Before : Relation::OtherBlock;
    if (epoch < s->epoch) return Relation::Before;
    if (thread == s->running) return Relation::SameThread;
    if (thread / 32 != s->running / 32) return Relation::OtherWarp;
    return clock < s->clock[s->running / 32] ? Relation::Before : Relation::SameWarp;
}

[[noreturn]] static void race(State* s, const char* memory, Relation how, const char* kind, unsigned epoch, unsigned thread) {
    if (how == Relation::OtherBlock) fail(s, "race between blocks in %s memory: %s, thread %u of block number %u was there and nothing orders the two", memory, kind, thread, block_at(s->check, epoch));
    fail(s, "%s-memory race: %s, thread %u was there and no %s stands between", memory, kind, thread, how == Relation::SameWarp ? "__syncwarp" : "barrier");
}

static bool conflicts(Relation r) { return r != Relation::Before && r != Relation::SameThread; }

static void touch(State* s, Cell& c, unsigned char mask, Access kind, bool shared) {
    const bool write = kind != READ, atomic = kind == ATOMIC;
    const char* memory = shared ? "shared" : "global";
    const unsigned warp = s->running / 32;
    if (c.write_bytes & mask && !(atomic && c.write_atomic)) {
        Relation r = relation(s, c.write_epoch, c.write_clock, c.writer, shared);
        if (conflicts(r)) race(s, memory, r, write ? "write after write" : "read after write", c.write_epoch, c.writer);
    }
    if (write && c.read_bytes & mask) {
        Relation r = relation(s, c.read_epoch, c.read_clock, c.reader, shared);
        if (c.read_epoch == s->epoch && c.many_readers == 2) r = Relation::OtherWarp;
        else if (r == Relation::SameThread && c.many_readers == 1 && c.read_clock == s->clock[warp]) r = Relation::SameWarp;
        if (conflicts(r)) race(s, memory, r, "write after read", c.read_epoch, c.reader);
        if (c.foreign_read_epoch && !shared) {
            r = relation(s, c.foreign_read_epoch, 0, MAX_THREADS, shared);
            if (r == Relation::OtherBlock) race(s, memory, r, "write after read", c.foreign_read_epoch, 0);
        }
    }
    if (write) {
        c.write_epoch = s->epoch;
        c.write_clock = s->clock[warp];
        c.writer = uint16_t(s->running);
        c.write_bytes = mask;
        c.write_atomic = atomic;
        return;
    }
    if (c.read_epoch != s->epoch || !(c.read_bytes & mask)) {
        if (c.read_bytes & mask && c.read_epoch < s->check.block_epoch.back()) c.foreign_read_epoch = c.read_epoch;
        c.many_readers = 0;
        c.read_bytes = mask;
    } else if (c.many_readers == 2 || c.reader / 32 != warp) {
        c.many_readers = 2;
    } else if (c.read_clock != s->clock[warp]) {
        c.many_readers = 0;
    } else if (c.reader != s->running) {
        c.many_readers = 1;
    }
    c.read_bytes |= mask;
    c.read_epoch = s->epoch;
    c.read_clock = s->clock[warp];
    c.reader = uint16_t(s->running);
}

static void touch_range(State* s, Cell* cells, size_t offset, unsigned bytes, Access kind, bool shared) {
    const size_t end = offset + bytes;
    for (size_t at = offset / 4; at * 4 < end; at++) {
        const size_t low = std::max(offset, at * 4) - at * 4, high = std::min(end, at * 4 + 4) - at * 4;
        touch(s, cells[at], static_cast<unsigned char>((1u << high) - (1u << low)), kind, shared);
    }
}

// An atomic after a fence hands on what the block wrote; every atomic at the same place takes it up.
static void order_blocks(State* s, const void* address) {
    Checker& c = s->check;
    auto at = std::find_if(c.released.begin(), c.released.end(), [&](auto& r) { return r.first == address; });
    if (at != c.released.end())
        for (const Release& r : at->second) {
            c.acquired[r.block] = std::max(c.acquired[r.block], r.epoch);
            c.any_acquired = true;
        }
    if (!c.fenced) return;
    if (at == c.released.end()) at = c.released.insert(at, {address, {}});
    const unsigned me = unsigned(c.block_epoch.size()) - 1;
    for (unsigned b = 0; c.any_acquired && b < me; b++) if (c.acquired[b]) at->second.push_back({b, c.acquired[b]});
    at->second.push_back({me, s->epoch});
}

[[noreturn]] static void out_of_bounds(State* s, const char* address, unsigned bytes, bool write) {
    const Buffer* near = nullptr;
    for (const Buffer& b : s->check.buffers) if (b.begin <= address && (!near || b.begin > near->begin)) near = &b;
    if (address >= s->launch->image_begin && address < s->launch->image_end) fail(s, "out of bounds %s of %u bytes by thread %u: past the kernels' shared memory", verb(write), bytes, s->running);
    if (!near) fail(s, "out of bounds %s of %u bytes by thread %u: no argument lies there", verb(write), bytes, s->running);
    fail(s, "out of bounds %s of %u bytes by thread %u: %zu bytes from the begin of a buffer of %zu bytes", verb(write), bytes, s->running, size_t(address - near->begin), near->bytes);
}

static bool shared_access(State* s, const char* p, unsigned bytes, Access kind) {
    const Image& image = *s->launch->image;
    const bool write = kind == WRITE || kind == ATOMIC || kind == VOLATILE_WRITE, ordered = kind == VOLATILE_READ || kind == VOLATILE_WRITE;
    const size_t fixed = size_t(s->shared_end - s->shared_begin);
    Cell* cells = s->check.shared.data();
    if (p >= s->shared_begin && p + bytes <= s->shared_end) {
        if (!ordered) touch_range(s, cells, size_t(p - s->shared_begin), bytes, kind, true);
        return true;
    }
    if (p >= s->dynamic && p + bytes <= s->dynamic + s->launch->dynamic_shared) {
        if (!ordered) touch_range(s, cells + fixed / 4 + 4, size_t(p - s->dynamic), bytes, kind, true);
        return true;
    }
    const bool near_dynamic = p >= s->dynamic && p < s->dynamic + MAX_SHARED + 1024;
    if (near_dynamic || (p >= image.shared_begin && p < image.shared_end))
        fail(s, "out of bounds %s of %u bytes by thread %u: past this kernel's shared memory", verb(write), bytes, s->running);
    return false;
}

// What a kernel may read beside the device's memory: its constants and what the emulator keeps for it.
static bool private_access(const State* s, const char* p) {
    const char* state = reinterpret_cast<const char*>(s);
    return (p >= state && p < state + sizeof *s) || (p >= s->launch->image_begin && p < s->launch->image_end);
}

void check_access(State* s, const char* p, unsigned bytes, Access kind) {
    Checker& c = s->check;
    const bool write = kind == WRITE || kind == ATOMIC || kind == VOLATILE_WRITE;
    if (p >= s->current->stack && p < s->current->stack + STACK) return;
    if (shared_access(s, p, bytes, kind) || (!write && private_access(s, p))) return;
    const Buffer *found = nullptr, *read_only = nullptr;
    for (size_t i = 0, n = c.buffers.size(); i < n && !found; i++) {
        const size_t at = c.last + i < n ? c.last + i : c.last + i - n;
        const Buffer& b = c.buffers[at];
        if (p < b.begin || p + bytes > b.begin + b.bytes) continue;
        if (write && b.read_only) {
            read_only = &b;
            continue;
        }
        found = &b;
        c.last = at;
    }
    if (!found && read_only) fail(s, "write to a read-only argument by thread %u, %zu bytes from its begin", s->running, size_t(p - read_only->begin));
    if (!found) out_of_bounds(s, p, bytes, write);
    if (kind == ATOMIC) order_blocks(s, p);
    if (kind == VOLATILE_READ || kind == VOLATILE_WRITE) return;
    touch_range(s, found->cells, size_t(p - found->base), bytes, kind, false);
}
}  // namespace bp
