/* What the product families (gemm, conv, attention) share: the register tile and the blocked loop around it.
 *
 * The register tile is up to ST_MR rows by ST_NV vectors.  The right operand comes in panels of ST_PANEL columns, one
 * contiguous row of a panel per k; the left operand stays row-major and is read by broadcasts from its rows, so nothing
 * needs interleaving.  An element is a sum of chains of fused multiply-adds, each over ST_CHAIN values of k from a multiple of
 * ST_CHAIN on, added up in order: rounding errors grow with the length of a chain.  Blocks of k end where chains do.  That is
 * why neither the blocking, nor the tile a row falls in, nor the number of parts shows in the bits.
 */
#ifndef STRATAC_KERNELS_TILE_H
#define STRATAC_KERNELS_TILE_H

#include "../simd/simd.h"
#include "kernels.h"

#define ST_NV 2 /* vectors per panel */
#define ST_PANEL (ST_NV * VL)
#if VL == 16
#define ST_MR 14       /* 28 accumulators + 2 vectors of B + 1 broadcast = 31 of 32 registers */
#define ST_KC 768      /* at most so much of k is one block where windows are read in place, which takes all of k */
#define ST_KC_FEW 512  /* ... elsewhere, where rows are few (ST_FEW) */
#define ST_KC_MANY 256 /* ... where they are many; and what blocks of a deeper product have, so that a tile's stretch of A stays in L1 */
#define ST_NB 256      /* columns per block; a multiple of the panel */
#define ST_NB_DEEP 128 /* the same of packed B where a block is longer than a chain: there is room in L2 for the next one */
#define ST_MB 224      /* rows whose parked accumulators (ST_MB x ST_NB) are kept when k is blocked */
#define ST_WIDE2 6     /* at most this many rows: two panels at once ... */
#define ST_WIDE4 3     /* ... or four, so that a short tile still has enough independent chains */
#elif VL == 8
#define ST_MR 6        /* 12 + 2 + 1 of 16 registers */
#define ST_KC 512
#define ST_KC_FEW ST_KC
#define ST_KC_MANY ST_KC
#define ST_NB 128
#define ST_NB_DEEP 128
#define ST_MB 96
#define ST_WIDE2 3
#define ST_WIDE4 1
#elif defined(SIMD_BY_LANE)
#define ST_MR 8        /* 16 accumulators, a vector of A for each row, two or more of B: of 32 registers */
#define ST_KC 512
#define ST_KC_FEW ST_KC
#define ST_KC_MANY ST_KC
#define ST_NB 128
#define ST_NB_DEEP 128
#define ST_MB 96
#define ST_WIDE2 5
#define ST_WIDE4 2
#else
#define ST_MR 4
#define ST_KC 512
#define ST_KC_FEW ST_KC
#define ST_KC_MANY ST_KC
#define ST_NB 128
#define ST_NB_DEEP 128
#define ST_MB 64
#define ST_WIDE2 2
#define ST_WIDE4 1
#endif
#define ST_CHAIN 256     /* values of k that one chain adds up; divides ST_KC and its like */
#define ST_FEW 512       /* rows */
#define ST_BFP24 4       /* what `tiles` is of block floating point of 24 and of 16 bits (tile_bfp.h) */
#define ST_BFP16 5
#define ST_TILE_PANEL 32 /* columns of a panel of tiles (tiles.c), whatever the lanes */
#define ST_DIRECT_ROWS 512 /* of a left operand that lies in parts */
#define ST_PAD 16      /* keeps rows of a copied tile out of each other's cache sets */
#define ST_SHORT 4096  /* floats of a single-row-tile block: few rows get more columns, so fewer callbacks */

#define ST_HIDDEN __attribute__((visibility("hidden")))
#define ST_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ST_MAX(a, b) ((a) > (b) ? (a) : (b))

static inline int64_t st_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t st_round_up(int64_t a, int64_t b) { return st_ceil_div(a, b) * b; }

/* A row stride for n floats that does not put rows into the same cache sets. */
static inline int64_t st_row_stride(int64_t n)
{
    int64_t stride = st_round_up(n, 16);
    return stride % 512 == 0 ? stride + 16 : stride;
}

static inline float *st_align64(void *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* Where the finished elements of a register tile go and what is done to them on the way (st_finish), from its first element on;
 * `columns` of them exist. */
typedef struct st_target {
    float *c;
    int64_t c_row;
    const float *bias, *add;
    int64_t add_row, columns;
    float low, high;
} st_target;

/* A row tile of the left operand: row i is a + i*row, its k columns are `runs` stretches of `length`, `jump` apart (one
 * stretch for a matrix; one per filter row for a convolution that reads X in place).  `into`: how far into a chain it begins.
 * `ahead`: where memory begins that is brought into L2 meanwhile, `pace` bytes for every fourth k, or for every one if
 * `eager`; anywhere readable if pace is 0.  `target`: where finished elements go, or NULL. */
typedef struct st_left {
    const float *a;
    int64_t row, runs, length, jump, into;
    const char *ahead;
    int64_t pace;
    int eager;
    const st_target *target;
} st_left;

/* C[mr][columns] (+)= A[mr][k] * B[k][columns]; resume adds to what c holds.  Columns are fixed by the function:
 * one vector, or 1, 2 or 4 panels, `panel` floats apart.  With a target c is room for sums of chains. */
typedef void (*st_micro_fn)(const st_left *left, const float *b, int64_t ldb, int64_t panel, float *c, int64_t ldc, int resume);
enum { ST_HALF, ST_ONE, ST_TWO, ST_FOUR };
extern const st_micro_fn st_micro[ST_MR + 1][4] ST_HIDDEN;
extern const st_micro_fn st_micro_pairs[ST_MR + 1][4] ST_HIDDEN; /* of pairs of bf16, which k counts */
extern const st_micro_fn st_micro_quads[ST_MR + 1][4] ST_HIDDEN; /* of quads of whole numbers, with sums in int32 */

/* Write rows [row, row+rows) x [k, k+count) of the left operand to out[i*ld + j]. */
typedef void (*st_fill_fn)(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld);

/* Or, where it can be read in place, say how and return 1. */
typedef int (*st_place_fn)(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, st_left *left);

/* A left operand that lies in parts of bf16: part p of the 32 elements of row i at step s of k is at + steps[s] + p * part + i * row,
 * all in bytes.  `foreign`: elements that meet zeros of B may belong to other rows; then a row that comes out not finite is taken
 * again by itself (fill makes it), in `workspace`. */
typedef struct st_planes {
    const char *at;
    const int32_t *steps;
    int64_t part, row;
    int foreign;
    float *workspace; /* st_tiles_floats() of one row */
} st_planes;

/* Rows that `parts` parts of the work need, which compute columns of their own: each part splits some of them (st_tiles_rows), and all
 * meet before they compute (st_tiles_run).  They lie where the workspaces begin, which are `step` floats apart; the product's own is
 * that of number `part`. */
typedef struct st_shared {
    int64_t part, parts, step;
} st_shared;

/* Rows [m0, m1) and columns [n0, n1) of one product; n0 is a multiple of the panel, n1 too unless it is n. */
typedef struct st_product {
    int64_t m0, m1, n0, n1, k;
    const float *a; /* a[i*a_row + k], used when fill is NULL */
    int64_t a_row;
    st_fill_fn fill;
    st_place_fn place; /* or NULL; tried before fill */
    const void *fill_ctx;
    const uint16_t *narrow; /* or NULL; else the left operand is of bf16 (tiles is 1), narrow[i*a_row + k] where fill is NULL: fill makes
                             * such elements, with ld counting floats */
    int64_t together; /* rows that fill makes best at once, up to ST_MR; 0: any (st_tiles_run) */
    int64_t period; /* end row tiles at multiples of this (rows of an image), or 0 */
    const float *b; /* packed, or b[k*b_row + j*b_col] */
    int64_t b_row, b_col;
    int64_t b_panel; /* floats between packed panels; 0: k * ST_PANEL */
    int b_packed;
    int pairs;  /* k, a_row and b count pairs of bf16: fill makes those of the left operand, b is packed */
    int quads;  /* or quads of whole numbers, with sums in int32: behind each packed panel stand the sums of its columns ... */
    int32_t shift; /* ... and accumulators begin at so many times these */
    int tiles;  /* or, if not 0: b is packed in so many parts for tiles, k counts elements and fill makes floats (st_tiles_run) */
    const st_shared *shared; /* of tiles: how rows are shared that are split by now; or NULL */
    const st_planes *planes; /* of tiles: where the rows lie in parts already, at most ST_DIRECT_ROWS of them; or NULL */
    int resume; /* add to what c already holds (store must be NULL, columns whole panels) */
    st_store_fn store;
    const void *store_ctx;
    int64_t batch, row_base, col_base; /* added to what the callback is told, and to where c is written */
    float *c;
    int64_t c_row;
    const st_finish *finish; /* or NULL; used when store is NULL, not in tiles */
    float *workspace; /* st_product_floats() or st_tiles_floats() */
} st_product;
ST_HIDDEN void st_product_run(const st_product *p);
ST_HIDDEN int64_t st_product_floats(int64_t m, int64_t k, int b_packed); /* it grows with m, up to ST_MB */

/* The same in tiles of bf16, each operand a sum of `tiles` parts, or in block floating point; place, period and resume do not apply.
 * B is packed in panels of st_tiles_words() each: for every 32 of k, for every part, 16 rows of ST_TILE_PANEL words of two elements
 * along k; where operands have three parts, of floats; in block floating point, of bytes (kernels.h). */
ST_HIDDEN void st_tiles_run(const st_product *p);
ST_HIDDEN void st_tiles_rows(const st_product *p); /* nothing, unless rows are shared */
ST_HIDDEN int64_t st_tiles_floats(int64_t m, int64_t n, int64_t k, int parts);
ST_HIDDEN int64_t st_tiles_words(int64_t k, int parts);
ST_HIDDEN int64_t st_tiles_direct_floats(int64_t n, int64_t k, int parts); /* the same with planes */

/* What is `direct` of st_conv: in so many floats of workspace, 64 bytes aligned. */
ST_HIDDEN void st_conv_tiles(const st_conv *c, float *workspace, int part, int parts);
ST_HIDDEN int64_t st_conv_tiles_floats(int64_t og, int64_t steps, int parts);

/* Attention in such parts (attention_tiles.c), of more rows than few that share a key/value head or of sequences of any length. */
#define ST_ATTENTION_FEW 8
ST_HIDDEN void st_attention_tiles(const st_attention *a, int part, int parts);
ST_HIDDEN int64_t st_attention_tiles_workspace(int64_t rows, int64_t keys, int64_t dim, int64_t v_dim, int tiles);

/* Pack columns [0, n) of k rows into panels `stride` floats apart, the last one zero padded. */
ST_HIDDEN void st_pack_panels(const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, float *packed, int64_t stride);

/* Which slice of a batch x m x n grid a part computes, columns in whole panels.  Empty slices are normal: parts may exceed the tiles.
 * `across` parts that follow each other compute columns of the same rows; this one is number `at` of them. */
typedef struct st_slice {
    int64_t batch0, batch1, m0, m1, n0, n1, at, across;
} st_slice;
ST_HIDDEN st_slice st_split_by(int64_t panel, int64_t batch, int64_t m, int64_t n, int64_t row_cost, int64_t panel_cost, int part, int parts);
static inline st_slice st_split(int64_t batch, int64_t m, int64_t n, int64_t row_cost, int64_t panel_cost, int part, int parts)
{
    return st_split_by(ST_PANEL, batch, m, n, row_cost, panel_cost, part, parts);
}

/* `to`, where parts share the rows of a slice of one matrix, `step` bytes (or 0: they do not) being between their workspaces: there are
 * several parts, several tiles of rows, and room.  Else NULL. */
ST_HIDDEN const st_shared *st_tiles_shared(const st_slice *s, int64_t k, int tiles, int64_t step, st_shared *to);

#endif
