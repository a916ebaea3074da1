/* Pairs of bfloat16 in the lanes of a float vector: what an instruction multiplies two at a time.
 *
 * Word i of a row of pairs holds elements 2i (low half) and 2i + 1 (high half); a last odd element is paired with zero.
 * Loads, stores and broadcasts of the float vector move them as they are.
 */
#ifndef STRATAC_SIMD_PAIRS_H
#define STRATAC_SIMD_PAIRS_H

#include "simd.h"

#if defined(SIMD_BY_LANE) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define SIMD_BFDOT
#endif

/* c + a.high * b.high + a.low * b.low, each sum rounded to float, in this order; Arm's instruction rounds the sum of the two
 * products to odd before it adds c. */
static inline vf vf_dot2(vf a, vf b, vf c)
{
#if defined(__AVX512BF16__) && VL == 16
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
#elif defined(SIMD_BFDOT)
    return vbfdotq_f32(c, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b));
#else
    const vi high = vi_set1((int32_t)0xffff0000u), x = vf_as_vi(a), y = vf_as_vi(b);
    const vf sum = vf_fma(vi_as_vf(vi_and(x, high)), vi_as_vf(vi_and(y, high)), c);
    return vf_fma(vi_as_vf(vi_shl(x, 16)), vi_as_vf(vi_shl(y, 16)), sum);
#endif
}

#ifdef SIMD_BFDOT
/* The same with one lane of a; as vf_fma_lane. */
static inline vf vf_dot2_lane(vf a, int lane, vf b, vf c)
{
    const bfloat16x8_t x = vreinterpretq_bf16_f32(a), y = vreinterpretq_bf16_f32(b);
    return lane == 0 ? vbfdotq_laneq_f32(c, y, x, 0) : lane == 1 ? vbfdotq_laneq_f32(c, y, x, 1)
         : lane == 2 ? vbfdotq_laneq_f32(c, y, x, 2) : vbfdotq_laneq_f32(c, y, x, 3);
}
#endif

/* The nearest bfloat16, ties to even; NaN stays NaN. */
static inline uint32_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t nan = (bits >> 16) | 0x40, near = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? nan : near;
}

/* The nearest bfloat16 of each lane in the upper half of its word, zeros below. */
static inline vi vi_bf16(vf v)
{
    const vi bits = vf_as_vi(v), odd = vi_and(vi_shr(bits, 16), vi_set1(1));
    const vi near = vi_add(bits, vi_add(vi_set1(0x7fff), odd)), nan = vi_or(bits, vi_set1(0x400000));
    return vi_and(vi_select(vf_ne(v, v), nan, near), vi_set1((int32_t)0xffff0000u));
}

/* Words whose low halves are the lanes of one vector and whose high halves are those of another. */
static inline vf bf16_zip(vf low, vf high)
{
#if defined(__AVX512BF16__) && VL == 16
    const __m512i word = _mm512_add_epi32(vi_iota(), _mm512_slli_epi32(_mm512_add_epi32(vi_iota(), _mm512_set1_epi32(16)), 16));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(word, (__m512i)_mm512_cvtne2ps_pbh(high, low)));
#else
    return vi_as_vf(vi_or(vi_shr(vi_bf16(low), 16), vi_bf16(high)));
#endif
}

/* Two vectors as one of pairs: VL words. */
static inline void bf16_store_pairs(vf first, vf second, float *to)
{
#if defined(__AVX512BF16__) && VL == 16
    _mm512_storeu_si512((void *)to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
#else
    int32_t words[2 * VL];
    vi_store(words, vi_bf16(first));
    vi_store(words + VL, vi_bf16(second));
    for (int i = 0; i < VL; i++) {
        const uint32_t pair = (uint32_t)words[2 * i] >> 16 | (uint32_t)words[2 * i + 1];
        memcpy(to + i, &pair, sizeof pair);
    }
#endif
}

/* A row of `count` floats as pairs: ceil(count / 2) words. */
static inline void bf16_pairs(const float *from, int64_t count, float *to)
{
    int64_t i = 0;
#if defined(__AVX512BF16__) && VL == 16
    for (; i + 32 <= count; i += 32)
        _mm512_storeu_si512((void *)(to + i / 2), (__m512i)_mm512_cvtne2ps_pbh(vf_load(from + i + 16), vf_load(from + i)));
#elif defined(SIMD_BFDOT)
    for (; i + 8 <= count; i += 8)
        vf_store(to + i / 2, vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(vf_load(from + i)), vf_load(from + i + 4))));
#endif
    for (; i < count; i += 2) {
        const uint32_t pair = bf16_of(from[i]) | (i + 1 < count ? bf16_of(from[i + 1]) << 16 : 0);
        memcpy(to + i / 2, &pair, sizeof pair);
    }
}

#endif
