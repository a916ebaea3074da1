/* AVX-512 F+BW+DQ+VL: 16 lanes, predicate registers. */
#ifndef STRATAC_SIMD_AVX512_H
#define STRATAC_SIMD_AVX512_H

#include <immintrin.h>

#define VL 16
#define SIMD_ISA "avx512"

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef struct { __m512d lo, hi; } vd;

/* The first n lanes; n is 0..16, so the shift stays inside 32 bits. */
static inline vm vm_first(int64_t n) { return (vm)((1u << (unsigned)n) - 1u); }

static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_zero(void) { return _mm512_setzero_ps(); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
/* Here alone, since here a vector is a line: past the caches it goes without the line being read first.  Other threads see it after
 * vf_settle. */
static inline void vf_store_past(float *p, vf v)
{
    if ((uintptr_t)p % 64 == 0)
        _mm512_stream_ps(p, v);
    else
        vf_store(p, v);
}
static inline void vf_settle(void) { _mm_sfence(); }
static inline vf vf_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
static inline void vf_store_n(float *p, vf v, int64_t n) { _mm512_mask_storeu_ps(p, vm_first(n), v); }
static inline float vf_first(vf v) { return _mm512_cvtss_f32(v); }

static inline vf vf_load_strided(const float *p, int64_t stride, int64_t n)
{
    if (stride == 1)
        return vf_load_n(p, n);
    if (stride > -(1 << 26) && stride < (1 << 26)) {
        __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        __m512i index = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)stride));
        return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), vm_first(n), index, p, 4);
    }
    float lanes[VL] = {0};
    for (int64_t i = 0; i < n; i++)
        lanes[i] = p[i * stride];
    return vf_load(lanes);
}

static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
/* a / b, with b neither huge nor tiny: the reciprocal to 2^-14, refined twice, instead of a division that takes the units of
 * multiplication for 16 cycles. */
static inline vf vf_quotient(vf a, vf b)
{
    vf y = _mm512_rcp14_ps(b);
    y = _mm512_fmadd_ps(y, _mm512_fnmadd_ps(b, y, _mm512_set1_ps(1.0f)), y);
    const vf q = _mm512_mul_ps(a, y);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, b, a), y, q);
}
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf vf_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
static inline vf vf_abs(vf a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
static inline vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vf_floor(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
static inline vf vf_ceil(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
static inline vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_trunc(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }

/* b where either operand is NaN. */
static inline vf vf_min_fast(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_max_fast(vf a, vf b) { return _mm512_max_ps(a, b); }

static inline vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vm vf_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline vm vf_gt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline vm vf_ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline vm vf_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vm vf_ne(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
static inline vm vm_and(vm a, vm b) { return (vm)(a & b); }
static inline vm vm_or(vm a, vm b) { return (vm)(a | b); }
static inline vm vm_xor(vm a, vm b) { return (vm)(a ^ b); }
static inline vm vm_not(vm a) { return (vm)~a; }
/* m where also a < b: one instruction, while compilers would have a mask go through general registers. */
static inline vm vm_and_lt(vm m, vf a, vf b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_LT_OQ); }
static inline int vm_any(vm a) { return a != 0; }
static inline int vm_all(vm a) { return a == 0xffff; }
static inline vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }

static inline vf vf_min(vf a, vf b) { return _mm512_mask_mov_ps(_mm512_min_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a); }
static inline vf vf_max(vf a, vf b) { return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a); }
/* The same where the bound is no NaN. */
static inline vf vf_at_most(vf x, vf bound) { return _mm512_min_ps(bound, x); }
static inline vf vf_at_least(vf x, vf bound) { return _mm512_max_ps(bound, x); }

static inline vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(int32_t *p, vi v) { _mm512_storeu_si512(p, v); }
static inline vi vi_load_n(const int32_t *p, int64_t n) { return _mm512_maskz_loadu_epi32(vm_first(n), p); }
static inline void vi_store_n(int32_t *p, vi v, int64_t n) { _mm512_mask_storeu_epi32(p, vm_first(n), v); }
static inline vi vi_load_u16(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)); }
static inline vi vi_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)); }
static inline void vi_store_u16(uint16_t *p, vi v) { _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(v)); }
static inline void vi_store_u8(uint8_t *p, vi v) { _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(v)); }
#define SIMD_MASKED_PARTS
static inline vi vi_load_n_u16(const uint16_t *p, int64_t n) { return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), p)); }
static inline vi vi_load_n_u8(const uint8_t *p, int64_t n) { return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(vm_first(n), p)); }
static inline void vi_store_n_u16(uint16_t *p, vi v, int64_t n) { _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtepi32_epi16(v)); }
static inline void vi_store_n_u8(uint8_t *p, vi v, int64_t n) { _mm_mask_storeu_epi8(p, vm_first(n), _mm512_cvtepi32_epi8(v)); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi vi_shl(vi a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_sar(vi a, int n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_shr(vi a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
static inline vm vi_eq(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
static inline vm vi_gt(vi a, vi b) { return _mm512_cmpgt_epi32_mask(a, b); }
static inline vi vi_select(vm m, vi a, vi b) { return _mm512_mask_blend_epi32(m, b, a); }
static inline vi vi_iota(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

static inline vi vf_as_vi(vf a) { return _mm512_castps_si512(a); }

/* table[index mod 16] */
static inline vf vf_lookup(const float table[16], vi index) { return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table)); }

static inline vf vi_as_vf(vi a) { return _mm512_castsi512_ps(a); }
static inline vf vf_from_i32(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vi vi_from_vf(vf a) { return _mm512_cvttps_epi32(a); }
static inline vi vi_nearest(vf a) { return _mm512_cvtps_epi32(a); }
static inline vf vf_iota(void) { return vf_from_i32(vi_iota()); }

#define SIMD_F16
static inline vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
static inline vf vf_load_n_f16(const uint16_t *p, int64_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p)); }
static inline __m256i simd_to_f16(vf v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline void vf_store_f16(uint16_t *p, vf v) { _mm256_storeu_si256((void *)p, simd_to_f16(v)); }
static inline void vf_store_n_f16(uint16_t *p, vf v, int64_t n) { _mm256_mask_storeu_epi16(p, vm_first(n), simd_to_f16(v)); }
static inline vf vf_round_f16(vf v) { return _mm512_cvtph_ps(simd_to_f16(v)); }

/* Booleans in memory are bytes, 0 or 1 (any non-zero reads as true). */
static inline vm vm_load_n(const uint8_t *p, int64_t n)
{
    __m128i bytes = _mm_maskz_loadu_epi8(vm_first(n), p);
    return _mm_test_epi8_mask(bytes, bytes);
}
static inline void vm_store_n(uint8_t *p, vm m, int64_t n) { _mm_mask_storeu_epi8(p, vm_first(n), _mm_maskz_set1_epi8(m, 1)); }

/* One order for every reduction: lane i with lane i + 8, then + 4, + 2, + 1. */
static inline vf vf_swap8(vf v) { return _mm512_shuffle_f32x4(v, v, 0x4e); }
static inline vf vf_swap4(vf v) { return _mm512_shuffle_f32x4(v, v, 0xb1); }
static inline vf vf_swap2(vf v) { return _mm512_permute_ps(v, 0x4e); }
static inline vf vf_swap1(vf v) { return _mm512_permute_ps(v, 0xb1); }
#define SIMD_REDUCE(name, op)                                                                                              \
    static inline float name(vf v)                                                                                         \
    {                                                                                                                      \
        v = op(v, vf_swap8(v));                                                                                            \
        v = op(v, vf_swap4(v));                                                                                            \
        v = op(v, vf_swap2(v));                                                                                            \
        return vf_first(op(v, vf_swap1(v)));                                                                               \
    }
SIMD_REDUCE(vf_reduce_add, vf_add)
SIMD_REDUCE(vf_reduce_max, vf_max)
SIMD_REDUCE(vf_reduce_min, vf_min)
#undef SIMD_REDUCE

/* y * 2^n for integral n, rounded once, denormals and overflow included. */
static inline vf vf_ldexp(vf y, vf n) { return _mm512_scalef_ps(y, n); }

static inline vd vd_set1(double x) { return (vd){_mm512_set1_pd(x), _mm512_set1_pd(x)}; }
static inline vd vd_from_vf(vf a)
{
    return (vd){_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1))};
}
static inline vf vf_from_vd(vd a)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.lo)), _mm512_cvtpd_ps(a.hi), 1);
}
static inline vd vd_add(vd a, vd b) { return (vd){_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)}; }
static inline vd vd_sub(vd a, vd b) { return (vd){_mm512_sub_pd(a.lo, b.lo), _mm512_sub_pd(a.hi, b.hi)}; }
static inline vd vd_mul(vd a, vd b) { return (vd){_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)}; }
static inline vd vd_div(vd a, vd b) { return (vd){_mm512_div_pd(a.lo, b.lo), _mm512_div_pd(a.hi, b.hi)}; }

/* r[i][j] <- r[j][i]: pairs of floats, pairs of pairs, then the four 128-bit quarters twice. */
static inline void vf_transpose(vf r[VL])
{
    vf t[VL];
    for (int i = 0; i < VL; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < VL; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + 2 + j]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    /* r[4g + c] now holds columns c, c+4, c+8, c+12 of rows 4g..4g+3, one per quarter. */
    for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0xdd);
        r[4 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0xdd);
    }
}

#endif
