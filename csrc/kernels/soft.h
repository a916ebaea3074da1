/* A row of scores on its way through a softmax that comes in tiles: its greatest score, then exponentials and their sum.
 *
 * `bias`, or NULL, is added to the scores on the way.  Four vectors of partial sums by key index: adding the zeros of hidden
 * keys changes none of them.
 */
#ifndef STRATAC_KERNELS_SOFT_H
#define STRATAC_KERNELS_SOFT_H

#include "../simd/simd_pairs.h"
#include "tile.h"

#define SOFT_INLINE static inline __attribute__((always_inline))
#define SOFT_UNDERFLOW (-87.0f) /* soft_exp of less is zero */

/* e^x for x <= 0, or NaN: 2^(n + r) with n = round(x log2 e), |r| <= 1/2.  2^r is a minimax polynomial (Lawson-weighted, its
 * own error 2^-23.4); n is left in the low bits of a large float, biased, whence 2^n needs no conversion.  Below e^-87 it is
 * zero: the row's sum is at least one.  Log2 e in one float costs |x| 2^-26 of the result, which is drowned by how small that is.
 * Against e^x in double over every float of [-87, 0] (tests/kernels/soft.c): at most 2.2 ULP of the result down to -1 and
 * 1.02 ULP of one (2^-23) everywhere; 2.8 and 1.2 where multiply-adds are not fused. */
SOFT_INLINE vf soft_exp(vf x)
{
    const vf magic = vf_set1(12583039.0f), log2e = vf_set1(1.44269504f); /* 1.5 * 2^23 + 127 */
    vf t = vf_fma(x, log2e, magic), r = vf_fma(x, log2e, vf_sub(magic, t));
    vf p = vf_fma(vf_set1(0.0013269406f), r, vf_set1(0.00967129413f));
    p = vf_fma(p, r, vf_set1(0.0555071123f));
    p = vf_fma(p, r, vf_set1(0.240222469f));
    p = vf_fma(p, r, vf_set1(0.693147004f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_select(vf_lt(x, vf_set1(SOFT_UNDERFLOW)), vf_zero(), vf_mul(p, vi_as_vf(vi_shl(vf_as_vi(t), 23))));
}

/* What soft_power takes beside x, for results 2^shift times too small; shift is a whole number, of at most 2^20. */
typedef struct soft_scale {
    vf base, least, most;
} soft_scale;
SOFT_INLINE soft_scale soft_scale_of(float shift)
{
    const float ln2 = 0.693147182f;
    return (soft_scale){vf_set1(12582912.0f - shift), vf_set1((shift - 125.0f) * ln2), vf_set1((shift + 32.0f) * ln2)};
}

/* e^x 2^-shift, zero for x < least; anything where not x < most.  As soft_exp, but the exponent is added to, and whatever the shift
 * is, the other bits are the same.  Where tiles multiply, vectors have one unit for multiplications, maxima and shifts, and two for
 * additions: hence as few of the former as can be.  `parts` says how many of bf16 the result becomes: for one, a polynomial of
 * degree 3 does (minimax as the other, its own error 2^-13.7). */
SOFT_INLINE vf soft_power(vf x, soft_scale s, int parts)
{
    const vf log2e = vf_set1(1.44269504f);
#ifdef SIMD_UNFUSED /* a product that is rounded has to be small: most of the shift is taken off before, rounded alike for a whole row */
    const vf shift = vf_sub(vf_set1(12582912.0f), s.base), off = vf_mul(shift, vf_set1(0.693147182f));
    const vm far = vf_gt(vf_abs(shift), vf_set1(32.0f));
    const vm few = vf_lt(x, s.least);
    x = vf_select(far, vf_sub(x, off), x);
    s.base = vf_select(far, vf_set1(12582912.0f), s.base);
#else
    const vm few = vf_lt(x, s.least);
#endif
    const vf t = vf_fma(x, log2e, s.base), r = vf_fma(x, log2e, vf_sub(s.base, t));
    vf p;
    if (parts == 1) {
        p = vf_fma(vf_set1(0.05517167f), r, vf_set1(0.24261113f));
        p = vf_fma(p, r, vf_set1(0.69326097f));
        p = vf_fma(p, r, vf_set1(0.99992806f));
    } else {
        p = vf_fma(vf_set1(0.0013269406f), r, vf_set1(0.00967129413f));
        p = vf_fma(p, r, vf_set1(0.0555071123f));
        p = vf_fma(p, r, vf_set1(0.240222469f));
        p = vf_fma(p, r, vf_set1(0.693147004f));
        p = vf_fma(p, r, vf_set1(1.0f));
    }
    return vf_select(few, vf_zero(), vi_as_vf(vi_add(vf_as_vi(p), vi_shl(vf_as_vi(t), 23))));
}

SOFT_INLINE vf soft_score(const float *s, const float *bias, int64_t n)
{
    vf x = n == VL ? vf_load(s) : vf_load_n(s, n);
    return bias ? vf_add(x, n == VL ? vf_load(bias) : vf_load_n(bias, n)) : x;
}

/* The greatest of n scores; NaN does not count. */
SOFT_INLINE float soft_top(const float *s, const float *bias, int64_t n)
{
    const vf lowest = vf_set1(-SIMD_INF);
    vf top[4] = {lowest, lowest, lowest, lowest};
    int64_t j = 0;
    for (; j + 4 * VL <= n; j += 4 * VL)
        for (int i = 0; i < 4; i++)
            top[i] = vf_max_fast(soft_score(s + j + i * VL, bias ? bias + j + i * VL : NULL, VL), top[i]);
    for (; j < n; j += VL) {
        const int64_t count = ST_MIN((int64_t)VL, n - j);
        const vf x = soft_score(s + j, bias ? bias + j : NULL, count);
        top[0] = vf_max_fast(vf_select(vm_first(count), x, lowest), top[0]);
    }
    return vf_reduce_max(vf_max_fast(vf_max_fast(top[0], top[1]), vf_max_fast(top[2], top[3])));
}

/* Whether there is a NaN among n scores. */
SOFT_INLINE int soft_odd(const float *s, const float *bias, int64_t n)
{
    for (int64_t j = 0; j < n; j += VL) {
        const int64_t count = ST_MIN((int64_t)VL, n - j);
        const vf x = soft_score(s + j, bias ? bias + j : NULL, count);
        if (vm_any(vm_and(vm_first(count), vf_ne(x, x))))
            return 1;
    }
    return 0;
}

/* scores -> e^(score - shift), zeros from n up to `end` or further (the row has room for whole fours of vectors); returns the
 * sum.  With `pairs` they become words of two bf16 each, in the first half of the row. */
SOFT_INLINE float soft_weights(float *s, const float *bias, float shift, int64_t n, int64_t end, int pairs)
{
    const vf by = vf_set1(shift);
    vf sum[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t j = 0;
    for (; j + 4 * VL <= n; j += 4 * VL) {
        vf e[4];
        for (int i = 0; i < 4; i++) {
            e[i] = soft_exp(vf_sub(soft_score(s + j + i * VL, bias ? bias + j + i * VL : NULL, VL), by));
            sum[i] = vf_add(sum[i], e[i]);
        }
        if (pairs) {
            bf16_store_pairs(e[0], e[1], s + j / 2);
            bf16_store_pairs(e[2], e[3], s + j / 2 + VL);
        } else {
            for (int i = 0; i < 4; i++)
                vf_store(s + j + i * VL, e[i]);
        }
    }
    if (j >= end)
        return vf_reduce_add(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    vf e[4]; /* the rest of the row, at least so far as its four vectors go */
    const int64_t from = j;
    for (int i = 0; i < 4; i++, j += VL) {
        const int64_t count = ST_MAX(ST_MIN((int64_t)VL, n - j), (int64_t)0);
        e[i] = vf_zero();
        if (count > 0)
            e[i] = vf_select(vm_first(count), soft_exp(vf_sub(soft_score(s + j, bias ? bias + j : NULL, count), by)), e[i]);
        sum[i] = vf_add(sum[i], e[i]);
    }
    if (pairs) {
        bf16_store_pairs(e[0], e[1], s + from / 2);
        bf16_store_pairs(e[2], e[3], s + from / 2 + VL);
        for (; j < end; j += 2 * VL)
            vf_store(s + j / 2, vf_zero());
    } else {
        for (int i = 0; i < 4; i++)
            vf_store(s + from + i * VL, e[i]);
        for (; j < end; j += VL)
            vf_store(s + j, vf_zero());
    }
    return vf_reduce_add(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

#endif
