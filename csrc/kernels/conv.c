/* Convolution as an implicit product: rows are output pixels, k runs over (ky, kx, channel).  A tile of rows is gathered into
 * the workspace just before it is used; a 1x1 convolution without stride or padding reads X in place. */
#include "../simd/simd_pairs.h"
#include "window.h"

typedef struct source {
    const st_window *window;
    const float *x; /* at the group's first channel */
    const uint16_t *narrow; /* or this */
    float *row;     /* of pairs: room for a pixel's stretch of k, or NULL where it lies in x as it is */
} source;

static void gather(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    st_gather_windows(s->window, sizeof(float), 0, s->x, row, rows, k, count, out, (int64_t)sizeof(float) * ld);
}

static void gather_narrow(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    st_gather_windows(s->window, sizeof(uint16_t), 0, s->narrow, row, rows, k, count, out, (int64_t)sizeof(float) * ld);
}

/* Pixels' windows as pairs; k and count are of pairs. */
static void gather_pairs(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    const st_window *w = s->window;
    const int64_t from = 2 * k, floats = ST_MIN(2 * count, w->kh * w->kw * w->cg - from);
    for (int64_t i = 0; i < rows; i++, out += ld) {
        if (s->row)
            gather(ctx, row + i, 1, from, floats, s->row, 0);
        bf16_pairs(s->row ? s->row : s->x + (row + i) * w->x_w + from, floats, out);
    }
}

static int place(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, st_left *left)
{
    const source *s = ctx;
    (void)k; /* 0 where count is all of k */
    return st_place_windows(s->window, sizeof(float), s->x, row, rows, count, left);
}

int64_t st_conv_workspace(int64_t k, int64_t og, int pairs, int tiles, int64_t direct)
{
    if (direct)
        return 4 * st_conv_tiles_floats(og, direct, tiles) + 64;
    if (tiles)
        return 4 * st_tiles_floats(INT32_MAX, og, k, tiles) + 64;
    const int64_t product = st_product_floats(ST_MB, pairs ? st_ceil_div(k, 2) : k, 1);
    return 4 * (product + (pairs ? st_round_up(k, 16) + ST_PAD : 0)) + 64;
}

/* The convolution, or, `rows`, what comes before it. */
static void part_of(const st_conv *c, int part, int parts, int rows)
{
    const st_window *w = &c->window;
    const int64_t floats = w->kh * w->kw * w->cg, k = c->pairs ? st_ceil_div(floats, 2) : floats, m = w->n * w->oh * w->ow;
    const int64_t panel = c->tiles ? ST_TILE_PANEL : ST_PANEL, words = c->tiles ? st_tiles_words(k, c->tiles) : k * ST_PANEL;
    st_slice s = c->tiles ? st_split_by(panel, w->groups, m, w->og, 32, 256, part, parts) : st_split(w->groups, m, w->og, 8, 32, part, parts);
    float *workspace = st_align64(c->workspace);
    st_shared shared;
    const int in_place = st_windows_are_pixels(w);
    source src = {w, NULL, NULL, c->pairs && !in_place ? workspace + st_product_floats(ST_MB, k, 1) : NULL};
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = k,
        .a_row = w->x_w, .fill = c->pairs ? gather_pairs : in_place ? NULL : c->narrow ? gather_narrow : gather,
        .fill_ctx = &src, .b_packed = 1, .pairs = c->pairs, .tiles = c->tiles,
        .store = c->store, .store_ctx = c->store_ctx, .c = c->c, .c_row = c->c_row, .finish = c->finish.on ? &c->finish : NULL,
        .shared = st_tiles_shared(&s, k, c->tiles, c->shared, &shared), .workspace = workspace,
    };
    if (p.fill && !c->pairs && !c->tiles && st_windows_in_line(w)) {
        p.place = place;
        p.period = w->ow;
    }
    for (int64_t group = s.batch0; group < s.batch1; group++) {
        if (c->narrow)
            p.narrow = src.narrow = c->narrow + group * w->cg;
        else
            p.a = src.x = c->x + group * w->cg;
        p.b = c->filter + group * st_ceil_div(w->og, panel) * words;
        p.col_base = group * w->og;
        (rows ? st_tiles_rows : c->tiles ? st_tiles_run : st_product_run)(&p);
    }
}

void st_conv_f32(const st_conv *c, int part, int parts)
{
    if (c->direct)
        st_conv_tiles(c, st_align64(c->workspace), part, parts);
    else
        part_of(c, part, parts, 0);
}

void st_conv_rows(const st_conv *c, int part, int parts) { part_of(c, part, parts, 1); }
