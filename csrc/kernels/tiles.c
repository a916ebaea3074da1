/* The blocked loop of the modes that multiply tiles of bf16: bf16, bf16x3 and bf16x6.
 *
 * Operands are sums of one, two or three bf16 (`tiles`, the number of parts), sums are f32.  Of the products of parts those that
 * reach the mode's precision are taken, from the smallest on, so that nothing is lost to what is already there:
 *
 *   bf16x3  a1 b2, a2 b1, a1 b1                              bf16x6  a1 b3, a3 b1, a2 b2, a1 b2, a2 b1, a1 b1
 *
 * A block of C is 2 x 2 tiles.  Its left operand, 32 rows of a k-block in parts, stays in L1 while panels of B stream past from L2,
 * in the order they are stored: both and a block of sums are at most 44 KiB, so that a stretch of B does not drive out the rows.  The rows of the next block are split a few at a time between the panels, where the tile unit has
 * work queued.  Sums grow by one step of 32 elements and one product of parts at a time, in the order of k, whatever the blocks:
 * neither tiles nor threads show in the bits.
 *
 * Where a part is not finite, infinities meet or zeros meet infinities that fp32 never sees.  A result of split operands that is
 * not finite is therefore taken again, as one chain of f32 multiply-adds over k.
 */
#include "../simd/simd_tiles.h"
#include "tile.h"

#define ROWS 32
#define COLUMNS ST_TILE_PANEL
#define GROUP 128             /* columns handed over at once, while they are in L1 */
#define KEPT_ROWS 256         /* rows and columns of sums kept while k is blocked ... */
#define KEPT_COLUMNS 512
#define FEW_ROWS 128          /* ... or, with at most this many rows, fewer rows and more columns */
#define MORE_COLUMNS 1024
#define PART (ROWS * 64)      /* bytes of one part of a step of k, of A (32 rows) as of B (16 pairs of rows by 32 columns) */
#define PART_WORDS (PART / 4)

/* Elements of k whose parts of 32 rows, and of a panel of B, are 18 to 20 KiB. */
static int64_t k_most(int parts) { return parts == 1 ? 320 : parts == 2 ? 160 : 96; }

static int64_t k_block(int64_t k, int parts)
{
    int64_t blocks = ST_MAX(st_ceil_div(k, k_most(parts)), 1);
    return ST_MAX(st_round_up(st_ceil_div(k, blocks), TILE_DEPTH), TILE_DEPTH);
}

static int64_t split_words(int64_t kc, int parts) { return kc / TILE_DEPTH * parts * PART_WORDS; }

int64_t st_tiles_words(int64_t k, int parts) { return st_ceil_div(k, TILE_DEPTH) * parts * PART_WORDS; }

/* Sums that are kept for at most this many rows and columns; it grows with both. */
static int64_t sums_kept(int64_t m, int64_t n)
{
    const int64_t rows = st_round_up(m, ROWS), columns = st_round_up(n, GROUP);
    const int64_t few = ST_MIN(rows, (int64_t)FEW_ROWS) * ST_MIN(columns, (int64_t)MORE_COLUMNS);
    return m <= FEW_ROWS ? few : ST_MAX(few, ST_MIN(rows, (int64_t)KEPT_ROWS) * ST_MIN(columns, (int64_t)KEPT_COLUMNS));
}

int64_t st_tiles_floats(int64_t m, int64_t n, int64_t k, int parts)
{
    const int64_t kc = k_block(k, parts), sums = k > kc ? sums_kept(m, n) : ROWS * GROUP;
    return 2 * split_words(kc, parts) + ST_MR * (kc + ST_PAD) + sums;
}

/* Rows [row, row+rows), columns [k, k+count) of the left operand: in place, or in `copy`. */
static const float *floats_of(const st_product *p, int64_t row, int64_t rows, int64_t k, int64_t count, float *copy, int64_t *ld)
{
    if (!p->fill) {
        *ld = p->a_row;
        return p->a + row * p->a_row + k;
    }
    *ld = k_block(p->k, p->tiles) + ST_PAD;
    p->fill(p->fill_ctx, row, rows, k, count, copy, *ld);
    return copy;
}

/* A row tile of the left operand in parts, on its way: for each step of k, for each part, ROWS rows of 64 bytes. */
typedef struct rows_split {
    int64_t row, rows; /* where it starts; how many of it there are */
    int64_t done;
    float *to;
} rows_split;

/* Until `part` of `of` shares of the rows are done, in whole strips of those that are best made together. */
static void split_share(const st_product *p, rows_split *s, int64_t part, int64_t of, int64_t k0, int64_t count, float *copy)
{
    const int parts = p->tiles;
    const int64_t strip = ST_MAX(p->together, (int64_t)1), end = part == of ? s->rows : s->rows * part / of / strip * strip;
    while (s->done < end) {
        const int64_t rows = ST_MIN(end - s->done, (int64_t)ST_MR);
        int64_t ld;
        const float *from = floats_of(p, s->row + s->done, rows, k0, count, copy, &ld);
        for (int64_t i = 0; i < rows; i++, from += ld) {
            char *to = (char *)s->to + (s->done + i) * 64;
            for (int64_t k = 0; k < count; k += TILE_DEPTH, to += parts * PART)
                tile_split(from + k, ST_MIN(count - k, (int64_t)TILE_DEPTH), parts, to, PART);
        }
        s->done += rows;
    }
}

/* Tiles 0..3 are sums, 4 and 5 rows of A, 6 and 7 columns of B. */
static void configure(tile_file *t, int64_t rows)
{
    tile_shape shape = {.palette = 1};
    for (int n = 0; n < 8; n++) {
        const int64_t own = n < 2 || n == 4 ? ST_MIN(rows, (int64_t)16) : n >= 6 ? 16 : ST_MAX(rows - 16, (int64_t)1);
        shape.row_bytes[n] = 64;
        shape.rows[n] = (uint8_t)own;
    }
    tile_configure(t, &shape);
}

/* One panel of one row tile: `steps` of k.  `tall`: more than 16 rows; `wide`: more than 16 columns.  `next` is what to bring from
 * memory meanwhile, as much as is read of b, or NULL. */
static void panel_sum(tile_file *t, const float *a_words, const float *b_words, const float *next, int64_t steps, int parts, int tall,
                      int wide, float *c, int64_t ldc, int resume)
{
    const char *a = (const char *)a_words, *b = (const char *)b_words, *fetch = (const char *)next;
    const int64_t c_row = ldc * (int64_t)sizeof *c;
    float *lower = c + 16 * ldc;
#define LOAD_A(part)                                                                                                       \
    do {                                                                                                                   \
        tile_load(t, 4, a + (part)*PART, 64);                                                                              \
        if (tall)                                                                                                          \
            tile_load(t, 5, a + (part)*PART + 1024, 64);                                                                   \
    } while (0)
#define LOAD_B(part)                                                                                                       \
    do {                                                                                                                   \
        tile_load(t, 6, b + (part)*PART, 128);                                                                             \
        if (wide)                                                                                                          \
            tile_load(t, 7, b + (part)*PART + 64, 128);                                                                    \
    } while (0)
#define MULTIPLY                                                                                                           \
    do {                                                                                                                   \
        tile_dot(t, 0, 4, 6);                                                                                              \
        if (wide)                                                                                                          \
            tile_dot(t, 1, 4, 7);                                                                                          \
        if (tall)                                                                                                          \
            tile_dot(t, 2, 5, 6);                                                                                          \
        if (tall && wide)                                                                                                  \
            tile_dot(t, 3, 5, 7);                                                                                          \
    } while (0)
    if (resume) {
        tile_load(t, 0, c, c_row);
        if (wide)
            tile_load(t, 1, c + 16, c_row);
        if (tall)
            tile_load(t, 2, lower, c_row);
        if (tall && wide)
            tile_load(t, 3, lower + 16, c_row);
    } else {
        tile_zero(t, 0);
        tile_zero(t, 1);
        tile_zero(t, 2);
        tile_zero(t, 3);
    }
    for (; steps > 0; steps--, a += parts * PART, b += parts * PART) {
        if (fetch)
            for (const char *end = fetch + parts * PART; fetch < end; fetch += 64)
                __builtin_prefetch(fetch, 0, 2);
        if (parts == 1) {
            LOAD_A(0);
            LOAD_B(0);
        } else if (parts == 2) {
            LOAD_A(0);
            LOAD_B(1);
            MULTIPLY;
            LOAD_A(1);
            LOAD_B(0);
            MULTIPLY;
            LOAD_A(0);
        } else {
            LOAD_A(0);
            LOAD_B(2);
            MULTIPLY;
            LOAD_A(2);
            LOAD_B(0);
            MULTIPLY;
            LOAD_A(1);
            LOAD_B(1);
            MULTIPLY;
            LOAD_A(0);
            MULTIPLY;
            LOAD_A(1);
            LOAD_B(0);
            MULTIPLY;
            LOAD_A(0);
        }
        MULTIPLY;
    }
    tile_store(t, 0, c, c_row);
    if (wide)
        tile_store(t, 1, c + 16, c_row);
    if (tall)
        tile_store(t, 2, lower, c_row);
    if (tall && wide)
        tile_store(t, 3, lower + 16, c_row);
}

static vm not_finite(vf x)
{
    const vf rest = vf_sub(x, x); /* 0, or NaN */
    return vf_ne(rest, rest);
}

/* Elements of a row of sums that are not finite, again: one chain over k, of A as it is and the sum of the parts of B. */
static void mend_row(const st_product *p, int64_t row, const float *panels, int64_t cols, float *sums, float *copy)
{
    const int64_t kc = k_block(p->k, p->tiles), panel = st_tiles_words(p->k, p->tiles);
    vf again[GROUP / VL];
    for (int64_t j = 0; j < cols; j += VL)
        again[j / VL] = vf_zero();
    for (int64_t k0 = 0; k0 < p->k; k0 += kc) {
        const int64_t count = ST_MIN(kc, p->k - k0);
        int64_t ld;
        const float *a = floats_of(p, row, 1, k0, count, copy, &ld);
        for (int64_t i = 0; i < count; i++) {
            const int64_t k = k0 + i, in_step = k % TILE_DEPTH / 2 * COLUMNS;
            const float *at = panels + k / TILE_DEPTH * p->tiles * PART_WORDS + in_step;
            for (int64_t j = 0; j < cols; j += VL) {
                const float *words = at + j / COLUMNS * panel + j % COLUMNS;
                vf b = vf_zero();
                for (int part = p->tiles - 1; part >= 0; part--) { /* the smallest first: every sum is exact */
                    const vi word = vf_as_vi(vf_load(words + part * PART_WORDS));
                    const vf value = vi_as_vf(k % 2 ? vi_and(word, vi_set1((int32_t)0xffff0000u)) : vi_shl(word, 16));
                    b = vf_add(b, value);
                }
                again[j / VL] = vf_fma(vf_set1(a[i]), b, again[j / VL]);
            }
        }
    }
    for (int64_t j = 0; j < cols; j += VL) {
        const int64_t n = ST_MIN((int64_t)VL, cols - j);
        const vf x = vf_load_n(sums + j, n);
        vf_store_n(sums + j, vf_select(not_finite(x), again[j / VL], x), n);
    }
}

static void mend(const st_product *p, int64_t row, int64_t rows, const float *panels, int64_t cols, float *sums, float *copy)
{
    for (int64_t i = 0; i < rows; i++, sums += GROUP) {
        vf rest = vf_zero();
        for (int64_t j = 0; j < cols; j += VL) {
            const vf x = vf_load_n(sums + j, ST_MIN((int64_t)VL, cols - j));
            rest = vf_add(rest, vf_sub(x, x));
        }
        if (vm_any(vf_ne(rest, rest)))
            mend_row(p, row + i, panels, cols, sums, copy);
    }
}

static void copy_out(const float *sums, int64_t rows, int64_t cols, float *to, int64_t to_row)
{
    for (int64_t i = 0; i < rows; i++, sums += GROUP, to += to_row)
        for (int64_t j = 0; j < cols; j += VL) {
            const int64_t n = ST_MIN((int64_t)VL, cols - j);
            vf_store_n(to + j, vf_load_n(sums + j, n), n);
        }
}

/* Columns [j, j + cols) of rows [i, end) over one block of k: `sums` are GROUP columns of a row tile after the other, or, where k
 * is one block, always the same. */
static void row_tiles(const st_product *p, tile_file *t, int64_t *configured, int64_t i, int64_t end, int64_t j, int64_t cols,
                      int64_t k0, int64_t kc, float *split, float *copy, float *sums)
{
    const int parts = p->tiles;
    const int64_t count = ST_MIN(kc, p->k - k0), steps = st_ceil_div(count, TILE_DEPTH), words = st_tiles_words(p->k, parts);
    const int64_t panels = st_ceil_div(cols, COLUMNS), keep = kc < p->k, last = k0 + count >= p->k;
    const float *b = p->b + j / COLUMNS * words + k0 / TILE_DEPTH * parts * PART_WORDS;
    rows_split here = {i, ST_MIN(end - i, (int64_t)ROWS), 0, split};
    split_share(p, &here, 1, 1, k0, count, copy);
    for (int64_t r = i; r < end; r += ROWS) {
        const int64_t after = r + ROWS;
        rows_split next = {after, ST_MAX(ST_MIN(end - after, (int64_t)ROWS), (int64_t)0), 0,
                           split + (here.to == split ? split_words(kc, parts) : 0)};
        if (*configured != here.rows)
            configure(t, *configured = here.rows);
        for (int64_t q = 0; q < panels; q++) {
            float *group = sums + (keep ? ((r - i) / ROWS * st_ceil_div(cols, GROUP) + q * COLUMNS / GROUP) * ROWS * GROUP : 0);
            const float *panel = b + q * words, *ahead = r == i && q + 1 < panels ? panel + words : NULL;
            panel_sum(t, here.to, panel, ahead, steps, parts, here.rows > 16, cols - q * COLUMNS > 16,
                      group + q * COLUMNS % GROUP, GROUP, k0 > 0);
            split_share(p, &next, q + 1, panels, k0, count, copy);
            if (!last || ((q + 1) * COLUMNS % GROUP && q + 1 < panels))
                continue;
            const int64_t from = q * COLUMNS / GROUP * GROUP, wide = ST_MIN(cols - from, (int64_t)GROUP);
            if (parts > 1)
                mend(p, r, here.rows, p->b + (j + from) / COLUMNS * words, wide, group, copy);
            if (p->store)
                p->store(p->store_ctx, p->batch, p->row_base + r, here.rows, p->col_base + j + from, wide, group, GROUP);
            else
                copy_out(group, here.rows, wide, p->c + (p->row_base + r) * p->c_row + p->col_base + j + from, p->c_row);
        }
        here = next;
    }
}

void st_tiles_run(const st_product *p)
{
    const int64_t rows_all = p->m1 - p->m0, kc = k_block(p->k, p->tiles);
    if (rows_all <= 0 || p->n1 <= p->n0)
        return;
    const int few = rows_all <= FEW_ROWS;
    const int64_t nb = few ? MORE_COLUMNS : KEPT_COLUMNS, mb = few ? FEW_ROWS : kc < p->k ? KEPT_ROWS : rows_all;
    float *split = p->workspace, *copy = split + 2 * split_words(kc, p->tiles), *sums = copy + ST_MR * (kc + ST_PAD);
    tile_file tiles;
    int64_t configured = 0;
    for (int64_t j = p->n0; j < p->n1; j += nb)
        for (int64_t i = p->m0; i < p->m1; i += mb) {
            int64_t k0 = 0;
            do { /* once even where there is nothing to add up */
                row_tiles(p, &tiles, &configured, i, ST_MIN(i + mb, p->m1), j, ST_MIN(nb, p->n1 - j), k0, kc, split, copy, sums);
                k0 += kc;
            } while (k0 < p->k);
        }
    tile_release(&tiles);
}
