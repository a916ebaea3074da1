/* Products and convolutions of whole numbers of 8 bits, in terms of st_product_run over words of four.
 *
 * Rows of the left operand that begin and end at whole words are read where they lie; others are copied, a tile at a time, like those
 * that a convolution gathers.  The zero point costs nothing there: what it takes from a sum is a multiple of the sum of B's column,
 * which is packed behind each panel, and sums begin at it.  Outside of an image lies the zero point.
 */
#include "../simd/simd_quads.h"
#include "window.h"

#define WORD 4

static int64_t words_of(int64_t k) { return st_ceil_div(k, WORD); }

/* Whether an address and the steps from it are those of words. */
static int in_words(const void *p, int64_t a, int64_t b, int64_t c)
{
    return ((uintptr_t)p | (uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % WORD == 0;
}

static inline void end_of_row(uint8_t *row, int64_t from, int64_t to)
{
    if (from < to)
        memset(row + from, 0, (size_t)(to - from));
}

/* -- products -- */

typedef struct source {
    const uint8_t *a;
    int64_t row, col, k;
} source;

static void fill_rows(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    const int64_t bytes = ST_MIN(WORD * count, s->k - WORD * k);
    for (int64_t i = 0; i < rows; i++) {
        uint8_t *to = (uint8_t *)(out + i * ld);
        const uint8_t *a = s->a + (row + i) * s->row + WORD * k * s->col;
        if (s->col == 1)
            memcpy(to, a, (size_t)bytes);
        else
            for (int64_t j = 0; j < bytes; j++)
                to[j] = a[j * s->col];
        end_of_row(to, bytes, WORD * count);
    }
}

int64_t st_gemm_i8_workspace(int64_t k) { return 4 * st_product_floats(ST_MB, words_of(k), 1) + 64; }

void st_gemm_i8(const st_whole_gemm *g, int part, int parts)
{
    const st_slice s = st_split(g->batch, g->m, g->n, 4, 32, part, parts);
    const int64_t words = words_of(g->k);
    source src = {.row = g->a_row, .col = g->a_col, .k = g->k};
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = words, .a_row = g->a_row / WORD, .fill_ctx = &src,
        .b_panel = (words + 1) * ST_PANEL, .b_packed = 1, .quads = 1, .shift = ST_QUAD_OFFSET - g->zero,
        .store = g->store, .store_ctx = g->store_ctx, .c_row = g->c_row, .workspace = st_align64(g->workspace),
    };
    for (int64_t batch = s.batch0; batch < s.batch1; batch++) {
        src.a = g->a + batch * g->a_batch;
        p.fill = in_words(src.a, g->a_row, g->k, 0) && (g->a_col == 1 || g->k <= 1) ? NULL : fill_rows;
        p.a = (const float *)(const void *)src.a;
        p.b = (const float *)(const void *)(g->b + batch * g->b_batch);
        p.batch = batch;
        p.c = g->store ? NULL : (float *)(void *)(g->c + batch * g->c_batch);
        st_product_run(&p);
    }
}

/* -- convolutions -- */

typedef struct image {
    const st_window *window;
    const uint8_t *x; /* at the group's first channel */
    int zero;
} image;

static void gather(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const image *s = ctx;
    const st_window *w = s->window;
    const int64_t from = WORD * k, bytes = ST_MIN(WORD * count, w->kh * w->kw * w->cg - from);
    st_gather_windows(w, 1, s->zero, s->x, row, rows, from, bytes, out, WORD * ld);
    for (int64_t i = 0; i < rows; i++)
        end_of_row((uint8_t *)(out + i * ld), bytes, WORD * count);
}

static int place(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, st_left *left)
{
    const image *s = ctx;
    (void)k; /* 0 where count is all of k */
    return st_place_windows(s->window, 1, s->x, row, rows, count, left);
}

void st_conv_i8(const st_whole_conv *c, int part, int parts)
{
    const st_window *w = &c->window;
    const int64_t words = words_of(w->kh * w->kw * w->cg), m = w->n * w->oh * w->ow, panel = (words + 1) * ST_PANEL;
    const st_slice s = st_split(w->groups, m, w->og, 8, 32, part, parts);
    const int aligned = in_words(c->x, w->cg, w->x_w, w->x_h) && in_words(NULL, w->x_n, 0, 0);
    image src = {w, NULL, c->zero};
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = words, .a_row = w->x_w / WORD,
        .fill = aligned && st_windows_are_pixels(w) ? NULL : gather, .fill_ctx = &src,
        .b_panel = panel, .b_packed = 1, .quads = 1, .shift = ST_QUAD_OFFSET - c->zero,
        .store = c->store, .store_ctx = c->store_ctx, .c = (float *)(void *)c->c, .c_row = c->c_row, .workspace = st_align64(c->workspace),
    };
    if (p.fill && aligned && st_windows_in_line(w)) {
        p.place = place;
        p.period = w->ow;
    }
    for (int64_t group = s.batch0; group < s.batch1; group++) {
        src.x = c->x + group * w->cg;
        p.a = (const float *)(const void *)src.x;
        p.b = (const float *)(const void *)c->filter + group * st_ceil_div(w->og, ST_PANEL) * panel;
        p.col_base = group * w->og;
        st_product_run(&p);
    }
}
