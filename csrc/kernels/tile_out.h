/* Sums of tiles.c that are complete, on their way out: those that are not finite are taken again, and all are handed to the epilogue, a few
 * rows at a time.
 */
#ifndef STRATAC_KERNELS_TILE_OUT_H
#define STRATAC_KERNELS_TILE_OUT_H

#include "tile_run.h"

static inline vm not_finite(vf x)
{
    const vf rest = vf_sub(x, x); /* 0, or NaN */
    return vf_ne(rest, rest);
}

/* Of a panel of B, columns [j, j + VL) of row k, as floats. */
static inline vf panel_floats(const run *u, const float *panel, int64_t k, int64_t j)
{
    const int parts = u->p->tiles;
    if (bfp_slices(parts)) {
        const int64_t k0 = k / u->kc * u->kc, steps = st_ceil_div(ST_MIN(u->kc, u->p->k - k0), BFP_DEPTH);
        return bfp_floats((const char *)(panel + panel_words(k0, u->kc, parts)), steps, k - k0, j, bfp_slices(parts));
    }
    const float *at = panel + k / TILE_DEPTH * step_words(parts);
    if (parts == WHOLE)
        return vf_load(at + (k % TILE_DEPTH / 2 * (COLUMNS / 16) + j / 16) * PAIR + k % 2 * 16 + j % 16);
    vf sum = vf_zero();
    for (int part = parts - 1; part >= 0; part--) { /* the smallest first: every sum is exact */
        const vi word = vf_as_vi(vf_load(at + part * PART_WORDS + k % TILE_DEPTH / 2 * COLUMNS + j));
        sum = vf_add(sum, vi_as_vf(k % 2 ? vi_and(word, vi_set1((int32_t)0xffff0000u)) : vi_shl(word, 16)));
    }
    return sum;
}

/* Elements of a row of sums that are not finite, again: one chain over k, of A as it is and B as its parts add up. */
static inline void mend_row(const run *u, int64_t row, const float *panels, int64_t cols, float *sums)
{
    const st_product *p = u->p;
    vf again[GROUP / VL];
    for (int64_t j = 0; j < cols; j += VL)
        again[j / VL] = vf_zero();
    for (int64_t k0 = 0; k0 < p->k; k0 += u->kc) {
        const int64_t count = ST_MIN(u->kc, p->k - k0);
        int64_t ld;
        const float *a = floats_of(u, row, 1, k0, count, &ld);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < cols; j += VL) {
                const vf b = panel_floats(u, panels + j / u->columns * u->panel, k0 + i, j % u->columns);
                again[j / VL] = vf_fma(vf_set1(a[i]), b, again[j / VL]);
            }
    }
    for (int64_t j = 0; j < cols; j += VL) {
        const int64_t n = ST_MIN((int64_t)VL, cols - j);
        const vf x = vf_load_n(sums + j, n);
        vf_store_n(sums + j, vf_select(not_finite(x), again[j / VL], x), n);
    }
}

/* A row from what is its own: elements of others that met zeros of B may not have been finite. */
static inline void own_row(run *u, int64_t row, int64_t column, int64_t cols, float *sums)
{
    st_product one = *u->p;
    one.m0 = row, one.m1 = row + 1, one.n0 = column, one.n1 = column + cols;
    one.planes = NULL, one.store = NULL, one.workspace = u->p->planes->workspace;
    one.c = sums, one.c_row = GROUP, one.row_base = -row, one.col_base = -column;
    st_tiles_run(&one);
    u->configured = 0;
}

/* Columns of a tile beyond the last are sums of zeros, finite if the others are. */
static inline int all_finite(const float *sums, int64_t rows, int64_t cols)
{
    vf even = vf_zero(), odd = vf_zero();
    for (int64_t i = 0; i < rows; i++, sums += GROUP)
        for (int64_t j = 0; j < cols; j += 16) {
            even = vf_fma(vf_load(sums + j), vf_zero(), even);
            for (int64_t l = VL; l < 16; l += VL)
                odd = vf_fma(vf_load(sums + j + l), vf_zero(), odd);
        }
    const vf rest = vf_add(even, odd);
    return !vm_any(vf_ne(rest, rest));
}

static inline void mend(run *u, int64_t row, int64_t rows, int64_t column, int64_t cols, float *sums)
{
    const float *panels = u->p->b + column / u->columns * u->panel;
    if (all_finite(sums, rows, cols))
        return;
    for (int64_t i = 0; i < rows; i++, sums += GROUP) {
        if (all_finite(sums, 1, cols))
            continue;
        if (u->p->planes && u->p->planes->foreign)
            own_row(u, row + i, column, cols, sums);
        else
            mend_row(u, row + i, panels, cols, sums);
    }
}

/* No vector reaches into two lines of the result: rows may begin anywhere. */
static inline void copy_out(const float *sums, int64_t rows, int64_t cols, float *to, int64_t to_row)
{
    for (int64_t i = 0; i < rows; i++, sums += GROUP, to += to_row)
        for (int64_t j = 0, n; j < cols; j += n) {
            n = ST_MIN(VL - (int64_t)((uintptr_t)(to + j) / sizeof *to % VL), cols - j);
            vf_store_n(to + j, vf_load_n(sums + j, n), n);
        }
}

static inline void hand_over(run *u, const block *b, finished *f, int64_t share, int64_t row_sums)
{
    const st_product *p = u->p;
    const int64_t at = f->row % ROWS, rows = ST_MIN(ST_MIN(share, ROWS - at), f->rows - f->row), row = b->i + f->row;
    float *sums = f->sums + f->row / ROWS * row_sums + at * GROUP;
    if (p->tiles > 1 || (p->planes && p->planes->foreign))
        mend(u, row, rows, f->column, f->cols, sums);
    if (p->store)
        p->store(p->store_ctx, p->batch, p->row_base + row, rows, p->col_base + f->column, f->cols, sums, GROUP);
    else
        copy_out(sums, rows, f->cols, p->c + (p->row_base + row) * p->c_row + p->col_base + f->column, p->c_row);
    f->row += rows;
}

/* The same of a block that goes out late. */
static inline void hand_late(run *u, int64_t share)
{
    late *l = &u->late;
    finished *f = &l->group;
    if (f->row == f->rows)
        return;
    hand_over(u, &l->block, f, share, l->row_sums);
    const int64_t column = f->column + f->cols, left = l->block.j + l->block.cols - column;
    if (f->row == f->rows && left > 0)
        *f = (finished){column, ST_MIN(left, (int64_t)GROUP), 0, f->rows, f->sums + ROWS * GROUP};
}

/* A block is complete, and the one before it has gone out; `after` is computed next. */
static inline void begin_late(run *u, const block *b, const block *after, float *sums, int64_t row_sums)
{
    late *l = &u->late;
    const int64_t calls = st_ceil_div(after->cols, u->columns) * st_ceil_div(after->rows, ROWS) * st_ceil_div(u->p->k, u->kc);
    l->block = *b;
    l->group = (finished){b->j, ST_MIN(b->cols, (int64_t)GROUP), 0, b->rows, sums};
    l->share = st_ceil_div(b->rows * st_ceil_div(b->cols, GROUP), calls);
    l->row_sums = row_sums;
    l->turn = l->turn ? 0 : l->room;
}

#endif
