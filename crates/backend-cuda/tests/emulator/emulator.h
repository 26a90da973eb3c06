// The scheduler's state and what the fake driver asks of it.
#pragma once
#include "abi.h"
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace bp {
constexpr unsigned MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / 32, MAX_MASKS = 16, NONE = ~0u;
constexpr size_t MAX_SHARED = 227 << 10, STACK = 64 << 10;

enum class Order : unsigned { InTurn, Forward, Backward, Random };

struct Fiber { void* sp; char* stack; unsigned index; };

// The lanes named by one mask meet again and again; two slots are enough, since no lane gets two meetings ahead.
struct Lanes {
    unsigned mask, arrived[2], line[2];
    uint8_t turn[32];
    u64 bits[2][32];
};
struct Warp {
    unsigned ready, at_barrier, present, exited, masks;
    Lanes lanes[MAX_MASKS];
};
struct CopyAsync { void* to; const void* from; unsigned bytes, valid, group; };

// Who touched four bytes last. An epoch is unique over blocks and launches: it tells between which barriers an access was.
struct Cell {
    uint32_t write_epoch, read_epoch, foreign_read_epoch, write_clock, read_clock;
    uint16_t writer, reader;
    uint8_t write_bytes, read_bytes, write_atomic, many_readers;
};
struct Buffer { char* begin; size_t bytes; char* base; Cell* cells; bool read_only; };   // cells begin at base
struct Release { unsigned block, epoch; };

struct Launch {
    const Image* image;
    const Kernel* kernel;
    const char *image_begin, *image_end;
    char* shared_begin;                // of this kernel's static shared memory
    unsigned grid[3], block[3], dynamic_shared;
    void* arguments[MAX_PARAMETERS];
    std::vector<size_t> extents;       // bytes that each argument may touch; empty: the whole allocation
};

struct Checker {
    std::vector<Cell> shared;
    std::vector<Buffer> buffers;       // sorted by address
    std::vector<unsigned> block_epoch; // first epoch of each block of this launch
    std::vector<unsigned> acquired;    // up to which epoch this block sees another block's writes
    std::vector<std::pair<const void*, std::vector<Release>>> released;
    size_t last = 0;
    bool fenced = false, any_acquired = false;
};

struct State {
    Now* now;
    const Launch* launch;
    void* arguments[MAX_PARAMETERS];
    void* argument_pointers[MAX_PARAMETERS];
    Order order;
    u64 random;
    unsigned threads, warps_used, live, waiting, barrier_line, ready_warps, cursor, turn, predicates, predicates_last;
    unsigned running, block, epoch = 0, clock[MAX_WARPS] = {};
    char *shared_begin, *shared_end, *dynamic;
    Fiber host, *current, *fiber_of[MAX_THREADS];
    std::vector<Fiber*> fibers, unused;
    Warp warps[MAX_WARPS];
    std::vector<std::vector<CopyAsync>> copies;
    unsigned copy_group[MAX_THREADS];
    bool copies_used;
    Checker check;
    std::string error;
    char* dynamic_memory;
};

// Runs a launch to its end; the answer is empty, or says what the kernel did wrong.
std::string run(const Launch& launch, unsigned order);
const Runtime& runtime();

[[noreturn]] void fail(State* s, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The checked mode's part (check.cpp).
void check_launch_begins(State* s);
void check_launch_ends(State* s);
void check_block_begins(State* s);
void check_access(State* s, const char* address, unsigned bytes, Access kind);

// The device's memory (memory.cpp).
void* allocate(size_t bytes);                 // null: there is no room
bool release(void* memory);                   // false: no such allocation
bool inside(const void* memory, size_t bytes);
std::vector<Buffer> live_buffers();
size_t live_bytes(), live_count(), room();
std::recursive_mutex& memory_lock();
std::string setting(const char* name);
void say(const std::string& message);
const std::string& last_message();
}  // namespace bp
