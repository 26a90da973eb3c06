// CUDA's arithmetic for the host: functions overloaded for float and double compute in the type of their argument.
#pragma once
#define BP_UNARY(name) extern "C" double name(double) noexcept; extern "C" float name##f(float) noexcept; \
    static inline float name(float x) { return __builtin_##name##f(x); }
BP_UNARY(exp) BP_UNARY(exp2) BP_UNARY(expm1) BP_UNARY(log) BP_UNARY(log2) BP_UNARY(log10) BP_UNARY(log1p)
BP_UNARY(sqrt) BP_UNARY(cbrt) BP_UNARY(sin) BP_UNARY(cos) BP_UNARY(tan) BP_UNARY(asin) BP_UNARY(acos) BP_UNARY(atan)
BP_UNARY(sinh) BP_UNARY(cosh) BP_UNARY(tanh) BP_UNARY(asinh) BP_UNARY(acosh) BP_UNARY(atanh) BP_UNARY(erf) BP_UNARY(erfc)
BP_UNARY(lgamma) BP_UNARY(tgamma) BP_UNARY(floor) BP_UNARY(ceil) BP_UNARY(trunc) BP_UNARY(round) BP_UNARY(rint) BP_UNARY(nearbyint) BP_UNARY(fabs)
#define BP_BINARY(name) extern "C" double name(double, double) noexcept; extern "C" float name##f(float, float) noexcept; \
    static inline float name(float x, float y) { return __builtin_##name##f(x, y); }
BP_BINARY(pow) BP_BINARY(fmod) BP_BINARY(atan2) BP_BINARY(fmin) BP_BINARY(fmax) BP_BINARY(copysign) BP_BINARY(hypot) BP_BINARY(nextafter) BP_BINARY(remainder) BP_BINARY(fdim)
extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
static inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
static inline float ldexp(float x, int e) { return __builtin_ldexpf(x, e); }
static inline double scalbn(double x, int e) { return __builtin_ldexp(x, e); }
static inline float scalbnf(float x, int e) { return __builtin_ldexpf(x, e); }

static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long abs(long x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return __builtin_fabsf(x); }
static inline double abs(double x) { return __builtin_fabs(x); }
template <class T> static inline bool isnan(T x) { return __builtin_isnan(x); }
template <class T> static inline bool isinf(T x) { return __builtin_isinf(x); }
template <class T> static inline bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T> static inline bool signbit(T x) { return __builtin_signbit(x); }

// As in CUDA the type of mixed integers is the usual common one; floats ignore a NaN.
template <class A, class B> static inline auto min(A a, B b) -> decltype(a + b) {
    using T = decltype(a + b);
    if constexpr (T(0.5) != T(0)) return __builtin_isnan(T(a)) ? T(b) : T(b) < T(a) ? T(b) : T(a);
    else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> static inline auto max(A a, B b) -> decltype(a + b) {
    using T = decltype(a + b);
    if constexpr (T(0.5) != T(0)) return __builtin_isnan(T(a)) ? T(b) : T(a) < T(b) ? T(b) : T(a);
    else return T(a) < T(b) ? T(b) : T(a);
}

static inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
static inline float exp10f(float x) { return float(__builtin_pow(10.0, double(x))); }
static inline double exp10(double x) { return __builtin_pow(10.0, x); }
static inline void sincosf(float x, float* s, float* c) { *s = __builtin_sinf(x); *c = __builtin_cosf(x); }
static inline void sincos(double x, double* s, double* c) { *s = __builtin_sin(x); *c = __builtin_cos(x); }

// A first guess by the tail's expansion, then Halley's method; near one it works on the complement, which is exact there.
static inline double erfinv(double x) {
    const double a = __builtin_fabs(x);
    if (!(a < 1.0)) return a == 1.0 ? __builtin_copysign(__builtin_inf(), x) : __builtin_nan("");
    if (a < 1e-8) return x * 0.88622692545275801365;
    const double l = __builtin_log1p(-a * a), t = 4.3307467508 + l / 2;   // 2 / (pi * 0.147)
    double y = __builtin_sqrt(__builtin_sqrt(t * t - l / 0.147) - t);
    for (int i = 0; i < 4; i++) {
        const double error = a < 0.5 ? __builtin_erf(y) - a : (1.0 - a) - __builtin_erfc(y);
        const double newton = error / (1.12837916709551257390 * __builtin_exp(-y * y));
        y -= newton / (1.0 + y * newton);
    }
    return __builtin_copysign(y, x);
}
static inline float erfinvf(float x) { return float(erfinv(double(x))); }
static inline float erfinv(float x) { return erfinvf(x); }

static inline float __int_as_float(int v) { return bp::value<float>(bp::bits(v)); }
static inline float __uint_as_float(unsigned v) { return bp::value<float>(bp::bits(v)); }
static inline int __float_as_int(float v) { return bp::value<int>(bp::bits(v)); }
static inline unsigned __float_as_uint(float v) { return bp::value<unsigned>(bp::bits(v)); }
static inline double __longlong_as_double(long long v) { return bp::value<double>(bp::bits(v)); }
static inline long long __double_as_longlong(double v) { return bp::value<long long>(bp::bits(v)); }
static inline int __mulhi(int a, int b) { return int((long long)(a) * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(bp::u64(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)(a) * b >> 64); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline unsigned __brev(unsigned v) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i);
    return r;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) { return unsigned(((bp::u64(high) << 32 | low) << (by & 31)) >> 32); }
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) { return unsigned((bp::u64(high) << 32 | low) >> (by & 31)); }

static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __expf(float x) { return __builtin_expf(x); }
static inline float __exp2f(float x) { return __builtin_exp2f(x); }
static inline float __logf(float x) { return __builtin_logf(x); }
static inline float __log2f(float x) { return __builtin_log2f(x); }
static inline float __powf(float x, float y) { return __builtin_powf(x, y); }
static inline float __sinf(float x) { return __builtin_sinf(x); }
static inline float __cosf(float x) { return __builtin_cosf(x); }
static inline float __tanhf(float x) { return __builtin_tanhf(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline int __float2int_rn(float x) { return int(__builtin_rintf(x)); }
static inline int __float2int_rz(float x) { return int(x); }
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(unsigned x) { return float(x); }
static inline float __double2float_rn(double x) { return float(x); }
