/* Panels of the right operand that are stored as floats, and become parts of bf16 when they are needed.
 *
 * Of three parts, that is, which would take half as much room again: 16 elements of an even row of k, then 16 of the odd one below.
 */
#ifndef STRATAC_KERNELS_TILE_PAIRS_H
#define STRATAC_KERNELS_TILE_PAIRS_H

#include "tile_block.h"

#define WHOLE 3       /* parts */
#define PAIR (2 * 16) /* floats */
#define STEP_PAIRS (TILE_DEPTH * COLUMNS / PAIR)

/* Floats of a panel of B as parts, 16 columns of a pair of rows: the float's first 8 bits, the next 8 and the last.  That of A the
 * nearest are taken keeps what is left out small and without a sign of its own. */
static inline void split_pair(const float *floats, char *to)
{
    const vi high = vi_set1((int32_t)0xffff0000u);
    for (int64_t j = 0; j < 16; j += VL) {
        vf even = vf_load(floats + j), odd = vf_load(floats + 16 + j);
        for (int part = 0; part < WHOLE; part++) {
            const vi e = vf_as_vi(even), o = vi_and(vf_as_vi(odd), high);
            vf_store((float *)(void *)(to + part * PART) + j, vi_as_vf(vi_or(vi_shr(e, 16), o)));
            even = vf_sub(even, vi_as_vf(vi_and(e, high)));
            odd = vf_sub(odd, vi_as_vf(o));
        }
    }
}
static inline int64_t split_pairs(const float *floats, float *to, int64_t pair, int64_t end)
{
    for (; pair < end; pair++)
        split_pair(floats + pair * PAIR, (char *)to + (uint64_t)pair / STEP_PAIRS * (WHOLE * PART) + (uint64_t)pair % STEP_PAIRS * 64);
    return pair;
}

#endif
