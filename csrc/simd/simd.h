/* One vector language for every kernel: the widest ISA the compile flags allow.
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

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "avx2.h"
#else
#include "portable.h"
#endif

#include "simd_math.h"

#endif
