// CUDA C on the host: `g++ -std=c++17 -ffp-contract=off -fno-toplevel-reorder -include cuda_host.h`. A thread is a fiber, one block runs
// at a time; scheduling and checks are in the library that loads the kernel. Static shared memory belongs into a kernel's own body.
#pragma once
#include "abi.h"
#define BP_HOST 1
#ifdef BP_CHECK
#define BP_UNCHECKED __attribute__((no_sanitize_thread))
#else
#define BP_UNCHECKED
#endif

#define __global__ __attribute__((visibility("hidden")))
#define __device__
#define __host__
#define __constant__ static const
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("bp_shared"), aligned(16)))
#define BP_DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(bp::now.dynamic_shared)

extern "C" {
extern char __start_bp_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_bp_shared[] __attribute__((weak, visibility("hidden")));
extern const bp::Kernel* const __start_bp_kernels[] __attribute__((weak, visibility("hidden")));
extern const bp::Kernel* const __stop_bp_kernels[] __attribute__((weak, visibility("hidden")));
}

typedef bp::Index uint3;
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define BP_VECTOR2(T, name, align) struct __align__(align) name { T x, y; }; \
    static inline name make_##name(T x, T y) { return {x, y}; }
#define BP_VECTOR3(T, name) struct name { T x, y, z; }; \
    static inline name make_##name(T x, T y, T z) { return {x, y, z}; }
#define BP_VECTOR4(T, name, align) struct __align__(align) name { T x, y, z, w; }; \
    static inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }
BP_VECTOR2(char, char2, 2) BP_VECTOR2(unsigned char, uchar2, 2) BP_VECTOR2(short, short2, 4) BP_VECTOR2(unsigned short, ushort2, 4)
BP_VECTOR2(int, int2, 8) BP_VECTOR2(unsigned, uint2, 8) BP_VECTOR2(float, float2, 8) BP_VECTOR2(double, double2, 16)
BP_VECTOR2(long long, longlong2, 16) BP_VECTOR2(unsigned long long, ulonglong2, 16)
BP_VECTOR3(int, int3) BP_VECTOR3(float, float3)
BP_VECTOR4(char, char4, 4) BP_VECTOR4(unsigned char, uchar4, 4) BP_VECTOR4(short, short4, 8) BP_VECTOR4(unsigned short, ushort4, 8)
BP_VECTOR4(int, int4, 16) BP_VECTOR4(unsigned, uint4, 16) BP_VECTOR4(float, float4, 16)
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

namespace bp {
static Now now;
static Runtime runtime;
static const u64* meet(unsigned mask, u64 bits, Meeting kind, unsigned line) { return runtime.meet(now.state, mask, bits, kind, line); }
template <class T> static inline u64 bits(T value) {
    static_assert(sizeof(T) <= 8, "a warp operation takes at most 8 bytes");
    u64 bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> static inline T value(u64 bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
// Which lane a lane reads, inside of its segment of `width` lanes; its own where the segment ends.
static inline unsigned lane() { return now.linear & 31; }
static inline unsigned lane_at(int from, int width) { return (lane() & ~unsigned(width - 1)) | (unsigned(from) & unsigned(width - 1)); }
static inline unsigned lane_up(unsigned delta, int width) { unsigned at = lane() & unsigned(width - 1); return at >= delta ? lane() - delta : lane(); }
static inline unsigned lane_down(unsigned delta, int width) { unsigned at = lane() & unsigned(width - 1); return at + delta < unsigned(width) ? lane() + delta : lane(); }
static inline unsigned lane_xor(int mask, int width) { unsigned from = lane() ^ unsigned(mask); return from < ((lane() & ~unsigned(width - 1)) + width) ? from : lane(); }
template <class T> static inline T shuffle(unsigned mask, T v, unsigned from, unsigned line) {
    if (!(mask >> from & 1)) runtime.fail(now.state, "a shuffle reads a lane outside of its mask", line);
    return value<T>(meet(mask, bits(v), SHUFFLE, line)[from]);
}
static inline unsigned ballot(unsigned mask, bool holds, unsigned line) {
    const u64* lanes = meet(mask, holds, SHUFFLE, line);
    unsigned all = 0;
    for (unsigned i = 0; i < 32; i++) if (mask >> i & 1) all |= unsigned(lanes[i] & 1) << i;
    return all;
}
template <class F> struct Signature;
template <class... A> struct Signature<void(A...)> {
    static constexpr unsigned arity = sizeof...(A);
    static_assert(arity <= MAX_PARAMETERS, "a kernel has too many parameters");
    template <class T> struct Parameter { static_assert(sizeof(T) == 0, "a kernel's parameters are pointers"); };
    template <class T> struct Parameter<T*> { static constexpr bool read_only = false; };
    template <class T> struct Parameter<const T*> { static constexpr bool read_only = true; };
    template <class T> struct Plain { typedef T type; };
    template <class T> struct Plain<T* __restrict> { typedef T* type; };
    static constexpr bool read_only[arity + 1] = {Parameter<typename Plain<A>::type>::read_only...};
    template <void (*F)(A...), int... I> BP_UNCHECKED static void spread(void** a) { F(*reinterpret_cast<typename Plain<A>::type*>(a[I])...); }
    template <void (*F)(A...)> BP_UNCHECKED static void call(void** a) { spread<F, __integer_pack(arity)...>(a); }
};
}  // namespace bp

// The mark tells where the kernel's static shared memory ends: the sections keep the order of the source.
#define BP_ENTRY(name) \
    static char bp_mark_##name __attribute__((section("bp_shared"), used, aligned(16))); \
    extern "C" __attribute__((visibility("default"), used)) const bp::Kernel bp_kernel_##name = \
        {#name, &bp::Signature<decltype(name)>::call<&name>, bp::Signature<decltype(name)>::arity, bp::Signature<decltype(name)>::read_only, &bp_mark_##name}; \
    static const bp::Kernel* const bp_listed_##name __attribute__((section("bp_kernels"), used)) = &bp_kernel_##name;

#ifdef BP_CHECK
#define BP_CHECKED true
#else
#define BP_CHECKED false
#endif
extern "C" __attribute__((visibility("default"), used)) const bp::Image bp_image = {&bp::now, &bp::runtime, __start_bp_shared, __stop_bp_shared, __start_bp_kernels, __stop_bp_kernels, BP_CHECKED};

#define threadIdx (bp::now.thread)
#define blockIdx (bp::now.block)
#define blockDim (bp::now.block_dim)
#define gridDim (bp::now.grid_dim)
#define warpSize 32

#define __syncthreads() bp::runtime.barrier(bp::now.state, __LINE__)
#define __syncthreads_count(p) int(bp::runtime.barrier_count(bp::now.state, (p) != 0, __LINE__))
#define __syncthreads_or(p) int(__syncthreads_count(p) != 0)
#define __syncthreads_and(p) int(__syncthreads_count((p) == 0) == 0)
static inline void bp_syncwarp(unsigned line, unsigned mask = 0xffffffffu) { bp::meet(mask, 0, bp::SYNCWARP, line); }
#define BP_FIRST(a, ...) a
#define __syncwarp(...) bp_syncwarp(__LINE__ __VA_OPT__(,) __VA_ARGS__)
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, unsigned line = __builtin_LINE()) { return bp::shuffle(mask, v, bp::lane_at(from, width), line); }
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, unsigned line = __builtin_LINE()) { return bp::shuffle(mask, v, bp::lane_up(delta, width), line); }
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, unsigned line = __builtin_LINE()) { return bp::shuffle(mask, v, bp::lane_down(delta, width), line); }
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32, unsigned line = __builtin_LINE()) { return bp::shuffle(mask, v, bp::lane_xor(with, width), line); }
static inline unsigned __ballot_sync(unsigned mask, int p, unsigned line = __builtin_LINE()) { return bp::ballot(mask, p != 0, line); }
static inline int __any_sync(unsigned mask, int p, unsigned line = __builtin_LINE()) { return bp::ballot(mask, p != 0, line) != 0; }
static inline int __all_sync(unsigned mask, int p, unsigned line = __builtin_LINE()) { return bp::ballot(mask, p != 0, line) == mask; }
static inline void __threadfence() { bp::runtime.fence(bp::now.state); }
static inline void __threadfence_block() {}
static inline void __nanosleep(unsigned) {}
static inline void __trap(unsigned line = __builtin_LINE()) { bp::runtime.fail(bp::now.state, "__trap", line); }

// For host twins of inline PTX: the bits of all lanes, and copies that arrive only when they are waited for, so that a missing wait shows.
static inline const bp::u64* bp_host_lanes(unsigned mask, bp::u64 bits, unsigned line = __builtin_LINE()) { return bp::meet(mask, bits, bp::SHUFFLE, line); }
// Copies `bytes` bytes, of which the first `valid` come from `from` and the others are zero.
static inline void bp_host_copy_async(void* to, const void* from, unsigned bytes, unsigned valid) { bp::runtime.copy_async(bp::now.state, to, from, bytes, valid); }
static inline void bp_host_copy_commit() { bp::runtime.copy_commit(bp::now.state); }
static inline void bp_host_copy_wait(unsigned pending_groups) { bp::runtime.copy_wait(bp::now.state, pending_groups); }

#include "cuda_math.h"
#include "cuda_atomic.h"
