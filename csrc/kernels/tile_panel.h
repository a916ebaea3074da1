/* One panel of one row tile: the multiplications of tiles.c, a function for every number of parts, shape of a block and place where
 * rows of the left operand lie.
 */
#ifndef STRATAC_KERNELS_TILE_PANEL_H
#define STRATAC_KERNELS_TILE_PANEL_H

#include "tile_block.h"
#include "tile_pairs.h"

#define PRODUCTS 6 /* of parts, where there are WHOLE of them */

/* A row tile of the left operand.  Where it lies: split here, part p at step s at a + (s * parts + p) * PART; in planes (st_planes), at
 * a + steps[s] + p * part, rows `row` bytes apart; or in place, in one part, at a + s * 64. */
enum { SPLIT, PLANES, IN_PLACE };
typedef struct left {
    const char *a;
    const int32_t *steps;
    int64_t part, row;
} left;

/* What is done beside the multiplications: in each step `lines` lines of memory are fetched, and after each product of parts `pairs`
 * pairs of rows of the next panel, which has `last`, are split. */
typedef struct beside {
    const char *fetch;
    int64_t lines;
    const float *floats;
    float *to;
    int64_t pair, pairs, last;
} beside;

/* One panel of one row tile, in GROUP columns of sums: `steps` of k.  `tall`: more than 16 rows; `wide`: more than 16 columns. */
static inline __attribute__((always_inline)) void panel_sum(tile_file *t, const left *l, const char *b, int64_t steps, float *c, int resume,
                                                            const beside *x, const int parts, const int tall, const int wide, const int where)
{
    const int64_t part = where == PLANES ? l->part : PART, row = where == SPLIT ? 64 : l->row, half = 16 * row;
    const int32_t *place = l->steps;
    const char *a = l->a, *fetch = x->fetch;
    int64_t pair = x->pair;
    const int64_t ahead = x->lines * 64, stride = st_ceil_div(ahead, parts == WHOLE ? PRODUCTS : (2 * parts - 1) << tall << wide);
    const char *line;
/* Loads between the products, so that the tile unit waits for none. */
#define MULTIPLY(part_a, load_b, part_b)                                                                                   \
    do {                                                                                                                   \
        if (load_b)                                                                                                        \
            tile_load(t, 6, b + (part_b)*PART, 128);                                                                       \
        tile_load(t, 4, a + (part_a)*part, row);                                                                           \
        line = block_fetch(line, stride);                                                                                  \
        tile_dot(t, 0, 4, 6);                                                                                              \
        if (tall) {                                                                                                        \
            tile_load(t, 5, a + (part_a)*part + half, row);                                                                \
            if (parts != WHOLE)                                                                                            \
                line = block_fetch(line, stride);                                                                          \
            tile_dot(t, 2, 5, 6);                                                                                          \
        }                                                                                                                  \
        if (wide) {                                                                                                        \
            if (load_b)                                                                                                    \
                tile_load(t, 7, b + (part_b)*PART + 64, 128);                                                              \
            if (parts != WHOLE)                                                                                            \
                line = block_fetch(line, stride);                                                                          \
            tile_dot(t, 1, 4, 7);                                                                                          \
            if (tall) {                                                                                                    \
                if (parts != WHOLE)                                                                                        \
                    line = block_fetch(line, stride);                                                                      \
                tile_dot(t, 3, 5, 7);                                                                                      \
            }                                                                                                              \
        }                                                                                                                  \
        if (parts == WHOLE)                                                                                                \
            pair = split_pairs(x->floats, x->to, pair, ST_MIN(pair + x->pairs, x->last));                                  \
    } while (0)
    block_begin(t, c, GROUP, resume, tall, wide);
    for (; steps > 0; steps--, b += parts * PART) {
        if (where == PLANES)
            a = l->a + *place++;
        line = fetch;
        fetch += ahead;
        if (parts == 1) {
            MULTIPLY(0, 1, 0);
        } else if (parts == 2) {
            MULTIPLY(0, 1, 1);
            MULTIPLY(1, 1, 0);
            MULTIPLY(0, 0, 0);
        } else {
            MULTIPLY(0, 1, 2);
            MULTIPLY(2, 1, 0);
            MULTIPLY(1, 1, 1);
            MULTIPLY(0, 0, 0);
            MULTIPLY(1, 1, 0);
            MULTIPLY(0, 0, 0);
        }
        if (where != PLANES)
            a += where == IN_PLACE ? 64 : parts * PART;
    }
    block_end(t, c, GROUP, tall, wide);
}

/* Functions of their own, so that what they count with stays in registers. */
typedef void panel_fn(tile_file *t, const left *l, const char *b, int64_t steps, float *c, int resume, const beside *x);
#define PANEL(parts, tall, wide, where)                                                                                    \
    static __attribute__((noinline)) void panel_##parts##tall##wide##where(tile_file *t, const left *l, const char *b, int64_t steps,   \
                                                                            float *c, int resume, const beside *x)         \
    {                                                                                                                      \
        panel_sum(t, l, b, steps, c, resume, x, parts, tall, wide, where);                                                 \
    }
#define SHAPES(parts, where) PANEL(parts, 0, 0, where) PANEL(parts, 0, 1, where) PANEL(parts, 1, 0, where) PANEL(parts, 1, 1, where)
#define PANELS(parts) SHAPES(parts, SPLIT) SHAPES(parts, PLANES)
PANELS(1)
SHAPES(1, IN_PLACE)
PANELS(2)
PANELS(3)
#define OF_SHAPES(parts, where) {panel_##parts##00##where, panel_##parts##01##where, panel_##parts##10##where, panel_##parts##11##where}
#define OF_PARTS(parts) OF_SHAPES(parts, SPLIT), OF_SHAPES(parts, PLANES)
static panel_fn *const panel_of[][3][4] = {{OF_PARTS(1), OF_SHAPES(1, IN_PLACE)}, {OF_PARTS(2)}, {OF_PARTS(3)}};

#endif
