// What a compiled kernel and the emulator know of each other. No standard headers: every kernel is compiled with this.
#pragma once
#if !defined(__x86_64__) || !defined(__linux__)
#error "the CUDA emulator runs on x86-64 Linux only"
#endif
namespace bp {
using u64 = unsigned long long;
constexpr unsigned MAX_PARAMETERS = 256;
struct Index { unsigned x, y, z; };

// Where the running thread is. The scheduler writes it at every switch, kernels only read it.
struct Now {
    Index thread, block, block_dim, grid_dim;
    unsigned linear;
    char* dynamic_shared;
    void* state;
};

enum Access : unsigned { READ, WRITE, ATOMIC, VOLATILE_READ, VOLATILE_WRITE };
enum Meeting : unsigned { SHUFFLE, SYNCWARP };

struct Runtime {
    void (*barrier)(void* state, unsigned line);
    // Counts the threads of the block whose predicate holds; a barrier too.
    unsigned (*barrier_count)(void* state, unsigned holds, unsigned line);
    // All lanes of `mask` meet; the answer holds the bits of every lane until the caller's next meeting.
    const u64* (*meet)(void* state, unsigned mask, u64 bits, Meeting kind, unsigned line);
    void (*access)(void* state, const void* address, unsigned bytes, Access kind);
    void (*fence)(void* state);
    void (*copy_async)(void* state, void* to, const void* from, unsigned bytes, unsigned valid);
    void (*copy_commit)(void* state);
    void (*copy_wait)(void* state, unsigned pending);
    void (*fail)(void* state, const char* text, unsigned line);
};

struct Kernel {
    const char* name;
    void (*body)(void** arguments);
    unsigned arity;
    const bool* read_only;     // one a parameter
    char* shared_end;          // a kernel's static shared memory ends here, and begins where the kernel's before it ends
};

struct Image {
    Now* now;
    Runtime* runtime;
    char *shared_begin, *shared_end;
    const Kernel *const *kernels, *const *kernels_end;
    bool checked;
};
}  // namespace bp
