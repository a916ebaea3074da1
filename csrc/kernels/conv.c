/* Convolution as an implicit product: rows are output pixels, k runs over (ky, kx, channel).  A tile of rows is gathered into
 * the workspace just before it is used; a 1x1 convolution without stride or padding reads X in place. */
#include "../simd/simd_pairs.h"
#include "tile.h"

typedef struct window {
    const st_conv *c;
    const float *x; /* at the group's first channel */
    float *row;     /* of pairs: room for a pixel's stretch of k, or NULL where it lies in x as it is */
} window;

static inline void copy_run(float *out, const float *from, int64_t count)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        vf_store(out + i, vf_load(from + i));
    if (i < count)
        vf_store_n(out + i, vf_load_n(from + i, count - i), count - i);
}

static inline void zero_run(float *out, int64_t count)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        vf_store(out + i, vf_zero());
    if (i < count)
        vf_store_n(out + i, vf_zero(), count - i);
}

/* count floats, rounded up to whole vectors on the writing side only: what follows is overwritten by the next run, and a
 * tile row has ST_PAD floats of slack. */
static inline void copy_over(float *out, const float *from, int64_t count)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        vf_store(out + i, vf_load(from + i));
    if (i < count)
        vf_store(out + i, vf_load_n(from + i, count - i));
}

/* One output pixel's window, k0 <= k < k0 + count.  Neighbouring taps of a row are one run when channels are dense in x. */
static void gather_pixel(const window *w, const float *image, int64_t y, int64_t x, int64_t k0, int64_t count, float *out)
{
    const st_conv *c = w->c;
    int64_t row_k = c->kw * c->cg, end = k0 + count;
    int dense = c->dilation_w == 1 && c->x_w == c->cg;
    for (int64_t ky = k0 / row_k; ky * row_k < end; ky++) {
        int64_t from = ST_MAX(k0, ky * row_k), to = ST_MIN(end, (ky + 1) * row_k);
        int64_t iy = y + ky * c->dilation_h;
        if (iy < 0 || iy >= c->h) {
            zero_run(out, to - from);
            out += to - from;
            continue;
        }
        const float *line = image + iy * c->x_h;
        if (dense) {
            /* k - ky*row_k counts floats from pixel x; those left of 0 or right of w are padding. */
            int64_t first = x * c->cg + from - ky * row_k, last = first + to - from, limit = c->w * c->cg;
            int64_t left = ST_MIN(ST_MAX(-first, (int64_t)0), last - first);
            int64_t right = ST_MIN(ST_MAX(last - limit, (int64_t)0), last - first);
            if (left)
                zero_run(out, left);
            if (left + right < last - first)
                copy_run(out + left, line + first + left, last - first - left - right);
            if (right)
                zero_run(out + (last - first) - right, right);
            out += last - first;
            continue;
        }
        while (from < to) {
            int64_t kx = (from - ky * row_k) / c->cg, ch = (from - ky * row_k) % c->cg;
            int64_t run = ST_MIN(c->cg - ch, to - from), ix = x + kx * c->dilation_w;
            if (ix < 0 || ix >= c->w)
                zero_run(out, run);
            else
                copy_run(out, line + ix * c->x_w + ch, run);
            out += run;
            from += run;
        }
    }
}

static void gather(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const window *w = ctx;
    const st_conv *c = w->c;
    int64_t x = row % c->ow, y = row / c->ow % c->oh, n = row / c->ow / c->oh;
    int64_t run = c->kw * c->cg, down = c->dilation_h * c->x_h;
    int whole = count == c->kh * run && c->dilation_w == 1 && c->x_w == c->cg;
    for (int64_t i = 0; i < rows; i++, out += ld) {
        int64_t iy = y * c->stride_h - c->pad_top, ix = x * c->stride_w - c->pad_left;
        const float *image = w->x + n * c->x_n;
        if (whole && iy >= 0 && iy + (c->kh - 1) * c->dilation_h < c->h && ix >= 0 && ix + c->kw <= c->w) {
            const float *from = image + iy * c->x_h + ix * c->cg;
            float *to = out;
            for (int64_t ky = 0; ky < c->kh; ky++, from += down, to += run)
                copy_over(to, from, run);
        } else {
            gather_pixel(w, image, iy, ix, k, count, out);
        }
        if (++x == c->ow) {
            x = 0;
            if (++y == c->oh)
                y = 0, n++;
        }
    }
}

/* Pixels' windows as pairs; k and count are of pairs. */
static void gather_pairs(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const window *w = ctx;
    const st_conv *c = w->c;
    const int64_t from = 2 * k, floats = ST_MIN(2 * count, c->kh * c->kw * c->cg - from);
    for (int64_t i = 0; i < rows; i++, out += ld) {
        if (w->row)
            gather(ctx, row + i, 1, from, floats, w->row, 0);
        bf16_pairs(w->row ? w->row : w->x + (row + i) * c->x_w + from, floats, out);
    }
}

/* A tile inside one output row, with every tap inside the image, needs no gathering: its rows are a constant distance
 * apart, each filter row one stretch. */
static int place(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, st_left *left)
{
    const window *w = ctx;
    const st_conv *c = w->c;
    (void)k; /* 0: count is all of k */
    int64_t x = row % c->ow, y = row / c->ow % c->oh, n = row / c->ow / c->oh;
    int64_t iy = y * c->stride_h - c->pad_top, ix = x * c->stride_w - c->pad_left, run = c->kw * c->cg, step = c->stride_w * c->x_w;
    if (count != c->kh * run || x + rows > c->ow || iy < 0 || iy + (c->kh - 1) * c->dilation_h >= c->h || ix < 0 ||
        ix + (rows - 1) * c->stride_w + c->kw > c->w || step % 1024 == 0)
        return 0;
    *left = (st_left){w->x + n * c->x_n + iy * c->x_h + ix * c->x_w, step, c->kh, run, c->dilation_h * c->x_h, 0};
    return 1;
}

static int in_place(const st_conv *c)
{
    return c->kh == 1 && c->kw == 1 && c->stride_h == 1 && c->stride_w == 1 && c->pad_top == 0 && c->pad_left == 0 &&
           c->oh == c->h && c->ow == c->w && (c->h == 1 || c->x_h == c->w * c->x_w) && (c->n == 1 || c->x_n == c->h * c->w * c->x_w);
}

int64_t st_conv_workspace(int64_t k, int64_t og, int pairs, int tiles)
{
    if (tiles)
        return 4 * st_tiles_floats(INT32_MAX, og, k, tiles) + 64;
    const int64_t product = st_product_floats(pairs ? st_ceil_div(k, 2) : k, 1);
    return 4 * (product + (pairs ? st_round_up(k, 16) + ST_PAD : 0)) + 64;
}

void st_conv_f32(const st_conv *c, int part, int parts)
{
    const int64_t floats = c->kh * c->kw * c->cg, k = c->pairs ? st_ceil_div(floats, 2) : floats, m = c->n * c->oh * c->ow;
    const int64_t panel = c->tiles ? ST_TILE_PANEL : ST_PANEL, words = c->tiles ? st_tiles_words(k, c->tiles) : k * ST_PANEL;
    st_slice s = c->tiles ? st_split_by(panel, c->groups, m, c->og, 32, 256, part, parts) : st_split(c->groups, m, c->og, 8, 32, part, parts);
    float *workspace = st_align64(c->workspace);
    window w = {c, NULL, c->pairs && !in_place(c) ? workspace + st_product_floats(k, 1) : NULL};
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = k,
        .a_row = c->x_w, .fill = c->pairs ? gather_pairs : in_place(c) ? NULL : gather, .fill_ctx = &w, .b_packed = 1, .pairs = c->pairs, .tiles = c->tiles,
        .store = c->store, .store_ctx = c->store_ctx, .c = c->c, .c_row = c->c_row, .workspace = workspace,
    };
    int dense = c->kw == 1 || (c->dilation_w == 1 && c->x_w == c->cg);
    if (p.fill && !c->pairs && !c->tiles && dense && st_round_up(c->ow, ST_MR) * 8 <= c->ow * 9) {
        p.place = place;
        p.period = c->ow;
    }
    for (int64_t group = s.batch0; group < s.batch1; group++) {
        p.a = w.x = c->x + group * c->cg;
        p.b = c->filter + group * st_ceil_div(c->og, panel) * words;
        p.col_base = group * c->og;
        (c->tiles ? st_tiles_run : st_product_run)(&p);
    }
}
