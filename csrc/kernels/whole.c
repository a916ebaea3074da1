/* Products and convolutions of whole numbers of 8 bits, in terms of st_product_run over words of four.
 *
 * Rows of the left operand that begin and end at whole words are read where they lie; others are copied, a tile at a time, like those
 * that a convolution gathers.  The zero point costs nothing there: what it takes from a sum is a multiple of the sum of B's column,
 * which is packed behind each panel, and sums begin at it.  Outside of an image lies the zero point.
 */
#include "../simd/simd_quads.h"
#include "tile.h"

#define WORD 4

static int64_t words_of(int64_t k) { return st_ceil_div(k, WORD); }

/* Whether an address and the steps from it are those of words. */
static int in_words(const void *p, int64_t a, int64_t b, int64_t c)
{
    return ((uintptr_t)p | (uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % WORD == 0;
}

/* A few bytes, most often not many: calls of memcpy cost as much as what they copy. */
static inline void copy_bytes(uint8_t *out, const uint8_t *from, int64_t count)
{
    if (count >= 16) {
        for (int64_t i = 0; i + 16 <= count; i += 16)
            memcpy(out + i, from + i, 16);
        memcpy(out + count - 16, from + count - 16, 16);
    } else if (count >= 8) {
        memcpy(out, from, 8);
        memcpy(out + count - 8, from + count - 8, 8);
    } else if (count >= 4) {
        memcpy(out, from, 4);
        memcpy(out + count - 4, from + count - 4, 4);
    } else {
        for (int64_t i = 0; i < count; i++)
            out[i] = from[i];
    }
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

int64_t st_gemm_i8_workspace(int64_t k) { return 4 * st_product_floats(words_of(k), 1) + 64; }

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

typedef struct window {
    const st_whole_conv *c;
    const uint8_t *x; /* at the group's first channel */
} window;

/* One output pixel's window, k0 <= k < k0 + count.  Neighbouring taps of a row are one run when channels are dense in x. */
static void gather_pixel(const window *w, const uint8_t *image, int64_t y, int64_t x, int64_t k0, int64_t count, uint8_t *out)
{
    const st_whole_conv *c = w->c;
    const int64_t row_k = c->kw * c->cg, end = k0 + count;
    const int dense = c->dilation_w == 1 && c->x_w == c->cg;
    for (int64_t ky = k0 / row_k; ky * row_k < end; ky++) {
        int64_t from = ST_MAX(k0, ky * row_k), to = ST_MIN(end, (ky + 1) * row_k);
        const int64_t iy = y + ky * c->dilation_h;
        if (iy < 0 || iy >= c->h) {
            memset(out, c->zero, (size_t)(to - from));
            out += to - from;
            continue;
        }
        const uint8_t *line = image + iy * c->x_h;
        if (dense) {
            /* k - ky*row_k counts bytes from pixel x; those left of 0 or right of w are padding. */
            const int64_t first = x * c->cg + from - ky * row_k, count_here = to - from, over = first + count_here - c->w * c->cg;
            const int64_t left = ST_MIN(ST_MAX(-first, (int64_t)0), count_here), right = ST_MIN(ST_MAX(over, (int64_t)0), count_here);
            if (left)
                memset(out, c->zero, (size_t)left);
            if (left + right < count_here)
                copy_bytes(out + left, line + (first + left), count_here - left - right);
            if (right)
                memset(out + (count_here - right), c->zero, (size_t)right);
            out += count_here;
            continue;
        }
        while (from < to) {
            const int64_t kx = (from - ky * row_k) / c->cg, ch = (from - ky * row_k) % c->cg;
            const int64_t run = ST_MIN(c->cg - ch, to - from), ix = x + kx * c->dilation_w;
            if (ix < 0 || ix >= c->w)
                memset(out, c->zero, (size_t)run);
            else
                copy_bytes(out, line + ix * c->x_w + ch, run);
            out += run;
            from += run;
        }
    }
}

static void gather(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const window *w = ctx;
    const st_whole_conv *c = w->c;
    const int64_t from = WORD * k, bytes = ST_MIN(WORD * count, c->kh * c->kw * c->cg - from);
    int64_t x = row % c->ow, y = row / c->ow % c->oh, n = row / c->ow / c->oh;
    for (int64_t i = 0; i < rows; i++, out += ld) {
        uint8_t *to = (uint8_t *)out;
        gather_pixel(w, w->x + n * c->x_n, y * c->stride_h - c->pad_top, x * c->stride_w - c->pad_left, from, bytes, to);
        end_of_row(to, bytes, WORD * count);
        if (++x == c->ow) {
            x = 0;
            if (++y == c->oh)
                y = 0, n++;
        }
    }
}

/* A tile inside one output row, with every tap inside the image, needs no gathering where all lies at whole words: its rows are a
 * constant distance apart, each filter row one stretch. */
static int place(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, st_left *left)
{
    const window *w = ctx;
    const st_whole_conv *c = w->c;
    (void)k; /* 0: count is all of k */
    const int64_t x = row % c->ow, y = row / c->ow % c->oh, n = row / c->ow / c->oh;
    const int64_t iy = y * c->stride_h - c->pad_top, ix = x * c->stride_w - c->pad_left;
    const int64_t run = c->kw * c->cg / WORD, step = c->stride_w * c->x_w / WORD;
    if (count != c->kh * run || x + rows > c->ow || iy < 0 || iy + (c->kh - 1) * c->dilation_h >= c->h || ix < 0 ||
        ix + (rows - 1) * c->stride_w + c->kw > c->w || step % 1024 == 0)
        return 0;
    const uint8_t *from = w->x + n * c->x_n + iy * c->x_h + ix * c->x_w;
    *left = (st_left){(const float *)(const void *)from, step, c->kh, run, c->dilation_h * c->x_h / WORD, 0};
    return 1;
}

static int in_place(const st_whole_conv *c)
{
    return c->kh == 1 && c->kw == 1 && c->stride_h == 1 && c->stride_w == 1 && c->pad_top == 0 && c->pad_left == 0 &&
           c->oh == c->h && c->ow == c->w && (c->h == 1 || c->x_h == c->w * c->x_w) && (c->n == 1 || c->x_n == c->h * c->w * c->x_w);
}

void st_conv_i8(const st_whole_conv *c, int part, int parts)
{
    const int64_t words = words_of(c->kh * c->kw * c->cg), m = c->n * c->oh * c->ow, panel = (words + 1) * ST_PANEL;
    const st_slice s = st_split(c->groups, m, c->og, 8, 32, part, parts);
    const int aligned = in_words(c->x, c->cg, c->x_w, c->x_h) && in_words(NULL, c->x_n, 0, 0);
    window w = {c, NULL};
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = words, .a_row = c->x_w / WORD,
        .fill = aligned && in_place(c) ? NULL : gather, .fill_ctx = &w,
        .b_panel = panel, .b_packed = 1, .quads = 1, .shift = ST_QUAD_OFFSET - c->zero,
        .store = c->store, .store_ctx = c->store_ctx, .c = (float *)(void *)c->c, .c_row = c->c_row, .workspace = st_align64(c->workspace),
    };
    const int dense = c->kw == 1 || (c->dilation_w == 1 && c->x_w == c->cg);
    if (p.fill && aligned && dense && st_round_up(c->ow, ST_MR) * 8 <= c->ow * 9) {
        p.place = place;
        p.period = c->ow;
    }
    for (int64_t group = s.batch0; group < s.batch1; group++) {
        w.x = c->x + group * c->cg;
        p.a = (const float *)(const void *)w.x;
        p.b = (const float *)(const void *)c->filter + group * st_ceil_div(c->og, ST_PANEL) * panel;
        p.col_base = group * c->og;
        st_product_run(&p);
    }
}
