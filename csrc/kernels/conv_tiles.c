/* Convolutions on tiles of bf16 whose windows are not gathered.
 *
 * A band of output lines at a time, the input it needs is split into parts of bf16 once and laid out so that neighbouring output
 * pixels are a constant distance apart at every tap: a tile of A is then 16 rows of that, loaded with a stride, and another tap is
 * another place to begin.  Where pixels have many channels they are laid out by TILE_DEPTH channels (`unit` is 64 bytes), and a
 * stride takes the image apart into its phases; where they have few, a filter row is one run, padded to whole steps of k (`rows`).
 *
 * Lines follow each other as stored: sums over the end of one are made too, and left.  A margin of zeros in front of a line
 * or an image serves the one before it as well.
 *
 * The products are those of tiles.c, whose rows are a band's.
 */
#include "tile_block.h"
#include "window.h"

#define PLANE_BYTES (1 << 20) /* of a band's parts */

/* Along one axis: output o meets tap t at element o + t * dilation / stride of phase t * dilation % stride.  `beyond` is the largest
 * such distance, `pitch` elements from a line or an image to the next. */
typedef struct axis {
    int64_t phases, beyond, pitch;
} axis;

static axis axis_of(int64_t taps, int64_t stride, int64_t dilation, int64_t before, int64_t in, int64_t out)
{
    const int64_t reach = (taps - 1) * dilation, beyond = reach / stride, shared = before / stride;
    const int64_t near = ST_MAX(ST_MAX(out, st_ceil_div(in + before, stride)), out + beyond - shared);
    return (axis){ST_MIN(stride, reach + 1), beyond, ST_MIN(out + beyond, near)};
}

typedef struct band {
    const st_window *w;
    const char *x;       /* at the group's first channel */
    int64_t size;        /* bytes of an element: 4, or 2 of bf16 (and one part) */
    int parts, rows;
    axis y, x_axis;
    int64_t chunks;      /* of TILE_DEPTH channels */
    int64_t unit;        /* bytes between neighbouring output pixels */
    int64_t run, runs;   /* of k that are padded to whole steps: elements, how many */
    int64_t most_lines, most_columns;
    /* of this one: */
    int64_t line, lines, column, columns, pitch, bytes; /* `bytes` of one part of one plane */
    char *at;
} band;

static int64_t plane_bytes(const band *s, int64_t lines, int64_t pitch)
{
    return st_round_up(((lines + s->y.beyond) * pitch + s->x_axis.beyond + ROWS) * s->unit, 64) + 64;
}

static int64_t planes(const band *s) { return s->chunks * s->y.phases * s->x_axis.phases * s->parts; }

static band band_of(const st_window *w, int parts)
{
    band s = {.w = w, .parts = parts, .rows = st_rows_are_runs(w)};
    s.y = axis_of(w->kh, w->stride_h, w->dilation_h, w->pad_top, w->h, w->oh);
    s.x_axis = axis_of(w->kw, w->stride_w, w->dilation_w, w->pad_left, w->w, w->ow);
    s.chunks = s.rows ? 1 : st_ceil_div(w->cg, TILE_DEPTH);
    s.unit = s.rows ? 2 * w->stride_w * w->cg : 2 * TILE_DEPTH;
    s.run = s.rows ? w->kw * w->cg : w->cg;
    s.runs = s.rows ? w->kh : w->kh * w->kw;
    if (s.rows)
        s.x_axis.phases = 1;
    const int64_t pixels = (PLANE_BYTES / planes(&s) - 128) / s.unit - s.x_axis.beyond - ROWS;
    s.most_lines = ST_MIN(pixels / s.x_axis.pitch - s.y.beyond, ST_DIRECT_ROWS / s.x_axis.pitch);
    s.most_columns = w->ow;
    if (s.most_lines < 1) {
        s.most_lines = 1;
        const int64_t most = ST_MAX(ST_MIN(pixels / (1 + s.y.beyond), (int64_t)ST_DIRECT_ROWS) - s.x_axis.beyond, (int64_t)1);
        s.most_columns = st_ceil_div(w->ow, st_ceil_div(w->ow, most));
    }
    return s;
}

/* At most TILE_DEPTH elements that follow each other, and zeros. */
static inline void split_elements(const band *s, const char *from, int64_t count, char *to)
{
    if (s->size == 4)
        tile_split((const float *)(const void *)from, ST_MIN(count, (int64_t)TILE_DEPTH), s->parts, to, s->bytes);
    else
        block_copy(from, count, to);
}

/* Channels of one pixel, or zeros, to their planes. */
static void split_pixel(const band *s, const char *from, char *to, int64_t chunk)
{
    for (int64_t c = 0; c < s->w->cg; c += TILE_DEPTH, to += chunk) {
        if (from)
            split_elements(s, from + s->size * c, s->w->cg - c, to);
        else
            for (int p = 0; p < s->parts; p++)
                memset(to + p * s->bytes, 0, 64);
    }
}

/* A line of pixels one behind the other, from column `column` of the image on; what is written beyond is written again. */
static void split_run(const band *s, const char *line, int64_t column, int64_t count, char *to)
{
    const st_window *w = s->w;
    const int64_t first = ST_MIN(ST_MAX(-column, (int64_t)0), count), last = ST_MAX(ST_MIN(w->w - column, count), first);
    for (int p = 0; p < s->parts; p++)
        memset(to + p * s->bytes, 0, (size_t)(2 * w->cg * (line ? first : count)));
    if (!line)
        return;
    const int64_t step = w->x_w == w->cg ? (last - first) * w->cg : w->cg;
    const char *from = line + s->size * (column + first) * w->x_w;
    char *out = to + 2 * w->cg * first;
    for (int64_t i = first; i < last; i += step / w->cg, from += s->size * (step == w->cg ? w->x_w : step), out += 2 * step)
        for (int64_t e = 0; e < step; e += TILE_DEPTH)
            split_elements(s, from + s->size * e, step - e, out + 2 * e);
    for (int p = 0; p < s->parts; p++)
        memset(to + p * s->bytes + 2 * w->cg * last, 0, (size_t)(2 * w->cg * (count - last)));
}

static void split_band(const band *s)
{
    const st_window *w = s->w;
    const int64_t plane = s->parts * s->bytes, chunk = s->y.phases * s->x_axis.phases * plane, line_bytes = s->pitch * s->unit;
    for (int64_t l = 0; l < s->lines + s->y.beyond; l++)
        for (int64_t py = 0; py < s->y.phases; py++) {
            const int64_t image = (s->line + l) / s->y.pitch, y = (s->line + l) % s->y.pitch * w->stride_h + py - w->pad_top;
            const char *line = image < w->n && y >= 0 && y < w->h ? s->x + s->size * (image * w->x_n + y * w->x_h) : NULL;
            char *to = s->at + py * s->x_axis.phases * plane + l * line_bytes;
            if (s->rows) {
                split_run(s, line, s->column * w->stride_w - w->pad_left, s->pitch * w->stride_w, to);
                continue;
            }
            for (int64_t px = 0; px < s->x_axis.phases; px++, to += plane)
                for (int64_t i = 0; i < s->pitch; i++) {
                    const int64_t x = (s->column + i) * w->stride_w + px - w->pad_left;
                    split_pixel(s, line && x >= 0 && x < w->w ? line + s->size * x * w->x_w : NULL, to + i * s->unit, chunk);
                }
        }
    const int64_t used = (s->lines + s->y.beyond) * line_bytes;
    for (int64_t p = 0; p < planes(s); p++)
        memset(s->at + p * s->bytes + used, 0, (size_t)(s->bytes - used));
}

/* Where in the planes each step of k begins. */
static void place_steps(const band *s, int32_t *steps)
{
    const st_window *w = s->w;
    const int64_t plane = s->parts * s->bytes, chunk = s->y.phases * s->x_axis.phases * plane, pieces = st_ceil_div(s->run, TILE_DEPTH);
    for (int64_t r = 0; r < s->runs; r++) {
        const int64_t ky = (s->rows ? r : r / w->kw) * w->dilation_h, kx = s->rows ? 0 : r % w->kw * w->dilation_w;
        const int64_t phase = ky % w->stride_h * s->x_axis.phases + kx % w->stride_w;
        const int64_t at = phase * plane + (ky / w->stride_h * s->pitch + kx / w->stride_w) * s->unit;
        for (int64_t i = 0; i < pieces; i++)
            *steps++ = (int32_t)(at + i * (s->rows ? 2 * TILE_DEPTH : chunk));
    }
}

/* Bands as products on their way: rows are pixels as the band has them, those between lines and images included. */
typedef struct task {
    const st_conv *c;
    const band *s;
} task;

/* The output pixel of a band's row, and at most `rows` that follow it; -1 and how many to leave if it is none. */
static int64_t pixel_of(const band *s, int64_t q, int64_t *rows)
{
    const st_window *w = s->w;
    const int64_t line = s->line + q / s->pitch, column = q % s->pitch, y = line % s->y.pitch;
    const int inside = column < s->columns && y < w->oh;
    *rows = ST_MIN(*rows, (inside ? s->columns : s->pitch) - column);
    return inside ? (line / s->y.pitch * w->oh + y) * w->ow + s->column + column : -1;
}

/* Windows as they are, runs of k padded: only where results are mended. */
static void fill(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const band *s = ((const task *)ctx)->s;
    const int64_t pieces = st_ceil_div(s->run, TILE_DEPTH);
    for (int64_t i = 0; i < rows; i++, out += ld) {
        int64_t one = 1;
        const int64_t pixel = pixel_of(s, row + i, &one);
        memset(out, 0, (size_t)(s->size * count));
        for (int64_t e = 0; pixel >= 0 && e < count; e += TILE_DEPTH) {
            const int64_t step = (k + e) / TILE_DEPTH, from = step % pieces * TILE_DEPTH, here = ST_MIN(s->run - from, (int64_t)TILE_DEPTH);
            st_gather_windows(s->w, s->size, 0, s->x, pixel, 1, step / pieces * s->run + from, here, (char *)out + s->size * e, 0);
        }
    }
}

/* Of finished rows the stretches that are pixels of the result. */
static void store(const void *ctx, int64_t batch, int64_t row, int64_t rows, int64_t col, int64_t cols, const float *tile, int64_t ld)
{
    const task *t = ctx;
    const st_conv *c = t->c;
    for (int64_t q = row, run; q < row + rows; q += run, tile += run * ld) {
        run = row + rows - q;
        const int64_t pixel = pixel_of(t->s, q, &run);
        if (pixel < 0)
            continue;
        if (c->store) {
            c->store(c->store_ctx, batch, pixel, run, col, cols, tile, ld);
            continue;
        }
        for (int64_t i = 0; i < run; i++)
            for (int64_t j = 0; j < cols; j += VL) {
                const int64_t n = ST_MIN((int64_t)VL, cols - j);
                vf_store_n(c->c + (pixel + i) * c->c_row + col + j, vf_load_n(tile + i * ld + j, n), n);
            }
    }
}

int64_t st_conv_tiles_floats(int64_t og, int64_t steps, int parts)
{
    const int64_t k = steps * TILE_DEPTH, lone = st_tiles_floats(1, ST_MIN(og, (int64_t)GROUP), k, parts);
    return PLANE_BYTES / 4 + st_round_up(steps, 16) + st_round_up(st_tiles_direct_floats(og, k, parts), 16) + lone;
}

void st_conv_tiles(const st_conv *c, float *workspace, int part, int parts)
{
    const st_window *w = &c->window;
    if (w->n <= 0 || w->oh <= 0 || w->ow <= 0 || w->og <= 0)
        return;
    band s = band_of(w, c->tiles);
    s.size = c->narrow ? sizeof(uint16_t) : sizeof(float);
    const int64_t lines = (w->n - 1) * s.y.pitch + w->oh, k = c->direct * TILE_DEPTH, words = st_tiles_words(k, c->tiles);
    const st_slice own = st_split_by(COLUMNS, w->groups, lines, w->og, 32 * w->ow, 256, part, parts);
    const task t = {c, &s};
    int32_t *steps = (int32_t *)(workspace + PLANE_BYTES / 4);
    float *room = workspace + PLANE_BYTES / 4 + st_round_up(c->direct, 16);
    st_planes planes = {.at = (char *)workspace, .steps = steps, .row = s.unit, .foreign = s.rows,
                        .workspace = room + st_round_up(st_tiles_direct_floats(w->og, k, c->tiles), 16)};
    st_product p = {.n0 = own.n0, .n1 = own.n1, .k = k, .fill = fill, .fill_ctx = &t, .narrow = c->narrow, .planes = &planes, .b_packed = 1, .tiles = c->tiles,
                    .store = store, .store_ctx = &t, .workspace = room};
    s.at = (char *)workspace;
    const int64_t bands = st_ceil_div(own.m1 - own.m0, s.most_lines);
    for (int64_t group = own.batch0; group < own.batch1; group++) {
        s.x = (c->narrow ? (const char *)c->narrow : (const char *)c->x) + s.size * group * w->cg;
        p.b = c->filter + group * st_ceil_div(w->og, COLUMNS) * words;
        p.col_base = group * w->og;
        for (int64_t i = 0; i < bands; i++)
            for (s.column = 0; s.column < w->ow; s.column += s.columns) {
                s.line = own.m0 + (own.m1 - own.m0) * i / bands;
                s.lines = own.m0 + (own.m1 - own.m0) * (i + 1) / bands - s.line;
                s.columns = ST_MIN(s.most_columns, w->ow - s.column);
                s.pitch = s.columns == w->ow ? s.x_axis.pitch : s.columns + s.x_axis.beyond;
                s.bytes = plane_bytes(&s, s.lines, s.pitch);
                split_band(&s);
                place_steps(&s, steps);
                planes.part = s.bytes;
                p.m1 = (s.lines - 1) * s.pitch + s.columns;
                st_tiles_run(&p);
            }
    }
}
