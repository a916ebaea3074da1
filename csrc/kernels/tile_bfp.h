/* Block floating point: operands as whole numbers of 24 or 16 bits that share an exponent, and their products on tiles of bytes.
 *
 * The elements of a row of the left operand in a k-block, and of a column of the right one, are q units each, of 2^(e - 23) where 2^e
 * is above the greatest of them.  q is three signed bytes, q = 65536 q1 + 256 q2 + q3, and of the nine products of bytes all but the
 * least, q3 q3, are taken: sums over k are whole numbers and exact, four by weight,
 *
 *   a1 b1,   a1 b2 + a2 b1,   a1 b3 + a2 b2 + a3 b1,   a2 b3 + a3 b2          (bfp24)
 *   a1 b1,   a1 b2 + a2 b1,   a2 b2                                          (bfp16: two bytes, units of 2^(e - 15))
 *
 * and are added up in f32, the lightest first, once for a k-block.  What is lost is lost in rounding the elements: half a unit.  In the
 * root mean square that is, of 24 bits, no more than a chain of 128 multiply-adds in f32 loses, as long as the greatest is not far above
 * the others.  Elements of a row that are (CREST) are *spikes*: they stand in the row as zeros, and are added to the sums by
 * multiply-adds, as they are.  Rows with more spikes than there is room for, with what is not finite, and columns with what is not
 * finite, give NaN here and are mended (tiles.c).
 *
 * In a step of BFP_DEPTH elements byte b of word w is element 16 b + w: bytes then move within their lanes only.
 */
#ifndef STRATAC_KERNELS_TILE_BFP_H
#define STRATAC_KERNELS_TILE_BFP_H

#include "tile_block.h"

#define BFP_DEPTH 64
#define BFP_COLUMNS 16     /* of a panel: a step of a slice is 1 KiB, as is that of 16 rows; those of all slices lie one after the other */
#define BFP_SLICE (16 * 64)
#define BFP_BELOW 1.004f   /* times the greatest element is below 2^e, so that no byte is above 127 */
#define CREST 12.0f        /* 2^e over the root mean square of a row's elements is at most this */
#define SPIKES 15

/* Bytes of an element, or 0; the power of two a unit is below 2^e; the least e: a unit is at least 2^-127, and 1 / unit a float; what is
 * stored of a unit: sums of a1 b1 count so many of both. */
static inline int bfp_slices(int tiles) { return tiles == ST_BFP24 ? 3 : tiles == ST_BFP16 ? 2 : 0; }
static inline int bfp_bits(int slices) { return 8 * slices - 1; }
static inline int bfp_least(int slices) { return bfp_bits(slices) - 127; }
static inline float bfp_unit(int slices) { return slices == 3 ? 0x1p16f : 0x1p8f; }

/* What there is to know of a row in a k-block: spikes are elements `at` of it; -1: too many, or not finite. */
typedef struct bfp_notes {
    float scale;
    int32_t spikes, at[SPIKES];
    float value[SPIKES];
} bfp_notes;
#define NOTE_WORDS ((int64_t)(sizeof(bfp_notes) / 4))

static inline int bfp_exponent(float greatest, int slices)
{
    const float above = greatest * BFP_BELOW;
    uint32_t bits;
    memcpy(&bits, &above, sizeof bits);
    return ST_MAX((int)(bits >> 23) - 126, bfp_least(slices));
}

static inline vf bfp_load(const float *from, int64_t left)
{
    return left >= VL ? vf_load(from) : left > 0 ? vf_load_n(from, left) : vf_zero();
}

/* A row that is not as rows are: its spikes to the notes, and what is left to `rest`.  Returns e. */
static __attribute__((noinline)) int bfp_spikes(const float *from, int64_t count, float *rest, bfp_notes *notes, int slices)
{
    vf odd = vf_zero(), most = vf_zero();
    for (int64_t i = 0; i < count; i += VL) {
        const vf x = bfp_load(from + i, count - i);
        odd = vf_add(odd, vf_sub(x, x));
        most = vf_max_fast(vf_abs(x), most);
    }
    int e = bfp_exponent(vf_reduce_max(most), slices);
    notes->spikes = 0;
    for (float regular = 1; !vm_any(vf_ne(odd, odd)) && regular > 0; e = ST_MIN(e - 1, bfp_exponent(regular, slices))) {
        const vf bound = vf_ldexp(vf_set1(1), vf_set1((float)e)), down = vf_set1((float)-e);
        vf squares = vf_zero();
        most = vf_zero();
        for (int64_t i = 0; i < count; i += VL) {
            vf x = vf_abs(bfp_load(from + i, count - i));
            x = vf_select(vf_lt(vf_mul(x, vf_set1(BFP_BELOW)), bound), x, vf_zero());
            most = vf_max_fast(x, most);
            x = vf_ldexp(x, down);
            squares = vf_fma(x, x, squares);
        }
        regular = vf_reduce_max(most);
        if (e <= bfp_least(slices) || CREST * CREST * vf_reduce_add(squares) >= (float)count)
            break;
    }
    const vf bound = vf_ldexp(vf_set1(1), vf_set1((float)e));
    for (int64_t i = 0; i < count; i += VL) {
        const vf x = bfp_load(from + i, count - i);
        const vm regular = vf_lt(vf_mul(vf_abs(x), vf_set1(BFP_BELOW)), bound);
        vf_store_n(rest + i, vf_select(regular, x, vf_zero()), ST_MIN((int64_t)VL, count - i));
        if (vm_all(regular))
            continue;
        for (int64_t j = i; j < ST_MIN(i + VL, count) && notes->spikes >= 0; j++) {
            if (fabsf(from[j]) * BFP_BELOW < vf_first(bound))
                continue;
            if (notes->spikes == SPIKES || !isfinite(from[j])) {
                notes->spikes = -1;
                break;
            }
            notes->at[notes->spikes] = (int32_t)j;
            notes->value[notes->spikes++] = from[j];
        }
    }
    return e;
}

/* Bits of a where the mask has ones, of b elsewhere. */
BLOCK_INLINE vi bfp_mix(uint32_t mask, vi a, vi b) { return vi_xor(b, vi_and(vi_xor(a, b), vi_set1((int32_t)mask))); }

/* Added to a number below 2^15 it leaves the nearest whole one in the low 16 bits of the float, with the bias of bfp_store. */
#define BFP_BIASED (0x1.8p23f + 0x8080)

/* 4 VL elements times `scale` as whole numbers, byte for byte: slice s of element 16 b + lane is byte b of a word at to + s * BFP_SLICE.
 * A bias of 0x80 for each byte makes bytes that carry nothing, and are signed once their highest bit is turned. */
BLOCK_INLINE void bfp_store(const vf x[4], vf scale, char *to, const int slices)
{
    const vi sign = vi_set1((int32_t)0x80808080u);
    vi u[4], first, last; /* first: the low halves of elements 0 and 2, last: of 1 and 3 */
    if (slices == 3)
        for (int b = 0; b < 4; b++)
            u[b] = vi_add(vi_nearest(vf_mul(x[b], scale)), vi_set1(0x808080));
    else
        for (int b = 0; b < 4; b++)
            u[b] = vf_as_vi(vf_fma(x[b], scale, vf_set1(BFP_BIASED)));
    if (slices == 3) {
        first = bfp_mix(0xffff, vi_shr(u[0], 16), u[2]);
        last = bfp_mix(0xffff, vi_shr(u[1], 16), u[3]);
        vi_store((int32_t *)(void *)to, vi_xor(bfp_mix(0x00ff00ff, first, vi_shl(last, 8)), sign));
        to += BFP_SLICE;
    }
    first = bfp_mix(0xffff, u[0], vi_shl(u[2], 16));
    last = bfp_mix(0xffff, u[1], vi_shl(u[3], 16));
    vi_store((int32_t *)(void *)to, vi_xor(bfp_mix(0x00ff00ff, vi_shr(first, 8), last), sign));
    vi_store((int32_t *)(void *)(to + BFP_SLICE), vi_xor(bfp_mix(0x00ff00ff, first, vi_shl(last, 8)), sign));
}

/* A vector of elements and those 16, 32 and 48 elements on; beyond `left` zeros. */
BLOCK_INLINE void bfp_load4(const float *from, int64_t left, vf x[4])
{
    if (left >= 48 + VL) {
        for (int b = 0; b < 4; b++)
            x[b] = vf_load(from + 16 * b);
        return;
    }
    for (int b = 0; b < 4; b++)
        x[b] = bfp_load(from + 16 * b, left - 16 * b);
}

/* `count` elements of a row: the slices of each step at `to`. */
BLOCK_INLINE void bfp_row(const float *from, int64_t count, char *to, bfp_notes *notes, float *rest, const int slices)
{
    vf x[4], most[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()}, squares[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    for (int64_t k = 0; k < count; k += BFP_DEPTH)
        for (int64_t w = 0; w < 16; w += VL) {
            bfp_load4(from + k + w, count - k - w, x);
            for (int b = 0; b < 4; b++) {
                most[b] = vf_max_fast(vf_abs(x[b]), most[b]);
                squares[b] = vf_fma(x[b], x[b], squares[b]);
            }
        }
    const float greatest = vf_reduce_max(vf_max_fast(vf_max_fast(most[0], most[1]), vf_max_fast(most[2], most[3])));
    const float sum = vf_reduce_add(vf_add(vf_add(squares[0], squares[1]), vf_add(squares[2], squares[3])));
    int e = bfp_exponent(greatest, slices);
    notes->spikes = 0;
    /* squares neither overflow nor vanish */
    const float bound = vf_first(vf_ldexp(vf_set1(1), vf_set1((float)e)));
    const int regular = greatest == 0 ? sum == 0 : sum < 1e30f && sum > 1e-30f && bound * bound * (float)count <= CREST * CREST * sum;
    if (!regular) {
        e = bfp_spikes(from, count, rest, notes, slices);
        from = rest;
    }
    notes->scale = vf_first(vf_ldexp(vf_set1(bfp_unit(slices)), vf_set1((float)(e - bfp_bits(slices)))));
    const vf scale = vf_ldexp(vf_set1(1), vf_set1((float)(bfp_bits(slices) - e)));
    for (int64_t k = 0; k < count; k += BFP_DEPTH, to += slices * BFP_SLICE)
        for (int64_t w = 0; w < 16; w += VL) {
            bfp_load4(from + k + w, count - k - w, x);
            bfp_store(x, scale, to + 4 * w, slices);
        }
}
static __attribute__((noinline)) void bfp_split(const float *from, int64_t count, char *to, bfp_notes *notes, float *rest, int slices)
{
    if (slices == 3)
        bfp_row(from, count, to, notes, rest, 3);
    else
        bfp_row(from, count, to, notes, rest, 2);
}

/* Sums of 16 x 16 by weight that are still to be added to C. */
typedef struct bfp_sums {
    const int32_t *at; /* of four tiles 16 rows of 16 each */
    float *c;          /* GROUP floats a row */
    const bfp_notes *notes;
    const char *b;     /* the panel's k-block, scales of columns behind its `steps` */
    int64_t steps;
    int slices, rows, done, resume;
} bfp_sums;

/* Of columns with elements that are not finite (the least q: NaN, infinity and its opposite) less than 0. */
static inline const float *bfp_scales(const char *b, int64_t steps, int slices)
{
    return (const float *)(const void *)(b + steps * slices * BFP_SLICE);
}

/* Element k of columns [j, j + VL) of a panel's k-block. */
static inline vf bfp_floats(const char *b, int64_t steps, int64_t k, int64_t j, int slices)
{
    const char *at = b + k / BFP_DEPTH * slices * BFP_SLICE + k % 16 * 64 + 4 * j;
    const vi up = vi_set1(1 << (24 - 8 * (int)(k % BFP_DEPTH / 16)));
    vi q = vi_set1(0);
    for (int slice = 0; slice < slices; slice++, at += BFP_SLICE)
        q = vi_add(vi_shl(q, 8), vi_sar(vi_mul(vi_load((const int32_t *)(const void *)at), up), 24));
    const vf unit = vf_set1(1 / bfp_unit(slices)), scale = vf_abs(vf_load(bfp_scales(b, steps, slices) + j));
    const vi code = vi_add(q, vi_set1(1 << bfp_bits(slices)));
    const vf odd = vf_select(vi_eq(code, vi_set1(0)), vf_set1(NAN), vf_select(vi_eq(code, vi_set1(1)), vf_set1(INFINITY), vf_set1(-INFINITY)));
    return vf_select(vi_gt(vi_set1(3), code), odd, vf_mul(vf_mul(vf_from_i32(q), unit), scale));
}

static __attribute__((noinline)) void bfp_add_spikes(const bfp_sums *s, const bfp_notes *notes, float *c)
{
    for (int64_t j = 0; j < 16; j += VL) {
        vf sum = notes->spikes < 0 ? vf_set1(NAN) : vf_load(c + j);
        for (int i = 0; i < notes->spikes; i++)
            sum = vf_fma(vf_set1(notes->value[i]), bfp_floats(s->b, s->steps, notes->at[i], j, s->slices), sum);
        vf_store(c + j, sum);
    }
}

/* The next rows of sums. */
BLOCK_INLINE void bfp_add(bfp_sums *s, int rows, int64_t ld, const int slices)
{
    const int end = ST_MIN(s->done + rows, s->rows);
    if (s->done == end)
        return;
    const float *scales = bfp_scales(s->b, s->steps, slices);
    for (; s->done < end; s->done++) {
        const int32_t *at = s->at + 16 * s->done;
        const bfp_notes *notes = s->notes + s->done;
        float *c = s->c + s->done * ld;
        for (int64_t j = 0; j < 16; j += VL) {
            const vf scale = vf_load(scales + j), down = vf_select(vf_lt(scale, vf_zero()), vf_set1(NAN), vf_set1(0x1p-8f));
            const vi second = vi_load(at + 256 + j), third = vi_load(at + 512 + j);
            vf sum = vf_from_i32(vi_load(at + 768 + j));
            if (slices == 3)
                sum = vf_fma(sum, down, vf_from_i32(third));
            sum = vf_fma(sum, down, vf_from_i32(slices == 3 ? second : vi_add(second, third)));
            sum = vf_fma(sum, down, vf_from_i32(vi_load(at + j)));
            vf_store(c + j, vf_fma(vf_mul(sum, scale), vf_set1(notes->scale), s->resume ? vf_load(c + j) : vf_zero()));
        }
        if (notes->spikes)
            bfp_add_spikes(s, notes, c);
    }
}

static inline void bfp_configure(tile_file *t)
{
    tile_shape shape = {.palette = 1};
    for (int n = 0; n < 8; n++) {
        shape.row_bytes[n] = 64;
        shape.rows[n] = 16;
    }
    tile_configure(t, &shape);
}

/* Sums of 16 rows, `a`, and a panel: tiles 0 to 3 are sums by weight (of two slices 1 and 2 are of the same: a product waits for the
 * last one to the same tile), 4 to 6 the slices of rows and 7 one of the panel, or 4 and 5, 6 and 7.  Meanwhile the sums of another tile
 * are added, and `lines` lines of memory fetched in each step. */
BLOCK_INLINE void bfp_multiply(tile_file *t, const char *a, const char *b, int64_t steps, int32_t *to, bfp_sums *other, int64_t ld,
                               const char *fetch, int64_t lines, const int slices)
{
    const int share = steps ? (int)st_ceil_div(16, steps) : 0;
    const int64_t ahead = lines * 64, stride = st_ceil_div(ahead, slices == 3 ? 8 : 4);
    tile_zero(t, 0);
    tile_zero(t, 1);
    tile_zero(t, 2);
    tile_zero(t, 3);
    for (; steps > 0; steps--, a += slices * BFP_SLICE, b += slices * BFP_SLICE) {
        const char *line = fetch;
        fetch += ahead;
        tile_load_passing(t, 4, a, 64);
        if (slices == 3) {
            tile_load_passing(t, 5, a + BFP_SLICE, 64);
            tile_load_passing(t, 6, a + 2 * BFP_SLICE, 64);
            tile_load(t, 7, b + 2 * BFP_SLICE, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 2, 4, 7);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 3, 5, 7);
            tile_load(t, 7, b, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 1, 5, 7);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 2, 6, 7);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 0, 4, 7);
            bfp_add(other, share, ld, slices);
            tile_load(t, 7, b + BFP_SLICE, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 3, 6, 7);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 1, 4, 7);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 2, 5, 7);
        } else {
            tile_load(t, 6, b, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 0, 4, 6);
            tile_load(t, 7, b + BFP_SLICE, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 1, 4, 7);
            bfp_add(other, share, ld, slices);
            tile_load_passing(t, 5, a + BFP_SLICE, 64);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 2, 5, 6);
            line = block_fetch(line, stride);
            tile_dot_i8(t, 3, 5, 7);
        }
    }
    tile_store(t, 0, to, 64);
    tile_store(t, 1, to + 256, 64);
    tile_store(t, 2, to + 512, 64);
    tile_store(t, 3, to + 768, 64);
    bfp_add(other, 16, ld, slices);
}

#define BFP_MULTIPLY(slices)                                                                                               \
    static __attribute__((noinline)) void bfp_multiply_##slices(tile_file *t, const char *a, const char *b, int64_t steps, int32_t *to, \
                                                                bfp_sums *other, int64_t ld, const char *fetch, int64_t lines)          \
    {                                                                                                                      \
        bfp_multiply(t, a, b, steps, to, other, ld, fetch, lines, slices);                                                 \
    }
BFP_MULTIPLY(2)
BFP_MULTIPLY(3)

/* What is left of sums. */
static inline void bfp_end(bfp_sums *s, int64_t ld)
{
    if (s->slices == 3)
        bfp_add(s, 16, ld, 3);
    else
        bfp_add(s, 16, ld, 2);
}

#endif
