/* One vector language for every kernel: the widest ISA the compile flags allow, or the portable one if SIMD_PORTABLE is set.
 *
 *   vf   VL float lanes        vi   VL int32 lanes        vm   VL booleans        vd   VL double lanes (a few ops only)
 *
 * Every operation exists under the same name in each ISA file.  Partial loads and stores take 0 <= n <= VL, never touch
 * memory past n, and fill the lanes past n with zero.  Build with -ffp-contract=off: a fused multiply-add happens where
 * vf_fma / vf_fnma is written and nowhere else, so a value does not depend on how the compiler schedules the loop.
 * Different ISAs may give different bits (portable x86-64 has no fused multiply-add); one build always gives the same.
 */
#ifndef STRATAC_SIMD_H
#define STRATAC_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(SIMD_PORTABLE)
#include "portable.h"
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "avx2.h"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "neon.h"
#else
#include "portable.h"
#endif

#include "simd_math.h"
#include "simd_narrow.h"

/* tile[j*VL + i] = from[i*stride + j] for i < lanes and j < count, zero for the other i: lines are read along j, which has
 * step 1, and turned.  The tile has room for `count` rounded up to VL. */
static inline void vf_turn(float *tile, const float *from, int64_t stride, int64_t lanes, int64_t count)
{
    for (int64_t j = 0; j < count; j += VL) {
        const int64_t here = count - j < VL ? count - j : VL;
        vf rows[VL];
        for (int64_t i = 0; i < VL; i++)
            rows[i] = i >= lanes ? vf_zero() : here == VL ? vf_load(from + i * stride + j) : vf_load_n(from + i * stride + j, here);
        vf_transpose(rows);
        for (int64_t i = 0; i < VL; i++)
            vf_store(tile + (j + i) * VL, rows[i]);
    }
}

#endif
