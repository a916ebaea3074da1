/* AVX2 + FMA: 8 lanes, masks are float vectors of all-ones or all-zeros. */
#ifndef STRATAC_SIMD_AVX2_H
#define STRATAC_SIMD_AVX2_H

#include <immintrin.h>

#define VL 8
#define SIMD_ISA "avx2"

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;
typedef struct { __m256d lo, hi; } vd;

static inline __m256i simd_lanes_below(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vm vm_first(int64_t n) { return _mm256_castsi256_ps(simd_lanes_below(n)); }

static inline vf vf_set1(float x) { return _mm256_set1_ps(x); }
static inline vf vf_zero(void) { return _mm256_setzero_ps(); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf vf_load_n(const float *p, int64_t n) { return _mm256_maskload_ps(p, simd_lanes_below(n)); }
static inline void vf_store_n(float *p, vf v, int64_t n) { _mm256_maskstore_ps(p, simd_lanes_below(n), v); }
static inline float vf_first(vf v) { return _mm256_cvtss_f32(v); }

static inline vf vf_load_strided(const float *p, int64_t stride, int64_t n)
{
    if (stride == 1)
        return vf_load_n(p, n);
    if (n == VL) /* eight scalar loads beat the gather instruction on most cores */
        return _mm256_setr_ps(p[0], p[stride], p[2 * stride], p[3 * stride], p[4 * stride], p[5 * stride], p[6 * stride],
                              p[7 * stride]);
    float lanes[VL] = {0};
    for (int64_t i = 0; i < n; i++)
        lanes[i] = p[i * stride];
    return vf_load(lanes);
}

static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_quotient(vf a, vf b) { return vf_div(a, b); } /* avx512.h */
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf vf_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf vf_floor(vf a) { return _mm256_floor_ps(a); }
static inline vf vf_ceil(vf a) { return _mm256_ceil_ps(a); }
static inline vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_trunc(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }

/* b where either operand is NaN. */
static inline vf vf_min_fast(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_max_fast(vf a, vf b) { return _mm256_max_ps(a, b); }

static inline vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vm vf_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline vm vf_gt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
static inline vm vf_ge(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
static inline vm vf_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vm vf_ne(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
static inline vm vm_and(vm a, vm b) { return _mm256_and_ps(a, b); }
static inline vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
static inline vm vm_xor(vm a, vm b) { return _mm256_xor_ps(a, b); }
static inline vm vm_not(vm a) { return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))); }
static inline vm vm_and_lt(vm m, vf a, vf b) { return vm_and(m, vf_lt(a, b)); }
static inline int vm_any(vm a) { return _mm256_movemask_ps(a) != 0; }
static inline int vm_all(vm a) { return _mm256_movemask_ps(a) == 0xff; }
static inline vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }

static inline vf vf_min(vf a, vf b) { return vf_select(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), a, _mm256_min_ps(a, b)); }
static inline vf vf_max(vf a, vf b) { return vf_select(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), a, _mm256_max_ps(a, b)); }
/* The same where the bound is no NaN. */
static inline vf vf_at_most(vf x, vf bound) { return _mm256_min_ps(bound, x); }
static inline vf vf_at_least(vf x, vf bound) { return _mm256_max_ps(bound, x); }

static inline vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void vi_store(int32_t *p, vi v) { _mm256_storeu_si256((__m256i *)p, v); }
static inline vi vi_load_n(const int32_t *p, int64_t n) { return _mm256_maskload_epi32(p, simd_lanes_below(n)); }
static inline void vi_store_n(int32_t *p, vi v, int64_t n) { _mm256_maskstore_epi32(p, simd_lanes_below(n), v); }
static inline vi vi_load_u16(const uint16_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)); }
static inline vi vi_load_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)); }
/* Each half of a pack holds four lanes of its own 128 bits. */
static inline __m128i simd_to_u16(vi v) { return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }
#define SIMD_STORES_LOW 0 /* they saturate */
static inline void vi_store_u16(uint16_t *p, vi v) { _mm_storeu_si128((void *)p, simd_to_u16(v)); }
static inline void vi_store_u8(uint8_t *p, vi v) { _mm_storel_epi64((void *)p, _mm_packus_epi16(simd_to_u16(v), _mm_setzero_si128())); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
static inline vi vi_shl(vi a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_sar(vi a, int n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_shr(vi a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline vi vi_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
static inline vm vi_eq(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
static inline vm vi_gt(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)); }
static inline vi vi_select(vm m, vi a, vi b) { return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m)); }
static inline vi vi_iota(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }

static inline vi vf_as_vi(vf a) { return _mm256_castps_si256(a); }

/* table[index mod 16] */
static inline vf vf_lookup(const float table[16], vi index)
{
    vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index), high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28))); /* by bit 3 */
}

static inline vf vi_as_vf(vi a) { return _mm256_castsi256_ps(a); }
static inline vf vf_from_i32(vi a) { return _mm256_cvtepi32_ps(a); }
static inline vi vi_from_vf(vf a) { return _mm256_cvttps_epi32(a); }
static inline vi vi_nearest(vf a) { return _mm256_cvtps_epi32(a); }
static inline vf vf_iota(void) { return vf_from_i32(vi_iota()); }

#define SIMD_F16
static inline vf vf_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
static inline __m128i simd_to_f16(vf v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
static inline void vf_store_f16(uint16_t *p, vf v) { _mm_storeu_si128((void *)p, simd_to_f16(v)); }
static inline vf vf_round_f16(vf v) { return _mm256_cvtph_ps(simd_to_f16(v)); }

/* Booleans in memory are bytes, 0 or 1 (any non-zero reads as true). */
static inline vm vm_load_n(const uint8_t *p, int64_t n)
{
    uint8_t bytes[8] = {0};
    for (int64_t i = 0; i < n; i++)
        bytes[i] = p[i];
    __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)bytes));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()));
}
static inline void vm_store_n(uint8_t *p, vm m, int64_t n)
{
    int bits = _mm256_movemask_ps(m);
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint8_t)(bits >> i & 1);
}

/* One order for every reduction: lane i with lane i + 4, then + 2, + 1. */
static inline vf vf_swap4(vf v) { return _mm256_permute2f128_ps(v, v, 1); }
static inline vf vf_swap2(vf v) { return _mm256_permute_ps(v, 0x4e); }
static inline vf vf_swap1(vf v) { return _mm256_permute_ps(v, 0xb1); }
#define SIMD_REDUCE(name, op)                                                                                              \
    static inline float name(vf v)                                                                                         \
    {                                                                                                                      \
        v = op(v, vf_swap4(v));                                                                                            \
        v = op(v, vf_swap2(v));                                                                                            \
        return vf_first(op(v, vf_swap1(v)));                                                                               \
    }
SIMD_REDUCE(vf_reduce_add, vf_add)
SIMD_REDUCE(vf_reduce_max, vf_max)
SIMD_REDUCE(vf_reduce_min, vf_min)
#undef SIMD_REDUCE

/* y * 2^n for integral n in [-250, 250]: the first of two halves is exact, so denormals are rounded once. */
static inline vf simd_pow2(vi n) { return vi_as_vf(_mm256_slli_epi32(vi_add(n, vi_set1(127)), 23)); }
static inline vf vf_ldexp(vf y, vf n)
{
    vi i = vi_from_vf(n), half = _mm256_srai_epi32(i, 1);
    return vf_mul(vf_mul(y, simd_pow2(half)), simd_pow2(vi_sub(i, half)));
}

static inline vd vd_set1(double x) { return (vd){_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
static inline vd vd_from_vf(vf a)
{
    return (vd){_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
}
static inline vf vf_from_vd(vd a) { return _mm256_set_m128(_mm256_cvtpd_ps(a.hi), _mm256_cvtpd_ps(a.lo)); }
static inline vd vd_add(vd a, vd b) { return (vd){_mm256_add_pd(a.lo, b.lo), _mm256_add_pd(a.hi, b.hi)}; }
static inline vd vd_sub(vd a, vd b) { return (vd){_mm256_sub_pd(a.lo, b.lo), _mm256_sub_pd(a.hi, b.hi)}; }
static inline vd vd_mul(vd a, vd b) { return (vd){_mm256_mul_pd(a.lo, b.lo), _mm256_mul_pd(a.hi, b.hi)}; }
static inline vd vd_div(vd a, vd b) { return (vd){_mm256_div_pd(a.lo, b.lo), _mm256_div_pd(a.hi, b.hi)}; }

/* r[i][j] <- r[j][i]: pairs, pairs of pairs, then the two halves. */
static inline void vf_transpose(vf r[VL])
{
    vf t[VL];
    for (int i = 0; i < VL; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < VL; i += 4)
        for (int j = 0; j < 2; j++) {
            __m256d a = _mm256_castps_pd(t[i + j]), b = _mm256_castps_pd(t[i + 2 + j]);
            r[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        }
    for (int c = 0; c < 4; c++) {
        vf low = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        r[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
        r[c] = low;
    }
}

#endif
