/* Quads of whole numbers of 8 bits in the lanes of a float vector: what an instruction multiplies four at a time.
 *
 * Word i of a row of quads holds elements 4i .. 4i + 3, the first in its low byte; those missing of the last are zero on the right.
 * Sums are int32 in the lanes of a float vector, and wrap around.  Loads, stores and broadcasts of the float vector move all of them
 * as they are.
 */
#ifndef STRATAC_SIMD_QUADS_H
#define STRATAC_SIMD_QUADS_H

#include "simd.h"

#if defined(SIMD_BY_LANE) && defined(__ARM_FEATURE_DOTPROD)
#define SIMD_SDOT
#endif

/* The sum of two vectors of int32. */
static inline vf vf_add_whole(vf a, vf b) { return vi_as_vf(vi_add(vf_as_vi(a), vf_as_vi(b))); }

/* c + the sum of (a - ST_QUAD_OFFSET) * b over the four of each lane: a unsigned, b signed.  Arm multiplies signed by signed. */
#ifdef SIMD_BY_LANE
#define ST_QUAD_OFFSET 128
static inline int8x16_t simd_signed(vf a) { return veorq_s8(vreinterpretq_s8_f32(a), vdupq_n_s8(-128)); }
#else
#define ST_QUAD_OFFSET 0
#endif

static inline vf vf_dot4(vf a, vf b, vf c)
{
#if defined(__AVX512VNNI__) && VL == 16
    return vi_as_vf(_mm512_dpbusd_epi32(vf_as_vi(c), vf_as_vi(a), vf_as_vi(b)));
#elif defined(__AVXVNNI__) && VL == 8
    return vi_as_vf(_mm256_dpbusd_avx_epi32(vf_as_vi(c), vf_as_vi(a), vf_as_vi(b)));
#elif VL == 16
    /* Two and two of them as 16 bits: the instruction that takes bytes saturates. */
    const __m512i x = vf_as_vi(a), y = vf_as_vi(b);
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(y, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), _mm512_srai_epi16(y, 8));
    return vi_as_vf(vi_add(vf_as_vi(c), vi_add(even, odd)));
#elif VL == 8
    const __m256i x = vf_as_vi(a), y = vf_as_vi(b);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(y, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(y, 8));
    return vi_as_vf(vi_add(vf_as_vi(c), vi_add(even, odd)));
#elif defined(SIMD_SDOT)
    return vi_as_vf(vdotq_s32(vf_as_vi(c), vreinterpretq_s8_f32(b), simd_signed(a)));
#elif defined(SIMD_BY_LANE)
    const int8x16_t x = simd_signed(a), y = vreinterpretq_s8_f32(b);
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_s8(vget_high_s8(x), vget_high_s8(y));
    return vi_as_vf(vaddq_s32(vf_as_vi(c), vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))));
#else
    const vi x = vf_as_vi(a), y = vf_as_vi(b), byte = vi_set1(255);
    vi sum = vi_add(vf_as_vi(c), vi_mul(vi_and(x, byte), vi_sar(vi_shl(y, 24), 24)));
    sum = vi_add(sum, vi_mul(vi_and(vi_shr(x, 8), byte), vi_sar(vi_shl(y, 16), 24)));
    sum = vi_add(sum, vi_mul(vi_and(vi_shr(x, 16), byte), vi_sar(vi_shl(y, 8), 24)));
    return vi_as_vf(vi_add(sum, vi_mul(vi_shr(x, 24), vi_sar(y, 24))));
#endif
}

#ifdef SIMD_SDOT
/* The same with one lane of a; as vf_fma_lane. */
static inline vf vf_dot4_lane(vf a, int lane, vf b, vf c)
{
    const int8x16_t x = simd_signed(a), y = vreinterpretq_s8_f32(b);
    const int32x4_t sum = vf_as_vi(c);
    return vi_as_vf(lane == 0 ? vdotq_laneq_s32(sum, y, x, 0) : lane == 1 ? vdotq_laneq_s32(sum, y, x, 1)
                  : lane == 2 ? vdotq_laneq_s32(sum, y, x, 2) : vdotq_laneq_s32(sum, y, x, 3));
}
#endif

#endif
