/* Winograd's F(2x2, 3x3): 3x3 convolutions with stride 1, with 16 multiplications where the window itself takes 36.
 *
 * Output pixels come in tiles of 2x2, counted from the corner of each image.  The 4x4 window of a tile turns into one row of
 * V at each of 16 points (B'dB); at each point V times the filters of that point is a product over the channels; 16 results
 * turn into the tile (A'mA).  Filters are transformed ahead.  A sum has nine times fewer terms than the
 * window, which makes up for the additions around it: the error is no greater than that of one chain over the window.
 *
 * Differences within a window spread an infinity, or an overflow, over the tile.  So where a vector of a tile's results is
 * not finite, it is computed again as the plain sum over the window.
 */
#include "tile.h"

#define POINTS 16
#define TILES ((VL == 16 ? 4 : 8) * ST_MR) /* at a time */
#define RUN ST_MR                          /* neighbours in a row of tiles whose pixels are handed over together */
#define COLS (2 * ST_PANEL)                /* output channels at a time */
#define APART 16                           /* floats between points, against one cache set for all of them */

typedef struct layout {
    int64_t v_ld, v_point, m_point;
    float *v, *m, *out, *product;
} layout;

static layout lay_out(int64_t cg, float *at)
{
    layout l = {.v_ld = st_row_stride(cg)};
    l.v_point = TILES * l.v_ld + APART;
    l.m_point = TILES * COLS + APART;
    l.v = at;
    l.m = l.v + POINTS * l.v_point;
    l.out = l.m + POINTS * l.m_point;
    l.product = l.out + 4 * RUN * COLS;
    return l;
}

int64_t st_winograd_workspace(int64_t cg)
{
    layout l = lay_out(cg, NULL);
    return 4 * (POINTS * (l.v_point + l.m_point) + 4 * RUN * COLS + st_product_floats(TILES, cg, 1)) + 64;
}

/* The first output pixel of a tile. */
typedef struct corner {
    int64_t n, y, x;
} corner;

static corner corner_of(const st_conv *c, int64_t tile)
{
    int64_t across = st_ceil_div(c->window.ow, 2), down = st_ceil_div(c->window.oh, 2);
    return (corner){tile / across / down, tile / across % down * 2, tile % across * 2};
}

static inline void transform(const vf d[4][4], float *v, int64_t point)
{
    vf t[4][4];
    for (int j = 0; j < 4; j++) {
        t[0][j] = vf_sub(d[0][j], d[2][j]);
        t[1][j] = vf_add(d[1][j], d[2][j]);
        t[2][j] = vf_sub(d[2][j], d[1][j]);
        t[3][j] = vf_sub(d[1][j], d[3][j]);
    }
    for (int i = 0; i < 4; i++, v += 4 * point) {
        vf_store(v, vf_sub(t[i][0], t[i][2]));
        vf_store(v + point, vf_add(t[i][1], t[i][2]));
        vf_store(v + 2 * point, vf_sub(t[i][2], t[i][1]));
        vf_store(v + 3 * point, vf_sub(t[i][1], t[i][3]));
    }
}

/* One tile's window at all points; outside the image it is zero.  Rows of V have room for whole vectors. */
static void window_in(const st_conv *c, corner at, float *v, int64_t point)
{
    int64_t y = at.y - c->window.pad_top, x = at.x - c->window.pad_left;
    const float *from = c->x + at.n * c->window.x_n + y * c->window.x_h + x * c->window.x_w;
    int inside = y >= 0 && x >= 0 && y + 4 <= c->window.h && x + 4 <= c->window.w;
    for (int64_t k = 0; k < c->window.cg; k += VL) {
        vf d[4][4];
        int64_t count = ST_MIN((int64_t)VL, c->window.cg - k);
        if (inside && count == VL) {
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    d[i][j] = vf_load(from + i * c->window.x_h + j * c->window.x_w + k);
        } else {
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) {
                    int there = y + i >= 0 && y + i < c->window.h && x + j >= 0 && x + j < c->window.w;
                    d[i][j] = there ? vf_load_n(from + i * c->window.x_h + j * c->window.x_w + k, count) : vf_zero();
                }
        }
        transform((const vf(*)[4])d, v + k, point);
    }
}

/* A vector of columns of one tile as the plain sum over window and channels; `u` is at those columns of the filters' first
 * point, whose middle taps are differences of points. */
static void plain(const st_conv *c, corner at, const float *u, int64_t point, float *out, int64_t row)
{
    for (int64_t dy = 0; dy < 2; dy++)
        for (int64_t dx = 0; dx < 2; dx++) {
            vf sum = vf_zero();
            for (int64_t ky = 0; ky < 3; ky++)
                for (int64_t kx = 0; kx < 3; kx++) {
                    int64_t y = at.y + dy + ky - c->window.pad_top, x = at.x + dx + kx - c->window.pad_left;
                    int there = y >= 0 && y < c->window.h && x >= 0 && x < c->window.w;
                    const float *from = c->x + at.n * c->window.x_n + y * c->window.x_h + x * c->window.x_w;
                    for (int64_t k = 0; k < c->window.cg; k++) {
                        vf tap[2];
                        for (int i = 0; i < (ky == 1 ? 2 : 1); i++) {
                            const float *line = u + (ky == 2 ? 12 : 4 * (ky + i)) * point + k * ST_PANEL;
                            tap[i] = vf_load(line + (kx == 2 ? 3 : kx) * point);
                            if (kx == 1)
                                tap[i] = vf_sub(tap[i], vf_load(line + 2 * point));
                        }
                        sum = vf_fma(vf_set1(there ? from[k] : 0.0f), ky == 1 ? vf_sub(tap[0], tap[1]) : tap[0], sum);
                    }
                }
            vf_store(out + dy * row + dx * COLS, sum);
        }
}

/* Tiles [first, first + count) of a row of tiles, `cols` output channels from `col`: from the products at `m` to pixels. */
static void window_out(const st_conv *c, const layout *l, const float *m, corner at, int64_t count, int64_t col, int64_t cols)
{
    const int64_t point = l->m_point, row = 2 * RUN * COLS, u_point = st_round_up(c->window.og, ST_PANEL) * c->window.cg;
    for (int64_t t = 0; t < count; t++)
        for (int64_t j = 0; j < cols; j += VL) {
            const float *from = m + t * COLS + j;
            float *out = l->out + 2 * t * COLS + j;
            vf s[2][4], y[2][2], odd = vf_zero();
            for (int i = 0; i < 4; i++) {
                vf a = vf_load(from + i * point), b = vf_load(from + (4 + i) * point);
                vf e = vf_load(from + (8 + i) * point), f = vf_load(from + (12 + i) * point);
                s[0][i] = vf_add(vf_add(a, b), e);
                s[1][i] = vf_sub(vf_sub(b, e), f);
            }
            for (int i = 0; i < 2; i++) {
                y[i][0] = vf_add(vf_add(s[i][0], s[i][1]), s[i][2]);
                y[i][1] = vf_sub(vf_sub(s[i][1], s[i][2]), s[i][3]);
                for (int x = 0; x < 2; x++) {
                    vf_store(out + i * row + x * COLS, y[i][x]);
                    odd = vf_fma(y[i][x], vf_zero(), odd); /* zero, or NaN */
                }
            }
            if (vf_reduce_add(odd) != 0.0f) {
                const float *u = c->filter + (col + j) / ST_PANEL * ST_PANEL * c->window.cg + (col + j) % ST_PANEL;
                plain(c, (corner){at.n, at.y, at.x + 2 * t}, u, u_point, out, row);
            }
        }
    int64_t pixels = ST_MIN(2 * count, c->window.ow - at.x);
    for (int64_t dy = 0; dy < ST_MIN((int64_t)2, c->window.oh - at.y); dy++) {
        const float *out = l->out + dy * row;
        int64_t first = (at.n * c->window.oh + at.y + dy) * c->window.ow + at.x;
        if (c->store) {
            c->store(c->store_ctx, 0, first, pixels, col, cols, out, COLS);
            continue;
        }
        for (int64_t i = 0; i < pixels; i++)
            for (int64_t j = 0; j < cols; j += VL) {
                int64_t n = ST_MIN((int64_t)VL, cols - j);
                vf_store_n(c->c + (first + i) * c->c_row + col + j, vf_load_n(out + i * COLS + j, n), n);
            }
    }
}

void st_winograd_f32(const st_conv *c, int part, int parts)
{
    int64_t across = st_ceil_div(c->window.ow, 2), tiles = c->window.n * st_ceil_div(c->window.oh, 2) * across;
    st_slice s = st_split(1, tiles, c->window.og, 2, 32, part, parts);
    layout l = lay_out(c->window.cg, st_align64(c->workspace));
    st_product p = {.k = c->window.cg, .a_row = l.v_ld, .b_packed = 1, .c_row = COLS, .workspace = l.product};
    for (int64_t t0 = s.m0, count; t0 < s.m1 && s.n0 < s.n1; t0 += count) {
        count = st_ceil_div(s.m1 - t0, st_ceil_div(s.m1 - t0, TILES));
        for (int64_t t = 0; t < count; t++)
            window_in(c, corner_of(c, t0 + t), l.v + t * l.v_ld, l.v_point);
        p.m1 = count;
        for (int64_t col = s.n0; col < s.n1; col += COLS) {
            int64_t cols = ST_MIN((int64_t)COLS, s.n1 - col);
            p.n0 = col;
            p.n1 = col + st_round_up(cols, ST_PANEL);
            p.col_base = -col;
            for (int64_t i = 0; i < POINTS; i++) {
                p.a = l.v + i * l.v_point;
                p.b = c->filter + i * st_round_up(c->window.og, ST_PANEL) * c->window.cg;
                p.c = l.m + i * l.m_point;
                st_product_run(&p);
            }
            for (int64_t t = 0, run; t < count; t += run) {
                corner at = corner_of(c, t0 + t);
                run = ST_MIN(ST_MIN(count - t, across - at.x / 2), (int64_t)RUN);
                window_out(c, &l, l.m + t * COLS, at, run, col, cols);
            }
        }
    }
}
