/* The windows of a convolution: rows of k, which runs over (ky, kx, channel), one for each output pixel.  They are gathered a tile
 * of rows at a time, or read where they lie.  Callers give the `size` of an element in bytes, as a constant where it is many windows. */
#ifndef STRATAC_KERNELS_WINDOW_H
#define STRATAC_KERNELS_WINDOW_H

#include "tile.h"

#define ST_INLINE static inline __attribute__((always_inline))

/* Most runs are short: calls of memcpy and memset would cost as much as what they do. */
ST_INLINE void st_copy_run(uint8_t *out, const uint8_t *from, int64_t bytes)
{
    if (bytes >= 64) {
        for (int64_t i = 0; i + 64 <= bytes; i += 64)
            memcpy(out + i, from + i, 64);
        memcpy(out + bytes - 64, from + bytes - 64, 64);
    } else if (bytes >= 32) {
        memcpy(out, from, 32);
        memcpy(out + bytes - 32, from + bytes - 32, 32);
    } else if (bytes >= 16) {
        memcpy(out, from, 16);
        memcpy(out + bytes - 16, from + bytes - 16, 16);
    } else if (bytes >= 8) {
        memcpy(out, from, 8);
        memcpy(out + bytes - 8, from + bytes - 8, 8);
    } else if (bytes >= 4) {
        memcpy(out, from, 4);
        memcpy(out + bytes - 4, from + bytes - 4, 4);
    } else {
        for (int64_t i = 0; i < bytes; i++)
            out[i] = from[i];
    }
}

ST_INLINE void st_fill_run(uint8_t *out, int value, int64_t bytes)
{
    uint8_t block[64];
    memset(block, value, sizeof block);
    for (; bytes > 64; bytes -= 64, out += 64)
        memcpy(out, block, 64);
    st_copy_run(out, block, bytes);
}

/* k0 <= k < k0 + count of the window at (y, x) of the image.  Outside of it lie bytes of `outside`.  Neighbouring taps of a row are
 * one run where channels are dense in x. */
ST_INLINE void st_gather_window(const st_window *w, int64_t size, int outside, const uint8_t *image, int64_t y, int64_t x, int64_t k0,
                                int64_t count, uint8_t *out)
{
    const int64_t row_k = w->kw * w->cg, end = k0 + count;
    const int dense = w->dilation_w == 1 && w->x_w == w->cg;
    for (int64_t ky = k0 / row_k; ky * row_k < end; ky++) {
        int64_t from = ST_MAX(k0, ky * row_k), to = ST_MIN(end, (ky + 1) * row_k);
        const int64_t iy = y + ky * w->dilation_h;
        if (iy < 0 || iy >= w->h) {
            st_fill_run(out, outside, size * (to - from));
            out += size * (to - from);
            continue;
        }
        const uint8_t *line = image + size * iy * w->x_h;
        if (dense) {
            /* k - ky*row_k counts elements from pixel x; those left of 0 or right of w are padding. */
            const int64_t first = x * w->cg + from - ky * row_k, all = to - from, over = first + all - w->w * w->cg;
            const int64_t left = ST_MIN(ST_MAX(-first, (int64_t)0), all), right = ST_MIN(ST_MAX(over, (int64_t)0), all);
            if (left)
                st_fill_run(out, outside, size * left);
            if (left + right < all)
                st_copy_run(out + size * left, line + size * (first + left), size * (all - left - right));
            if (right)
                st_fill_run(out + size * (all - right), outside, size * right);
            out += size * all;
            continue;
        }
        while (from < to) {
            const int64_t kx = (from - ky * row_k) / w->cg, ch = (from - ky * row_k) % w->cg;
            const int64_t run = ST_MIN(w->cg - ch, to - from), ix = x + kx * w->dilation_w;
            if (ix < 0 || ix >= w->w)
                st_fill_run(out, outside, size * run);
            else
                st_copy_run(out, line + size * (ix * w->x_w + ch), size * run);
            out += size * run;
            from += run;
        }
    }
}

/* The windows of output pixels row .. row + rows to rows of `out`, `ld` bytes apart; x: the first image, at the group's first channel. */
ST_INLINE void st_gather_windows(const st_window *w, int64_t size, int outside, const void *x, int64_t row, int64_t rows, int64_t k0,
                                 int64_t count, void *out, int64_t ld)
{
    int64_t ox = row % w->ow, oy = row / w->ow % w->oh, n = row / w->ow / w->oh;
    const int64_t run = w->kw * w->cg, down = w->dilation_h * w->x_h;
    const int whole = count == w->kh * run && w->dilation_w == 1 && w->x_w == w->cg;
    uint8_t *at = out;
    for (int64_t i = 0; i < rows; i++, at += ld) {
        const int64_t iy = oy * w->stride_h - w->pad_top, ix = ox * w->stride_w - w->pad_left;
        const uint8_t *image = (const uint8_t *)x + size * n * w->x_n;
        if (whole && iy >= 0 && iy + (w->kh - 1) * w->dilation_h < w->h && ix >= 0 && ix + w->kw <= w->w) {
            const uint8_t *from = image + size * (iy * w->x_h + ix * w->cg);
            uint8_t *to = at;
            for (int64_t ky = 0; ky < w->kh; ky++, from += size * down, to += size * run)
                st_copy_run(to, from, size * run);
        } else {
            st_gather_window(w, size, outside, image, iy, ix, k0, count, at);
        }
        if (++ox == w->ow) {
            ox = 0;
            if (++oy == w->oh)
                oy = 0, n++;
        }
    }
}

/* A tile inside one output row, with every tap inside the image, needs no gathering where all steps are whole words: its rows are a
 * constant distance apart, each filter row one stretch.  `count` counts words: all of k, or the answer is no. */
ST_INLINE int st_place_windows(const st_window *w, int64_t size, const void *x, int64_t row, int64_t rows, int64_t count, st_left *left)
{
    const int64_t ox = row % w->ow, oy = row / w->ow % w->oh, n = row / w->ow / w->oh, word = 4 / size;
    const int64_t iy = oy * w->stride_h - w->pad_top, ix = ox * w->stride_w - w->pad_left;
    const int64_t run = w->kw * w->cg / word, step = w->stride_w * w->x_w / word;
    if (count != w->kh * run || ox + rows > w->ow || iy < 0 || iy + (w->kh - 1) * w->dilation_h >= w->h || ix < 0 ||
        ix + (rows - 1) * w->stride_w + w->kw > w->w || step % 1024 == 0)
        return 0;
    const uint8_t *from = (const uint8_t *)x + size * (n * w->x_n + iy * w->x_h + ix * w->x_w);
    *left = (st_left){.a = (const float *)(const void *)from, .row = step, .runs = w->kh, .length = run, .jump = w->dilation_h * w->x_h / word};
    return 1;
}

/* Whether tiles read in place are worth their ragged ends: rows of the image are hardly longer in whole tiles. */
static inline int st_windows_in_line(const st_window *w)
{
    return (w->kw == 1 || (w->dilation_w == 1 && w->x_w == w->cg)) && st_round_up(w->ow, ST_MR) * 8 <= w->ow * 9;
}

/* Of a convolution in tiles: whether each row of its filter is one run of k (padded to whole steps), and not each tap. */
static inline int st_rows_are_runs(const st_window *w) { return w->kh * w->kw > 1 && w->cg % 32 != 0 && w->dilation_w == 1; }

/* Whether rows are pixels as they lie in X. */
static inline int st_windows_are_pixels(const st_window *w)
{
    return w->kh == 1 && w->kw == 1 && w->stride_h == 1 && w->stride_w == 1 && w->pad_top == 0 && w->pad_left == 0 &&
           w->oh == w->h && w->ow == w->w && (w->h == 1 || w->x_h == w->w * w->x_w) && (w->n == 1 || w->x_n == w->h * w->w * w->x_w);
}

#endif
