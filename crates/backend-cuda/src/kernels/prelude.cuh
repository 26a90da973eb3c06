// What every kernel may use. Compiled by NVRTC for devices, and by a host compiler in tests, where
// BP_HOST is defined and the environment of a kernel comes from elsewhere.

#ifndef BP_HOST
#define BP_ENTRY(name)
#define BP_DYN_SHARED(T, name)                          \
    extern __shared__ __align__(16) unsigned char bp_dynamic[]; \
    T* name = (T*)bp_dynamic
#endif

// A launch may start before the one ahead of it is done; nothing is read or written until it is.
#if !defined(BP_HOST) && __CUDA_ARCH__ >= 900
#define BP_BEGIN()                                                  \
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); \
    asm volatile("griddepcontrol.wait;" ::: "memory")
#else
#define BP_BEGIN()
#endif

// 16-bit floats are bits in memory and float in registers.
struct bp_f16 {
    unsigned short bits;
};
struct bp_bf16 {
    unsigned short bits;
};

static __device__ __forceinline__ float bp_value(bp_bf16 x) {
    return __uint_as_float((unsigned)x.bits << 16);
}

static __device__ __forceinline__ bp_bf16 bp_to_bf16(float x) {
    bp_bf16 y;
    const unsigned bits = __float_as_uint(x);
    const unsigned nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    y.bits = (unsigned short)(x != x ? (bits >> 16) | 0x40u : nearest);
    return y;
}

static __device__ __forceinline__ float bp_value(bp_f16 x) {
    const unsigned sign = (unsigned)(x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    // As a float 2^112 times too small, which is exact for subnormal ones too.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * __uint_as_float(0x77800000u)));
}

static __device__ __forceinline__ bp_f16 bp_to_f16(float x) {
    bp_f16 y;
    const unsigned bits = __float_as_uint(x), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    unsigned small;
    if (rest > 0x7f800000u) {
        small = 0x7e00u | ((rest >> 13) & 0x3ffu);
    } else if (rest >= 0x477ff000u) {
        small = 0x7c00u;
    } else if (rest < 0x38800000u) {
        // Adding one half of the smallest step's inverse rounds to a multiple of 2^-24.
        small = __float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u;
    } else {
        small = (rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13;
    }
    y.bits = (unsigned short)(sign | small);
    return y;
}

// To float, cut off, with the last bit set if anything was: rounding that again to fewer bits is
// rounding once.
static __device__ __forceinline__ float bp_to_odd(double x) {
    const float near = (float)x;
    if ((double)near == x || x != x) return near;
    unsigned bits = __float_as_uint(near);
    if (fabs((double)near) > fabs(x)) bits -= 1;
    return __uint_as_float(bits | 1u);
}

// From reals to integers: cut off towards zero; what is outside becomes the nearest one; NaN 0.
static __device__ __forceinline__ int bp_to_i32(double x) {
    if (x != x) return 0;
    return x >= 2147483647.0 ? 2147483647 : x <= -2147483648.0 ? -2147483647 - 1 : (int)x;
}
static __device__ __forceinline__ long long bp_to_i64(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775808.0) return 9223372036854775807ll;
    return x <= -9223372036854775808.0 ? -9223372036854775807ll - 1 : (long long)x;
}
static __device__ __forceinline__ unsigned char bp_to_u8(double x) {
    return x != x || x <= 0.0 ? 0 : x >= 255.0 ? 255 : (unsigned char)x;
}

// Integer division that gives 0 where there is no quotient.
template <class T> static __device__ __forceinline__ T bp_quotient(T a, T b) {
    if (b == (T)0) return (T)0;
    if (b == (T)-1 && (T)-1 < (T)0) return a == (T)(-a) ? (T)0 : (T)-a;
    return (T)(a / b);
}
template <class T> static __device__ __forceinline__ T bp_remainder(T a, T b) {
    if (b == (T)0 || (b == (T)-1 && (T)-1 < (T)0)) return (T)0;
    return (T)(a % b);
}

// V neighbours at once, where their address allows it.
template <class T, int V> struct alignas(sizeof(T) * V <= 16 ? sizeof(T) * V : 16) bp_pack {
    T at[V];
};
template <int V, class T> static __device__ __forceinline__ bp_pack<T, V> bp_load(const T* from, bool aligned) {
    bp_pack<T, V> pack;
    if (aligned) return *(const bp_pack<T, V>*)from;
#pragma unroll
    for (int i = 0; i < V; ++i) pack.at[i] = from[i];
    return pack;
}
template <int V, class T> static __device__ __forceinline__ void bp_store(T* to, const bp_pack<T, V>& pack, bool aligned) {
    if (aligned) {
        *(bp_pack<T, V>*)to = pack;
        return;
    }
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = pack.at[i];
}
static __device__ __forceinline__ bool bp_aligned(const void* p) {
    return ((unsigned long long)p & 15) == 0;
}

// A value of any size from the lane whose number differs in the bits of `mask`.
template <class T> static __device__ __forceinline__ T bp_across(T x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}
static __device__ __forceinline__ unsigned char bp_across(unsigned char x, int mask) {
    return (unsigned char)__shfl_xor_sync(0xffffffffu, (int)x, mask);
}
static __device__ __forceinline__ bool bp_across(bool x, int mask) {
    return __shfl_xor_sync(0xffffffffu, (int)x, mask) != 0;
}
