/* A product of tiles.c on its way: the sizes of what it works on, and where that lies.
 */
#ifndef STRATAC_KERNELS_TILE_RUN_H
#define STRATAC_KERNELS_TILE_RUN_H

#include "tile_bfp.h"
#include "tile_panel.h"

static inline int64_t depth_of(int parts) { return bfp_slices(parts) ? BFP_DEPTH : TILE_DEPTH; } /* of a step */
static inline int64_t columns_of(int parts) { return bfp_slices(parts) ? BFP_COLUMNS : COLUMNS; } /* of a panel */

/* Words of 32 rows, or of a panel of B, of a k-block in parts; of a step of B as it is stored. */
static inline int64_t split_words(int64_t kc, int parts)
{
    const int64_t slices = bfp_slices(parts);
    return slices ? kc / BFP_DEPTH * slices * PART_WORDS + ROWS * NOTE_WORDS : kc / TILE_DEPTH * parts * PART_WORDS;
}
static inline int64_t step_words(int parts)
{
    return bfp_slices(parts) ? bfp_slices(parts) * BFP_SLICE / 4 : parts == WHOLE ? STEP_PAIRS * PAIR : parts * PART_WORDS;
}

/* Words of a panel before element k, which begins a k-block. */
static inline int64_t panel_words(int64_t k, int64_t kc, int parts)
{
    return st_ceil_div(k, depth_of(parts)) * step_words(parts) + (bfp_slices(parts) ? st_ceil_div(k, kc) * BFP_COLUMNS : 0);
}

/* One block: columns [j, j + cols) of rows [i, i + rows) over [k0, k0 + count) of k. */
typedef struct block {
    int64_t i, rows, j, cols, k0, count;
} block;

/* A GROUP of columns whose sums are complete, on its way out: a few rows at a time, since stores wait for memory, too. */
typedef struct finished {
    int64_t column, cols, row, rows; /* columns of the product; which rows of the block are next, of how many */
    float *sums;
} finished;

/* Blocks of columns whose sums are kept in two places, in turn: of one that is complete, `block`, a GROUP after the other goes out,
 * `share` rows at a time, while the next one is computed. */
typedef struct late {
    int on;
    block block;
    finished group;
    int64_t share, row_sums, turn, room; /* `turn`: where the block that is computed lies, 0 or `room` */
} late;

/* A product on its way. */
typedef struct run {
    const st_product *p;
    int in_place; /* tiles are rows of the left operand as they lie */
    int64_t kc, tile, panel, columns; /* k_block; words of 32 rows of it in parts; words and columns of a panel of B, over all of k */
    const float *rows[ST_DIRECT_ROWS / ROWS]; /* row tiles of a block in parts */
    float *parts[2]; /* where panels of B are split, if they are stored whole */
    float *copy, *sums;
    late late;
    int64_t half;      /* of block floating point: bytes of 16 rows of a k-block; ... */
    float *rest;       /* ... a row without its spikes, ... */
    int32_t *weights, *other_weights; /* ... sums by weight of two tiles, in turn, and those that are not added yet */
    bfp_sums pending;
    int64_t configured;
    tile_file tiles;
} run;

/* Rows [row, row+rows), columns [k, k+count) of the left operand: in place, or in `copy`. */
static inline const float *floats_of(const run *u, int64_t row, int64_t rows, int64_t k, int64_t count, int64_t *ld)
{
    const st_product *p = u->p;
    if (!p->fill) {
        *ld = p->a_row;
        return p->a + row * p->a_row + k;
    }
    *ld = u->kc + ST_PAD;
    p->fill(p->fill_ctx, row, rows, k, count, u->copy, *ld);
    return u->copy;
}

#endif
