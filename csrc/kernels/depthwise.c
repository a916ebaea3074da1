/* Depthwise convolution: vectors of channels, a stretch of one output row in registers.
 *
 * An input vector is loaded once and used by every output of the stretch that needs it.  Each output sums its taps in
 * (ky, kx) order; rows of taps above or below the image are left out, taps left or right of it multiply zero.
 */
#include "tile.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define PIXELS 8 /* most outputs along x kept in registers */
#define TILE_FLOATS 4096

/* Loops spelled out: clang unrolls nested loops too late to keep an array of accumulators in registers. */
#define EACH_PIXEL(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define EACH_COLUMN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) M(16) M(17) M(18) M(19) M(20)
#define CLEAR(I) acc[I] = vf_zero();
#define STORE(I)                                                                                                           \
    if (I < pixels && I < count)                                                                                           \
        lanes == VL ? vf_store(out + I * ld, acc[I]) : vf_store_n(out + I * ld, acc[I], lanes);

/* Where a stretch begins: its first input column (may be left of the image), its rows of taps inside the image. */
typedef struct stretch {
    const float *x; /* first image row used, column 0, first channel */
    const float *filter;
    int64_t ix, rows, channel;
} stretch;

/* The vector at input column ix, which `at` points to if it is inside the image. */
ALWAYS_INLINE vf column(const st_conv *c, const float *at, int64_t ix, int64_t lanes, const int inside)
{
    if (!inside && (ix < 0 || ix >= c->window.w))
        return vf_zero();
    return lanes == VL ? vf_load(at) : vf_load_n(at, lanes);
}

/* kw and stride known to the compiler, dilation 1: out[i*ld] for i < pixels. */
ALWAYS_INLINE void dense(const st_conv *c, const stretch *s, const int pixels, const int kw, const int stride, int64_t count,
                         int64_t lanes, const int inside, float *out, int64_t ld)
{
    vf acc[PIXELS], weight[7];
    EACH_PIXEL(CLEAR)
    const float *row = s->x, *filter = s->filter;
    const int64_t step = c->window.x_w;
    for (int64_t ky = 0; ky < s->rows; ky++, row += c->window.dilation_h * c->window.x_h) {
#define WEIGHT(KX)                                                                                                         \
    if (KX < kw) {                                                                                                         \
        weight[KX] = lanes == VL ? vf_load(filter) : vf_load_n(filter, lanes);                                             \
        filter += c->window.groups;                                                                                               \
    }
        WEIGHT(0) WEIGHT(1) WEIGHT(2) WEIGHT(3) WEIGHT(4) WEIGHT(5) WEIGHT(6)
#define USES(I, P) (I < pixels && P >= I * stride && P < I * stride + kw)
#define TAP(I, P)                                                                                                          \
    if (USES(I, P))                                                                                                        \
        acc[I] = vf_fma(v, weight[USES(I, P) ? P - I * stride : 0], acc[I]);
#define COLUMN(P)                                                                                                          \
    if (P < (pixels - 1) * stride + kw) {                                                                                  \
        vf v = column(c, at + P * step, s->ix + P, lanes, inside);                                                         \
        TAP(0, P) TAP(1, P) TAP(2, P) TAP(3, P) TAP(4, P) TAP(5, P) TAP(6, P) TAP(7, P)                                    \
    }
        const float *at = row + s->ix * step;
        EACH_COLUMN(COLUMN)
    }
    EACH_PIXEL(STORE)
}

/* Any kernel, stride and dilation. */
ALWAYS_INLINE void general(const st_conv *c, const stretch *s, int64_t count, int64_t lanes, const int inside, float *out, int64_t ld)
{
    const int pixels = PIXELS;
    vf acc[PIXELS];
    EACH_PIXEL(CLEAR)
    const float *row = s->x, *filter = s->filter;
    for (int64_t ky = 0; ky < s->rows; ky++, row += c->window.dilation_h * c->window.x_h)
        for (int64_t kx = 0; kx < c->window.kw; kx++, filter += c->window.groups) {
            vf weight = lanes == VL ? vf_load(filter) : vf_load_n(filter, lanes);
            int64_t ix = s->ix + kx * c->window.dilation_w, step = c->window.stride_w * c->window.x_w;
            const float *at = row + ix * c->window.x_w;
#define ANY_TAP(I) acc[I] = vf_fma(column(c, at + I * step, ix + I * c->window.stride_w, lanes, inside), weight, acc[I]);
            EACH_PIXEL(ANY_TAP)
        }
    EACH_PIXEL(STORE)
}

typedef void (*stretch_fn)(const st_conv *c, const stretch *s, int64_t count, int64_t lanes, int inside, float *out, int64_t ld);

#define DENSE(P, KW, S)                                                                                                    \
    static void dense_##P##_##KW##_##S(const st_conv *c, const stretch *s, int64_t count, int64_t lanes, int inside,       \
                                       float *out, int64_t ld)                                                             \
    {                                                                                                                      \
        if (lanes == VL && inside)                                                                                         \
            dense(c, s, P, KW, S, P, VL, 1, out, ld);                                                                      \
        else if (lanes == VL)                                                                                              \
            dense(c, s, P, KW, S, count, VL, 0, out, ld);                                                                  \
        else                                                                                                               \
            dense(c, s, P, KW, S, count, lanes, 0, out, ld);                                                               \
    }
DENSE(7, 3, 1)
DENSE(8, 3, 1)
DENSE(7, 3, 2)
DENSE(8, 3, 2)
DENSE(7, 5, 1)
DENSE(8, 5, 1)
DENSE(7, 5, 2)
DENSE(8, 5, 2)
DENSE(7, 7, 1)
DENSE(8, 7, 1)
DENSE(7, 7, 2)
DENSE(8, 7, 2)
static const stretch_fn dense_table[3][2][2] = {{{dense_7_3_1, dense_8_3_1}, {dense_7_3_2, dense_8_3_2}},
                                                {{dense_7_5_1, dense_8_5_1}, {dense_7_5_2, dense_8_5_2}},
                                                {{dense_7_7_1, dense_8_7_1}, {dense_7_7_2, dense_8_7_2}}};

static void any_shape(const st_conv *c, const stretch *s, int64_t count, int64_t lanes, int inside, float *out, int64_t ld)
{
    if (lanes == VL && inside)
        general(c, s, PIXELS, VL, 1, out, ld);
    else
        general(c, s, count, lanes, 0, out, ld);
}

void st_depthwise_f32(const st_conv *c, int part, int parts)
{
    int64_t channels = c->window.groups, rows = c->window.n * c->window.oh;
    /* Split rows first; channels too when rows are fewer than parts. */
    int64_t by_row = ST_MAX(ST_MIN(rows, (int64_t)parts), (int64_t)1);
    int64_t by_channel = ST_MAX(ST_MIN((int64_t)parts / by_row, st_ceil_div(channels, VL)), (int64_t)1);
    if (part >= by_row * by_channel || rows <= 0 || channels <= 0 || c->window.ow <= 0)
        return;
    int64_t groups = st_ceil_div(channels, VL), at = part % by_channel;
    int64_t from = groups * at / by_channel * VL, to = ST_MIN(groups * (at + 1) / by_channel * VL, channels);
    int64_t row0 = rows * (part / by_channel) / by_row, row1 = rows * (part / by_channel + 1) / by_row;

    /* Seven pixels at a time where that divides the row better: images are so often a multiple of 7 wide. */
    int known = (c->window.kw == 3 || c->window.kw == 5 || c->window.kw == 7) && c->window.stride_w <= 2 && c->window.dilation_w == 1;
    int64_t pixels = known && st_ceil_div(c->window.ow, 7) == st_ceil_div(c->window.ow, 8) ? 7 : 8;
    stretch_fn compute = known ? dense_table[c->window.kw / 2 - 1][c->window.stride_w == 2][pixels == 8] : any_shape;
    int64_t width = ST_MIN((int64_t)256, st_round_up(to - from, VL)), span = TILE_FLOATS / width / pixels * pixels;
    int64_t reach = (pixels - 1) * c->window.stride_w + (c->window.kw - 1) * c->window.dilation_w; /* last input column of a stretch */
    float tile[TILE_FLOATS] __attribute__((aligned(64)));

    for (int64_t row = row0; row < row1; row++) {
        int64_t iy = row % c->window.oh * c->window.stride_h - c->window.pad_top, low = iy < 0 ? st_ceil_div(-iy, c->window.dilation_h) : 0;
        int64_t high = iy < c->window.h ? ST_MIN(c->window.kh, (c->window.h - 1 - iy) / c->window.dilation_h + 1) : 0;
        const float *image = c->x + row / c->window.oh * c->window.x_n;
        for (int64_t x0 = 0; x0 < c->window.ow; x0 += span)
            for (int64_t ch = from; ch < to; ch += width) {
                int64_t x1 = ST_MIN(x0 + span, c->window.ow), c1 = ST_MIN(ch + width, to), ld = c->store ? width : c->c_row;
                float *out = c->store ? tile : c->c + (row * c->window.ow + x0) * c->c_row + ch;
                for (int64_t x = x0; x < x1; x += pixels)
                    for (int64_t v = ch; v < c1; v += VL) {
                        stretch s = {.ix = x * c->window.stride_w - c->window.pad_left, .rows = ST_MAX(high - low, (int64_t)0)};
                        s.filter = c->filter + low * c->window.kw * channels + v;
                        s.x = image + v + (s.rows ? (iy + low * c->window.dilation_h) * c->window.x_h : 0);
                        int inside = s.ix >= 0 && s.ix + reach < c->window.w && x + pixels <= x1;
                        compute(c, &s, x1 - x, ST_MIN((int64_t)VL, c1 - v), inside, out + (x - x0) * ld + v - ch, ld);
                    }
                if (c->store)
                    c->store(c->store_ctx, 0, row * c->window.ow + x0, x1 - x0, ch, c1 - ch, tile, width);
            }
    }
}
