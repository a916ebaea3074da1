/* What attention on tiles works on (attention_tiles.c): unfinished rows, items of keys, buffers, and their sizes. */
#ifndef STRATAC_KERNELS_ATTENTION_WORK_H
#define STRATAC_KERNELS_ATTENTION_WORK_H

#include "attend.h"
#include "soft.h"
#include "tile_block.h"

#define WIDE 32                 /* columns of a panel: keys, or elements of V */
#define STEP TILE_DEPTH
#define KEYS 128                /* of an item; a multiple of STEP and of WIDE */
#define SCORE_LD (KEYS + 16)
#define PRODUCTS(parts) ((parts) * ((parts) + 1) / 2) /* of parts that make one product */
#define PACKED 327680           /* floats of K and V that are held at once */
#define SLOTS 65536             /* floats of unfinished rows */
#define FINITE 1e30f            /* sums that must stay below this are, and no part of a value up to this is infinite */
#define FINITE_V 1e21f          /* nor are sums of values up to this with weights of up to 2^32 */
#define LEAST_SCORE (-0.5e6f)   /* of those that shifts follow, and the opposite of the greatest */
#define LEAST_SUM 0x1p-32f      /* of weights that count */

/* Unfinished rows of a block; behind it their sums, out[ROWS][v_p]. */
typedef struct slot {
    float sum[ROWS][16]; /* of weights, in sixteen parts */
    float shift[ROWS];   /* weights are 2^shift times too small: a whole number */
    float top[ROWS];     /* the greatest of the scores that were looked at for want of weights that count, or of room for them */
    float absolute[ROWS];
    int64_t seen[ROWS];  /* keys */
    int64_t begun, odd;  /* whether out holds anything; whether attention.c shall compute it instead */
    block rows;
    int64_t unused[2];
} slot;
#define SLOT_HEAD 688 /* floats */
_Static_assert(sizeof(slot) == SLOT_HEAD * sizeof(float), "as codegen/facts.py has it");

typedef struct item {
    slot *slot; /* or NULL: there is none */
    int64_t from, keys; /* of the chunk */
    int turn, live, final; /* which buffers it has; whether any weight is not zero; whether it is the block's last */
} item;

typedef struct work {
    const st_attention *a;
    int parts;
    int64_t rows, blocks, steps, v_p, panels; /* steps of the depth; columns of V in whole tiles, panels of them */
    int64_t chunks, chunk, slots, slot_floats;
    float *q, *scores, *weights, *k, *v, *bias, *state, *plain;
    float fade[ROWS]; /* by what the item at hand changes the scale of what came before */
    int fades;
    int tall;
    tile_file tiles;
    int64_t number, key0, keys, lo, hi; /* the chunk at hand: of its keys the mask leaves [lo, hi) */
    float hidden, reach; /* the greatest mask value and the greatest |k| beyond [lo, hi) of all chunks so far */
    float most_k, most_v;
} work;

/* ---- sizes ---- */

static int64_t v_columns(int64_t v_dim) { return st_round_up(v_dim, 16); }

/* Floats that one key takes, packed. */
static int64_t key_floats(int64_t dim, int64_t v_dim, int parts)
{
    return (st_round_up(dim, STEP) + st_round_up(v_dim, WIDE)) / 2 * parts;
}

/* Keys held at once. */
static int64_t most_keys(int64_t dim, int64_t v_dim, int parts)
{
    return ST_MAX(PACKED / key_floats(dim, v_dim, parts) / KEYS, (int64_t)1) * KEYS;
}

static int64_t slot_floats(int64_t v_dim) { return SLOT_HEAD + ROWS * v_columns(v_dim); }

static slot *slot_at(const work *w, int64_t number) { return (slot *)(void *)(w->state + number * w->slot_floats); }
static float *out_of(slot *s) { return (float *)(void *)(s + 1); }

#endif
