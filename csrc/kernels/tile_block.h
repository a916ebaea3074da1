/* A block of sums, 2 x 2 tiles: tiles 0 to 3 are sums, 4 and 5 rows of the left operand, 6 and 7 columns of the right one.
 * `tall`: more than 16 rows; `wide`: more than 16 columns. */
#ifndef STRATAC_KERNELS_TILE_BLOCK_H
#define STRATAC_KERNELS_TILE_BLOCK_H

#include "../simd/simd_tiles.h"
#include "tile.h"

#define ROWS 32
#define COLUMNS ST_TILE_PANEL
#define GROUP 128         /* columns of a product whose sums are handed over at once */
#define PART (ROWS * 64) /* bytes of one part of a step of TILE_DEPTH: 32 rows on the left, 16 rows of 32 words on the right */
#define PART_WORDS (PART / 4)
#define BLOCK_INLINE static inline __attribute__((always_inline))

static inline void block_configure(tile_file *t, int64_t rows)
{
    tile_shape shape = {.palette = 1};
    for (int n = 0; n < 8; n++) {
        const int64_t own = n < 2 || n == 4 ? ST_MIN(rows, (int64_t)16) : n >= 6 ? 16 : ST_MAX(rows - 16, (int64_t)1);
        shape.row_bytes[n] = 64;
        shape.rows[n] = (uint8_t)own;
    }
    tile_configure(t, &shape);
}

/* `stride` bytes of memory are fetched, a turn of several: many lines at once leave no room for those that tiles load. */
BLOCK_INLINE const char *block_fetch(const char *at, int64_t stride)
{
    for (int64_t line = 0; line < stride; line += 64)
        __builtin_prefetch(at + line, 0, 2);
    return at + stride;
}

/* At most TILE_DEPTH elements of bf16, and zeros up to as many. */
static inline void block_copy(const char *from, int64_t count, char *to)
{
    if (count >= TILE_DEPTH) {
        memcpy(to, from, 64);
        return;
    }
    const int64_t words = count / 2;
    for (int64_t j = 0; j < 16; j += VL) {
        const int64_t n = ST_MAX(ST_MIN(words - j, (int64_t)VL), (int64_t)0);
        vf_store((float *)(void *)to + j, vf_load_n((const float *)(const void *)from + j, n));
    }
    if (count % 2)
        memcpy(to + 4 * words, from + 4 * words, 2);
}

/* Sums from c on, `ld` floats a row, or from nothing. */
BLOCK_INLINE void block_begin(tile_file *t, const float *c, int64_t ld, int resume, int tall, int wide)
{
    const int64_t row = ld * (int64_t)sizeof *c;
    const float *lower = c + 16 * ld;
    if (!resume) {
        tile_zero(t, 0);
        tile_zero(t, 1);
        tile_zero(t, 2);
        tile_zero(t, 3);
        return;
    }
    tile_load(t, 0, c, row);
    if (wide)
        tile_load(t, 1, c + 16, row);
    if (tall)
        tile_load(t, 2, lower, row);
    if (tall && wide)
        tile_load(t, 3, lower + 16, row);
}

BLOCK_INLINE void block_end(tile_file *t, float *c, int64_t ld, int tall, int wide)
{
    const int64_t row = ld * (int64_t)sizeof *c;
    float *lower = c + 16 * ld;
    tile_store(t, 0, c, row);
    if (wide)
        tile_store(t, 1, c + 16, row);
    if (tall)
        tile_store(t, 2, lower, row);
    if (tall && wide)
        tile_store(t, 3, lower + 16, row);
}

#endif
