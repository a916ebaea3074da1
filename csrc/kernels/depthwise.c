/* Depthwise convolution: vectors of channels, a stretch of one output row in registers.
 *
 * An input vector is loaded once and used by every output of the stretch that needs it.  Each output sums its taps in
 * (ky, kx) order, from the bias on where there is one; taps outside the image are left out.  Output rows follow each other
 * over so few channels and columns that the input rows they share are still in L1.
 */
#include "tile.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define PIXELS 8 /* most outputs along x kept in registers */
#define TILE_FLOATS 4096
#define NEAR_FLOATS 8192 /* of input rows that stay in L1 */
#define MOST_CHANNELS 256
#define RUN_START 24 /* channels that could be read in the time it takes to begin with a pixel's */

/* Loops spelled out: clang unrolls nested loops too late to keep an array of accumulators in registers. */
#define EACH_PIXEL(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define EACH_COLUMN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) M(16) M(17) M(18) M(19) M(20)
#define CLEAR(I) acc[I] = begin;
#define STORE(I)                                                                                                           \
    if (I < pixels && I < count) {                                                                                         \
        const vf v = vf_at_most(vf_at_least(acc[I], low), high);                                                           \
        if (s->narrow)                                                                                                     \
            lanes == VL ? vf_store_bf16(s->narrow + first + I * s->ld, v)                                                  \
                        : vf_store_n_bf16(s->narrow + first + I * s->ld, v, lanes);                                        \
        else                                                                                                               \
            lanes == VL ? vf_store(s->out + first + I * s->ld, v) : vf_store_n(s->out + first + I * s->ld, v, lanes);      \
    }

/* A stretch of an output row, over some channels. */
typedef struct stretch {
    const char *x; /* first image row used, first channel, at input column ix (may be left of the image) */
    const float *filter, *bias; /* the latter may be NULL */
    float *out;
    uint16_t *narrow; /* out, if it is of bf16, or NULL */
    int64_t ld, ix, rows, count, channels; /* rows of taps inside the image, outputs, channels */
    float low, high;
} stretch;

ALWAYS_INLINE vf load(const float *at, int64_t lanes) { return lanes == VL ? vf_load(at) : vf_load_n(at, lanes); }

/* Pixels, of elements of so many bytes: floats, or bf16. */
ALWAYS_INLINE vf load_pixel(const char *at, int64_t lanes, const int size)
{
    if (size == 4)
        return load((const float *)(const void *)at, lanes);
    const uint16_t *narrow = (const uint16_t *)(const void *)at;
    return lanes == VL ? vf_load_bf16(narrow) : vf_load_n_bf16(narrow, lanes);
}

/* kw and stride known to the compiler, dilation 1.  Columns left of `left` and from `right` on are outside the image; if `some`, so
 * may others be.  A constant `count` costs nothing. */
ALWAYS_INLINE void dense(const st_conv *c, const stretch *s, int64_t first, int64_t lanes, const int size, const int pixels, const int kw,
                         const int stride, const int left, const int right, const int some, int64_t count)
{
    vf acc[PIXELS], weight[7];
    const vf begin = s->bias ? load(s->bias + first, lanes) : vf_zero(), low = vf_set1(s->low), high = vf_set1(s->high);
    EACH_PIXEL(CLEAR)
    const char *row = s->x + size * first;
    const float *filter = s->filter + first;
    const int64_t step = size * c->window.x_w, taps = c->window.groups;
    for (int64_t ky = 0; ky < s->rows; ky++, row += size * c->window.dilation_h * c->window.x_h) {
#define WEIGHT(KX)                                                                                                         \
    if (KX < kw) {                                                                                                         \
        weight[KX] = load(filter, lanes);                                                                                  \
        filter += taps;                                                                                                    \
    }
        WEIGHT(0) WEIGHT(1) WEIGHT(2) WEIGHT(3) WEIGHT(4) WEIGHT(5) WEIGHT(6)
#define USES(I, P) (I < pixels && P >= I * stride && P < I * stride + kw)
#define TAP(I, P)                                                                                                          \
    if (USES(I, P))                                                                                                        \
        acc[I] = vf_fma(v, weight[USES(I, P) ? P - I * stride : 0], acc[I]);
#define COLUMN(P)                                                                                                          \
    if (P >= left && P < right && (!some || (s->ix + P >= 0 && s->ix + P < c->window.w))) {                                \
        const vf v = load_pixel(row + P * step, lanes, size);                                                                       \
        TAP(0, P) TAP(1, P) TAP(2, P) TAP(3, P) TAP(4, P) TAP(5, P) TAP(6, P) TAP(7, P)                                    \
    }
        EACH_COLUMN(COLUMN)
    }
    EACH_PIXEL(STORE)
}

/* Any kernel, stride and dilation. */
ALWAYS_INLINE void general(const st_conv *c, const stretch *s, int64_t first, int64_t lanes, const int size, const int inside,
                           int64_t count)
{
    const int pixels = PIXELS;
    vf acc[PIXELS];
    const vf begin = s->bias ? load(s->bias + first, lanes) : vf_zero(), low = vf_set1(s->low), high = vf_set1(s->high);
    EACH_PIXEL(CLEAR)
    const char *row = s->x + size * first;
    const float *filter = s->filter + first;
    for (int64_t ky = 0; ky < s->rows; ky++, row += size * c->window.dilation_h * c->window.x_h)
        for (int64_t kx = 0; kx < c->window.kw; kx++, filter += c->window.groups) {
            const vf weight = load(filter, lanes);
            const int64_t from = kx * c->window.dilation_w, ix = s->ix + from, step = size * c->window.stride_w * c->window.x_w;
            const char *at = row + size * from * c->window.x_w;
#define ANY_TAP(I)                                                                                                         \
    if (inside || (ix + I * c->window.stride_w >= 0 && ix + I * c->window.stride_w < c->window.w))                         \
        acc[I] = vf_fma(load_pixel(at + I * step, lanes, size), weight, acc[I]);
            EACH_PIXEL(ANY_TAP)
        }
    EACH_PIXEL(STORE)
}

/* Which columns of a stretch are outside the image: none, as many as a window's middle is from its edge on one side or both, or
 * others, or it is not a whole stretch. */
enum { INSIDE, LEFT, RIGHT, BOTH, OTHER };
typedef void (*stretch_fn)(const st_conv *c, const stretch *s, int edges);

#define OVER(...)                                                                                                          \
    for (; v + VL <= s->channels; v += VL)                                                                                 \
        __VA_ARGS__;
#define DENSE(SIZE, P, KW, S)                                                                                              \
    static void dense_##SIZE##_##P##_##KW##_##S(const st_conv *c, const stretch *s, int edges)                             \
    {                                                                                                                      \
        enum { HALF = KW / 2, END = (P - 1) * S + KW };                                                                    \
        int64_t v = 0;                                                                                                     \
        if (edges == INSIDE)                                                                                               \
            OVER(dense(c, s, v, VL, SIZE, P, KW, S, 0, END, 0, P))                                                         \
        else if (edges == LEFT)                                                                                            \
            OVER(dense(c, s, v, VL, SIZE, P, KW, S, HALF, END, 0, P))                                                      \
        else if (edges == RIGHT)                                                                                           \
            OVER(dense(c, s, v, VL, SIZE, P, KW, S, 0, END - HALF, 0, P))                                                  \
        else if (edges == BOTH)                                                                                            \
            OVER(dense(c, s, v, VL, SIZE, P, KW, S, HALF, END - HALF, 0, P))                                               \
        else                                                                                                               \
            OVER(dense(c, s, v, VL, SIZE, P, KW, S, 0, END, 1, s->count))                                                  \
        if (v < s->channels)                                                                                               \
            dense(c, s, v, s->channels - v, SIZE, P, KW, S, 0, END, 1, s->count);                                          \
    }
#define DENSE_SIZES(P, KW, S) DENSE(4, P, KW, S) DENSE(2, P, KW, S)
#define DENSE_STRIDES(P, KW) DENSE_SIZES(P, KW, 1) DENSE_SIZES(P, KW, 2)
#define DENSE_WINDOWS(P) DENSE_STRIDES(P, 3) DENSE_STRIDES(P, 5) DENSE_STRIDES(P, 7)
DENSE_WINDOWS(7)
DENSE_WINDOWS(8)
#define OF_PIXELS(SIZE, KW, S) {dense_##SIZE##_7_##KW##_##S, dense_##SIZE##_8_##KW##_##S}
#define OF_WINDOWS(SIZE, KW) {OF_PIXELS(SIZE, KW, 1), OF_PIXELS(SIZE, KW, 2)}
#define OF_SIZE(SIZE) {OF_WINDOWS(SIZE, 3), OF_WINDOWS(SIZE, 5), OF_WINDOWS(SIZE, 7)}
static const stretch_fn dense_table[2][3][2][2] = {OF_SIZE(4), OF_SIZE(2)};

#define ANY_SHAPE(SIZE)                                                                                                    \
    static void any_shape_##SIZE(const st_conv *c, const stretch *s, int edges)                                            \
    {                                                                                                                      \
        int64_t v = 0;                                                                                                     \
        if (edges == INSIDE)                                                                                               \
            OVER(general(c, s, v, VL, SIZE, 1, PIXELS))                                                                    \
        else                                                                                                               \
            OVER(general(c, s, v, VL, SIZE, 0, s->count))                                                                  \
        if (v < s->channels)                                                                                               \
            general(c, s, v, s->channels - v, SIZE, 0, s->count);                                                          \
    }
ANY_SHAPE(4)
ANY_SHAPE(2)

static int edges_of(int64_t left, int64_t right, int64_t half)
{
    if ((left > 0 && left != half) || (right > 0 && right != half))
        return OTHER;
    return left > 0 ? right > 0 ? BOTH : LEFT : right > 0 ? RIGHT : INSIDE;
}

/* What output rows follow each other over: `span` outputs of `width` channels. */
typedef struct block {
    int64_t span, width;
} block;

/* Of as many stretches as make the input rows in use, and those that come next, stay in L1 and cost least: columns at the ends of a
 * block are read for its neighbours too, and short runs of channels take longer each. */
static block block_of(const st_window *w, int64_t pixels, int64_t channels)
{
    const int64_t in_use = (w->kh - 1) * w->dilation_h + 1 + w->stride_h;
    block best = {0, 0};
    double least = INFINITY;
    for (int64_t span = pixels; span * VL <= TILE_FLOATS; span += pixels) {
        const int64_t columns = ST_MIN((span - 1) * w->stride_w + (w->kw - 1) * w->dilation_w + 1, w->w);
        const int64_t room = ST_MIN(ST_MIN(NEAR_FLOATS / (in_use * columns), TILE_FLOATS / span), MOST_CHANNELS) / VL * VL;
        if (room == 0 && best.span > 0)
            break;
        const int64_t width = st_round_up(st_ceil_div(channels, st_ceil_div(channels, ST_MAX(room, VL))), VL);
        const double cost = (double)columns / (double)ST_MIN(span, w->ow) * (1 + (double)RUN_START / (double)width);
        if (cost < least)
            least = cost, best = (block){span, width};
        if (span >= w->ow)
            break;
    }
    return best;
}

void st_depthwise_f32(const st_conv *c, int part, int parts)
{
    const st_window *w = &c->window;
    const int64_t channels = w->groups, rows = w->n * w->oh;
    /* Split rows first; channels too when rows are fewer than parts. */
    const int64_t by_row = ST_MAX(ST_MIN(rows, (int64_t)parts), (int64_t)1);
    const int64_t by_channel = ST_MAX(ST_MIN((int64_t)parts / by_row, st_ceil_div(channels, VL)), (int64_t)1);
    if (part >= by_row * by_channel || rows <= 0 || channels <= 0 || w->ow <= 0)
        return;
    const int64_t groups = st_ceil_div(channels, VL), at = part % by_channel;
    const int64_t from = groups * at / by_channel * VL, to = ST_MIN(groups * (at + 1) / by_channel * VL, channels);
    const int64_t row0 = rows * (part / by_channel) / by_row, row1 = rows * (part / by_channel + 1) / by_row;

    /* Seven pixels at a time where that divides the row better: images are so often a multiple of 7 wide. */
    const int known = (w->kw == 3 || w->kw == 5 || w->kw == 7) && w->stride_w <= 2 && w->dilation_w == 1;
    const int64_t pixels = known && st_ceil_div(w->ow, 7) == st_ceil_div(w->ow, 8) ? 7 : 8;
    const int64_t size = c->narrow ? sizeof(uint16_t) : sizeof(float);
    const char *all = c->narrow ? (const char *)c->narrow : (const char *)c->x;
    const stretch_fn any_shape = c->narrow ? any_shape_2 : any_shape_4;
    const stretch_fn compute = known ? dense_table[c->narrow != NULL][w->kw / 2 - 1][w->stride_w == 2][pixels == 8] : any_shape;
    const int64_t end = (pixels - 1) * w->stride_w + (w->kw - 1) * w->dilation_w + 1; /* columns of a stretch */
    const int64_t half = known ? w->kw / 2 : 0;

    const block b = block_of(w, pixels, to - from);
    float tile[TILE_FLOATS] __attribute__((aligned(64)));
    const st_finish plain = {.low = -INFINITY, .high = INFINITY}, *finish = !c->store && c->finish.on ? &c->finish : &plain;

    for (int64_t x0 = 0; x0 < w->ow; x0 += b.span)
        for (int64_t ch = from; ch < to; ch += b.width)
            for (int64_t row = row0; row < row1; row++) {
                const int64_t iy = row % w->oh * w->stride_h - w->pad_top, low = iy < 0 ? st_ceil_div(-iy, w->dilation_h) : 0;
                const int64_t high = iy < w->h ? ST_MIN(w->kh, (w->h - 1 - iy) / w->dilation_h + 1) : 0;
                const int64_t x1 = ST_MIN(x0 + b.span, w->ow), c1 = ST_MIN(ch + b.width, to);
                stretch s = {.rows = ST_MAX(high - low, (int64_t)0), .ld = c->store ? b.width : c->c_row, .channels = c1 - ch,
                             .low = finish->low, .high = finish->high, .bias = finish->bias ? finish->bias + ch : NULL};
                s.filter = c->filter + low * w->kw * channels + ch;
                const char *image = all + size * (row / w->oh * w->x_n + ch + (s.rows ? (iy + low * w->dilation_h) * w->x_h : 0));
                const int64_t out = (row * w->ow + x0) * c->c_row + ch;
                for (int64_t next = x0; next < x1; next += pixels) {
                    /* The last is a whole one too, if it can be: what it computes again comes out the same. */
                    const int64_t x = ST_MAX(ST_MIN(next, x1 - pixels), x0);
                    s.ix = x * w->stride_w - w->pad_left;
                    s.count = ST_MIN(x1 - x, pixels);
                    s.x = image + size * s.ix * w->x_w;
                    if (c->store)
                        s.out = tile + (x - x0) * s.ld;
                    else if (c->c_narrow)
                        s.narrow = c->c_narrow + out + (x - x0) * s.ld;
                    else
                        s.out = c->c + out + (x - x0) * s.ld;
                    compute(c, &s, s.count < pixels ? OTHER : edges_of(-s.ix, s.ix + end - w->w, half));
                }
                if (c->store)
                    c->store(c->store_ctx, 0, row * w->ow + x0, x1 - x0, ch, c1 - ch, tile, b.width);
            }
}
