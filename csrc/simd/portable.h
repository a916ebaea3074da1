/* GCC/clang vector extensions, 4 lanes: any architecture.  Masks are integer vectors of all-ones or all-zeros. */
#ifndef STRATAC_SIMD_PORTABLE_H
#define STRATAC_SIMD_PORTABLE_H

#define VL 4
#define SIMD_ISA "portable"

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef vi vm;
typedef uint32_t simd_u32 __attribute__((vector_size(16)));
typedef double simd_f64 __attribute__((vector_size(16)));
typedef struct { simd_f64 lo, hi; } vd;

static inline vi vf_as_vi(vf a) { return (vi)a; }
static inline vf vi_as_vf(vi a) { return (vf)a; }
static inline vi vi_set1(int32_t x) { return (vi){x, x, x, x}; }
static inline vi vi_iota(void) { return (vi){0, 1, 2, 3}; }
static inline vm vm_first(int64_t n) { return vi_iota() < vi_set1((int32_t)n); }

static inline vf vf_set1(float x) { return (vf){x, x, x, x}; }
static inline vf vf_zero(void) { return (vf){0, 0, 0, 0}; }
static inline vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vf_load_strided(const float *p, int64_t stride, int64_t n)
{
    vf v = vf_zero();
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i * stride];
    return v;
}
/* table[index mod 16] */
static inline vf vf_lookup(const float table[16], vi index)
{
    vf v = vf_zero();
    for (int i = 0; i < VL; i++)
        v[i] = table[index[i] & 15];
    return v;
}
static inline vf vf_load_n(const float *p, int64_t n) { return n == VL ? vf_load(p) : vf_load_strided(p, 1, n); }
static inline void vf_store_n(float *p, vf v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = v[i];
}
static inline float vf_first(vf v) { return v[0]; }

static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_quotient(vf a, vf b) { return vf_div(a, b); } /* avx512.h */
static inline vf vf_neg(vf a) { return -a; }
static inline vf vf_abs(vf a) { return (vf)((vi)a & vi_set1(0x7fffffff)); }
#ifdef __FP_FAST_FMAF
static inline vf vf_fma(vf a, vf b, vf c)
{
    return (vf){__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                __builtin_fmaf(a[3], b[3], c[3])};
}
#else
#define SIMD_UNFUSED
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
#endif
static inline vf vf_fnma(vf a, vf b, vf c) { return vf_fma(-a, b, c); }
static inline vf vf_sqrt(vf a)
{
    return (vf){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}

static inline vm vf_lt(vf a, vf b) { return a < b; }
static inline vm vf_le(vf a, vf b) { return a <= b; }
static inline vm vf_gt(vf a, vf b) { return a > b; }
static inline vm vf_ge(vf a, vf b) { return a >= b; }
static inline vm vf_eq(vf a, vf b) { return a == b; }
static inline vm vf_ne(vf a, vf b) { return a != b; }
static inline vm vm_and(vm a, vm b) { return a & b; }
static inline vm vm_or(vm a, vm b) { return a | b; }
static inline vm vm_xor(vm a, vm b) { return a ^ b; }
static inline vm vm_not(vm a) { return ~a; }
static inline vm vm_and_lt(vm m, vf a, vf b) { return vm_and(m, vf_lt(a, b)); }
static inline int vm_any(vm a) { return (a[0] | a[1] | a[2] | a[3]) != 0; }
static inline int vm_all(vm a) { return (a[0] & a[1] & a[2] & a[3]) != 0; }
static inline vf vf_select(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }

/* b where either operand is NaN. */
static inline vf vf_min_fast(vf a, vf b) { return vf_select(a < b, a, b); }
static inline vf vf_max_fast(vf a, vf b) { return vf_select(a > b, a, b); }
static inline vf vf_min(vf a, vf b) { return vf_select(a != a, a, vf_min_fast(a, b)); }
static inline vf vf_max(vf a, vf b) { return vf_select(a != a, a, vf_max_fast(a, b)); }
/* The same where the bound is no NaN. */
static inline vf vf_at_most(vf x, vf bound) { return vf_min_fast(bound, x); }
static inline vf vf_at_least(vf x, vf bound) { return vf_max_fast(bound, x); }

static inline vi vi_load(const int32_t *p)
{
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vi_store(int32_t *p, vi v) { memcpy(p, &v, sizeof v); }
static inline vi vi_load_n(const int32_t *p, int64_t n)
{
    vi v = {0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}
static inline void vi_store_n(int32_t *p, vi v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = v[i];
}
static inline vi vi_load_u16(const uint16_t *p) { return (vi){p[0], p[1], p[2], p[3]}; }
static inline vi vi_load_u8(const uint8_t *p) { return (vi){p[0], p[1], p[2], p[3]}; }
static inline void vi_store_u16(uint16_t *p, vi v)
{
    for (int i = 0; i < VL; i++)
        p[i] = (uint16_t)v[i];
}
static inline void vi_store_u8(uint8_t *p, vi v)
{
    for (int i = 0; i < VL; i++)
        p[i] = (uint8_t)v[i];
}
/* Wrapping arithmetic goes through unsigned lanes: signed overflow is undefined. */
static inline vi vi_add(vi a, vi b) { return (vi)((simd_u32)a + (simd_u32)b); }
static inline vi vi_sub(vi a, vi b) { return (vi)((simd_u32)a - (simd_u32)b); }
static inline vi vi_mul(vi a, vi b) { return (vi)((simd_u32)a * (simd_u32)b); }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
static inline vi vi_xor(vi a, vi b) { return a ^ b; }
static inline vi vi_shl(vi a, int n) { return (vi)((simd_u32)a << n); }
static inline vi vi_sar(vi a, int n) { return a >> n; }
static inline vi vi_shr(vi a, int n) { return (vi)((simd_u32)a >> n); }
static inline vm vi_eq(vi a, vi b) { return a == b; }
static inline vm vi_gt(vi a, vi b) { return a > b; }
static inline vi vi_select(vm m, vi a, vi b) { return (m & a) | (~m & b); }
static inline vi vi_min(vi a, vi b) { return vi_select(a < b, a, b); }
static inline vi vi_max(vi a, vi b) { return vi_select(a > b, a, b); }

static inline vf vf_from_i32(vi a) { return __builtin_convertvector(a, vf); }
static inline vi vi_from_vf(vf a)
{
    /* Out of range is undefined in C; give what x86 gives, and give it on every architecture. */
    vm in = (a >= -2147483648.0f) & (a < 2147483648.0f);
    return vi_select(in, __builtin_convertvector(vf_select(in, a, vf_zero()), vi), vi_set1(INT32_MIN));
}
static inline vf vf_iota(void) { return (vf){0, 1, 2, 3}; }

/* Every float of magnitude 2^23 or more is an integer already; below, the int32 conversion is exact.  The sign bit is put
 * back so that -0.25 rounds to -0. */
static inline vf simd_keep_sign(vf rounded, vf a)
{
    vf r = (vf)(((vi)rounded & vi_set1(0x7fffffff)) | ((vi)a & vi_set1(INT32_MIN)));
    return vf_select(vf_abs(a) < 8388608.0f, r, a);
}
static inline vf simd_trunc_small(vf a)
{
    vf safe = vf_select(vf_abs(a) < 8388608.0f, a, vf_zero());
    return __builtin_convertvector(__builtin_convertvector(safe, vi), vf);
}
static inline vf vf_trunc(vf a) { return simd_keep_sign(simd_trunc_small(a), a); }
static inline vf vf_floor(vf a)
{
    vf t = simd_trunc_small(a);
    return simd_keep_sign(t - vf_select(t > a, vf_set1(1), vf_zero()), a);
}
static inline vf vf_ceil(vf a)
{
    vf t = simd_trunc_small(a);
    return simd_keep_sign(t + vf_select(t < a, vf_set1(1), vf_zero()), a);
}
static inline vf vf_round(vf a)
{
    vf magic = vf_set1(8388608.0f), b = vf_abs(a);
    return simd_keep_sign((b + magic) - magic, a);
}

static inline vi vi_nearest(vf a) { return vi_from_vf(vf_round(a)); }

/* Booleans in memory are bytes, 0 or 1 (any non-zero reads as true). */
static inline vm vm_load_n(const uint8_t *p, int64_t n)
{
    vm m = {0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++)
        m[i] = p[i] ? -1 : 0;
    return m;
}
static inline void vm_store_n(uint8_t *p, vm m, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = m[i] != 0;
}

/* One order for every reduction: lane i with lane i + 2, then + 1. */
static inline vf vf_swap2(vf v) { return (vf){v[2], v[3], v[0], v[1]}; }
static inline vf vf_swap1(vf v) { return (vf){v[1], v[0], v[3], v[2]}; }
#define SIMD_REDUCE(name, op)                                                                                              \
    static inline float name(vf v)                                                                                         \
    {                                                                                                                      \
        v = op(v, vf_swap2(v));                                                                                            \
        return vf_first(op(v, vf_swap1(v)));                                                                               \
    }
SIMD_REDUCE(vf_reduce_add, vf_add)
SIMD_REDUCE(vf_reduce_max, vf_max)
SIMD_REDUCE(vf_reduce_min, vf_min)
#undef SIMD_REDUCE

/* y * 2^n for integral n in [-250, 250]: the first of two halves is exact, so denormals are rounded once. */
static inline vf simd_pow2(vi n) { return vi_as_vf(vi_shl(vi_add(n, vi_set1(127)), 23)); }
static inline vf vf_ldexp(vf y, vf n)
{
    vi i = vi_from_vf(n), half = vi_sar(i, 1);
    return vf_mul(vf_mul(y, simd_pow2(half)), simd_pow2(vi_sub(i, half)));
}

static inline vd vd_set1(double x) { return (vd){{x, x}, {x, x}}; }
static inline vd vd_from_vf(vf a) { return (vd){{a[0], a[1]}, {a[2], a[3]}}; }
static inline vf vf_from_vd(vd a) { return (vf){(float)a.lo[0], (float)a.lo[1], (float)a.hi[0], (float)a.hi[1]}; }
static inline vd vd_add(vd a, vd b) { return (vd){a.lo + b.lo, a.hi + b.hi}; }
static inline vd vd_sub(vd a, vd b) { return (vd){a.lo - b.lo, a.hi - b.hi}; }
static inline vd vd_mul(vd a, vd b) { return (vd){a.lo * b.lo, a.hi * b.hi}; }
static inline vd vd_div(vd a, vd b) { return (vd){a.lo / b.lo, a.hi / b.hi}; }

/* r[i][j] <- r[j][i] */
static inline void vf_transpose(vf r[VL])
{
    vf a = r[0], b = r[1], c = r[2], d = r[3];
    r[0] = (vf){a[0], b[0], c[0], d[0]};
    r[1] = (vf){a[1], b[1], c[1], d[1]};
    r[2] = (vf){a[2], b[2], c[2], d[2]};
    r[3] = (vf){a[3], b[3], c[3], d[3]};
}

#endif
