// What every kernel may use. Compiled by NVRTC for devices, and by a host compiler in tests, where
// BP_HOST is defined and the environment of a kernel comes from elsewhere.

#ifndef BP_HOST
#define BP_ENTRY(name)
#define BP_DYN_SHARED(T, name)                          \
    extern __shared__ __align__(16) unsigned char bp_dynamic[]; \
    T* name = (T*)bp_dynamic
#endif

// A launch may start before the one ahead of it is done; nothing is read or written until it is. Only
// then may the next one start: on an H200, blocks that wait in threes and fours made steps of small
// launches a fifth slower.
#if !defined(BP_HOST) && __CUDA_ARCH__ >= 900
#define BP_BEGIN()                                     \
    asm volatile("griddepcontrol.wait;" ::: "memory"); \
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
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
    if (b == (T)-1 && (T)-1 < (T)0) {
        // The lowest number is its own negative; there is no quotient where it is that of 64 bits.
        const T negative = (T)(0 - (unsigned long long)a);
        return sizeof(T) == 8 && negative == a ? (T)0 : negative;
    }
    return (T)(a / b);
}
template <class T> static __device__ __forceinline__ T bp_remainder(T a, T b) {
    if (b == (T)0 || (b == (T)-1 && (T)-1 < (T)0)) return (T)0;
    return (T)(a % b);
}

// A product and a sum, rounded once; integers wrap.
static __device__ __forceinline__ float bp_fma(float a, float b, float c) {
    return fmaf(a, b, c);
}
static __device__ __forceinline__ double bp_fma(double a, double b, double c) {
    return fma(a, b, c);
}
static __device__ __forceinline__ int bp_fma(int a, int b, int c) {
    return (int)((unsigned)a * (unsigned)b + (unsigned)c);
}
static __device__ __forceinline__ long long bp_fma(long long a, long long b, long long c) {
    return (long long)((unsigned long long)a * (unsigned long long)b + (unsigned long long)c);
}
static __device__ __forceinline__ unsigned char bp_fma(unsigned char a, unsigned char b, unsigned char c) {
    return (unsigned char)(a * b + c);
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

// A value that is kept in two places: what is stored goes to the near one, and to the other if it is
// due there.
template <class T> struct bp_both {
    T *near, *far;
    bool due;
    struct element {
        T *near, *far;
        bool due;
        __device__ __forceinline__ void operator=(T x) const {
            *near = x;
            if (due) *far = x;
        }
    };
    __device__ __forceinline__ element operator[](long long i) const {
        return {near + i, far + i, due};
    }
};

// Whether the device copies by itself; an older one copies at once.
#if defined(BP_HOST) || __CUDA_ARCH__ >= 800
#define BP_COPIES
#endif
template <int BYTES> static __device__ __forceinline__ void bp_copy_now(void* to, const void* from, bool valid) {
#pragma unroll
    for (int i = 0; i < BYTES / 4; ++i) ((unsigned*)to)[i] = valid ? ((const unsigned*)from)[i] : 0;
}
// Copies to shared memory that go on by themselves: BYTES bytes, or zeros where `valid` is false. What is
// copied is there for the threads that wait at a barrier after this thread has waited for its copies.
template <int BYTES> static __device__ __forceinline__ void bp_copy_async(void* to, const void* from, bool valid) {
#ifdef BP_HOST
    bp_host_copy_async(to, from, BYTES, valid ? BYTES : 0);
#elif !defined(BP_COPIES)
    bp_copy_now<BYTES>(to, from, valid);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(to), bytes = valid ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(BYTES), "r"(bytes) : "memory");
#endif
}
template <int BYTES> static __device__ __forceinline__ void bp_copy_async(void* to, const void* from) {
#ifdef BP_HOST
    bp_host_copy_async(to, from, BYTES, BYTES);
#elif !defined(BP_COPIES)
    bp_copy_now<BYTES>(to, from, true);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(to);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(BYTES) : "memory");
#endif
}
// The copies since the last time are a group; waiting leaves the last PENDING groups under way.
static __device__ __forceinline__ void bp_copy_commit() {
#ifdef BP_HOST
    bp_host_copy_commit();
#elif defined(BP_COPIES)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int PENDING> static __device__ __forceinline__ void bp_copy_wait() {
#ifdef BP_HOST
    bp_host_copy_wait(PENDING);
#elif defined(BP_COPIES)
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// A barrier for the warps that a part of a block consists of, 1 to 15 of them. On the host all parts
// wait for each other: they have to come here equally often.
static __device__ __forceinline__ void bp_barrier(int part, int threads) {
#ifdef BP_HOST
    __syncthreads();
#else
    asm volatile("bar.sync %0, %1;" ::"r"(part), "r"(threads) : "memory");
#endif
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

// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011): block `block` of a seed's stream.
static __device__ __forceinline__ bp_pack<unsigned, 4> bp_philox(long long seed, long long stream, unsigned long long block) {
    unsigned k0 = (unsigned)seed, k1 = (unsigned)((unsigned long long)seed >> 32);
    unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32);
    unsigned c2 = (unsigned)stream, c3 = (unsigned)((unsigned long long)stream >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned long long a = (unsigned long long)c0 * 0xD2511F53u, b = (unsigned long long)c2 * 0xCD9E8D57u;
        c0 = (unsigned)(b >> 32) ^ c1 ^ k0;
        c1 = (unsigned)b;
        c2 = (unsigned)(a >> 32) ^ c3 ^ k1;
        c3 = (unsigned)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    bp_pack<unsigned, 4> words;
    words.at[0] = c0, words.at[1] = c1, words.at[2] = c2, words.at[3] = c3;
    return words;
}
static __device__ __forceinline__ float bp_uniform_f32(unsigned word) {
    return (float)(word >> 8) * (1.0f / 16777216.0f);
}
static __device__ __forceinline__ double bp_uniform_f64(unsigned low, unsigned high) {
    return (double)(((unsigned long long)high << 32 | low) >> 11) * (1.0 / 9007199254740992.0);
}

// The logarithmic derivative of the gamma function (NIST DLMF 5.5.2, 5.5.4 and 5.11.2).
static __device__ double bp_cotangent(double x) {
    const double pi = 3.14159265358979323846, part = x - round(x);
    return part == 0.0 ? __longlong_as_double(0x7ff8000000000000ll) : 1.0 / tan(pi * part);
}
static __device__ double digamma(double x) {
    const double pi = 3.14159265358979323846;
    if (x == 0.0) return copysign(__longlong_as_double(0x7ff0000000000000ll), -x);
    double reflected = 0.0;
    if (x < 0.0) {
        reflected = -pi * bp_cotangent(x);
        x = 1.0 - x;
    }
    double sum = 0.0;
    while (x < 12.0) {
        sum -= 1.0 / x;
        x += 1.0;
    }
    if (x == __longlong_as_double(0x7ff0000000000000ll)) return x + reflected;
    const double series[7] = {1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32760.0, 1.0 / 12.0};
    const double square = 1.0 / (x * x);
    double total = 0.0;
    for (int j = 6; j >= 0; --j) total = (total + series[j]) * square;
    return sum + log(x) - 0.5 / x - total + reflected;
}
static __device__ __forceinline__ float digamma(float x) {
    return (float)digamma((double)x);
}

// Hurwitz's zeta function by Euler's and Maclaurin's formula (NIST DLMF 25.11.5).
static __device__ double bp_zeta(double s, double q) {
    if (q == __longlong_as_double(0x7ff0000000000000ll)) return 0.0;
    const double terms[8] = {1.0 / 12.0,          -1.0 / 720.0,           1.0 / 30240.0,          -1.0 / 1209600.0,
                             1.0 / 47900160.0,    -691.0 / 1307674368000.0, 1.0 / 74724249600.0, -3617.0 / 10670622842880000.0};
    double sum = 0.0;
    while (q < 12.0 + s) {
        sum += pow(q, -s);
        q += 1.0;
    }
    const double power = pow(q, -s);
    double factor = s * power / q;
    sum += power * (q / (s - 1.0) + 0.5);
    for (int j = 0; j < 8; ++j) {
        sum += terms[j] * factor;
        const double k = 2.0 * j + 1.0;
        factor *= (s + k) / q * ((s + k + 1.0) / q);
    }
    return sum;
}

// The derivative of order `n`, at most 170, of the cotangent where that is `c`: a polynomial of `c`.
static __device__ double bp_cotangent_derivative(int n, double c) {
    double p[173] = {0.0, 1.0};
    int degree = 1;
    for (int step = 0; step < n; ++step) {
        double next[173] = {0.0};
        for (int k = 1; k <= degree; ++k) {
            next[k - 1] -= k * p[k];
            next[k + 1] -= k * p[k];
        }
        ++degree;
        for (int k = 0; k <= degree; ++k) p[k] = next[k];
    }
    double sum = 0.0;
    for (int k = degree; k >= 0; --k) sum = sum * c + p[k];
    return sum;
}

// The derivative of order `n` of digamma (NIST DLMF 25.11.12, and 5.15.6 for negative `x`).
static __device__ double polygamma(double n, double x) {
    const double pi = 3.14159265358979323846, nan = __longlong_as_double(0x7ff8000000000000ll);
    n = round(n);
    if (n == 0.0) return digamma(x);
    if (!(n >= 1.0 && n <= 170.0) || x != x || x == -__longlong_as_double(0x7ff0000000000000ll)) return nan;
    const int order = (int)n;
    const double sign = order % 2 == 1 ? 1.0 : -1.0;
    double slope = 0.0, turn = 1.0;
    if (x <= 0.0) {
        if (x == floor(x)) return order % 2 == 1 ? __longlong_as_double(0x7ff0000000000000ll) : nan;
        slope = pow(pi, n + 1.0) * bp_cotangent_derivative(order, bp_cotangent(x));
        turn = -sign;
        x = 1.0 - x;
    }
    double factorial = 1.0;
    for (int k = 2; k <= order; ++k) factorial *= k;
    return turn * (sign * factorial * bp_zeta(n + 1.0, x)) - slope;
}
static __device__ __forceinline__ float polygamma(float n, float x) {
    return (float)polygamma((double)n, (double)x);
}

// The nearest float with 11 bits, which is what tensor cores look at.
static __device__ __forceinline__ float bp_to_tf32(float x) {
#ifdef BP_HOST
    const unsigned bits = __float_as_uint(x);
    return x - x != 0.0f ? x : __uint_as_float((bits + 0x1000u) & 0xffffe000u);
#else
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
#endif
}

// Adds to a warp's 16 by 8 sums the products of 16 by 8 and 8 by 8 such numbers. With g = lane / 4 and
// t = lane % 4, a lane holds a = (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), b = (t, g), (t + 4, g) and
// c = (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
static __device__ __forceinline__ void bp_mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
#ifdef BP_HOST
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const auto both = [](float low, float high) {
        return (unsigned long long)__float_as_uint(high) << 32 | __float_as_uint(low);
    };
    float rows[2][8], columns[2][8];
    for (int half = 0; half < 2; ++half) {
        const unsigned long long* lanes = bp_host_lanes(0xffffffffu, both(a[2 * half], a[2 * half + 1]));
        for (int i = 0; i < 4; ++i) {
            rows[0][half * 4 + i] = __uint_as_float((unsigned)lanes[g * 4 + i]);
            rows[1][half * 4 + i] = __uint_as_float((unsigned)(lanes[g * 4 + i] >> 32));
        }
    }
    const unsigned long long* lanes = bp_host_lanes(0xffffffffu, both(b[0], b[1]));
    for (int j = 0; j < 2; ++j) {
        for (int i = 0; i < 4; ++i) {
            columns[j][i] = __uint_as_float((unsigned)lanes[(2 * t + j) * 4 + i]);
            columns[j][4 + i] = __uint_as_float((unsigned)(lanes[(2 * t + j) * 4 + i] >> 32));
        }
    }
    for (int k = 0; k < 8; ++k) {
        for (int j = 0; j < 2; ++j) {
            c[j] = fmaf(rows[0][k], columns[j][k], c[j]);
            c[2 + j] = fmaf(rows[1][k], columns[j][k], c[2 + j]);
        }
    }
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
          "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#endif
}
