/* Block floating point: operands as whole numbers of 24 bits that share an exponent, and their products on tiles of bytes.
 *
 * The elements of a row of the left operand in a k-block, and of a column of the right one, are q * 2^(e - 23), with |q| <= BFP_MOST
 * and 2^e above the greatest of them.  q is three signed bytes, q = 65536 q1 + 256 q2 + q3, and of the nine products of bytes all but
 * the least, q3 q3, are taken: sums over k are whole numbers and exact, four by weight,
 *
 *   a1 b1,   a1 b2 + a2 b1,   a1 b3 + a2 b2 + a3 b1,   a2 b3 + a3 b2
 *
 * and are added up in f32, the lightest first, once for a k-block.  What is lost is lost in rounding the elements: half a unit of q, that
 * is 2^-24 of the power of two above the greatest.  In the root mean square that is no more than a chain of 256 multiply-adds in f32
 * loses, as long as the greatest is not far above the others.  Elements of a row that are (CREST) are *spikes*: they stand in the row
 * as zeros, and are added to the sums by multiply-adds, as they are.  Rows with more spikes than there is room for, with what is not finite,
 * and columns with what is not finite, give NaN here and are mended (tiles.c).
 *
 * In a step of BFP_DEPTH elements byte b of word w is element 16 b + w: bytes then move within their lanes only.
 */
#ifndef STRATAC_KERNELS_TILE_BFP_H
#define STRATAC_KERNELS_TILE_BFP_H

#include "tile_block.h"

#define BFP 4              /* what `tiles` is */
#define BFP_DEPTH 64
#define BFP_COLUMNS 16     /* of a panel: a step of its three parts is 3 KiB, one after the other, as is that of 16 rows */
#define BFP_SLICE (16 * 64)
#define BFP_STEP (3 * BFP_SLICE)
#define BFP_MOST 8355711   /* 127 in each byte */
#define BFP_BELOW 1.004f   /* times the greatest element is below 2^e, so that q is at most BFP_MOST */
#define BFP_LEAST (-104)   /* the least e: 2^(23 - e) is a float */
#define BFP_UNIT 0x1p16f   /* times a unit of q is what is stored: the sums of a1 b1 count 2^32 units of both */
#define CREST 12.0f        /* 2^e over the root mean square of a row's elements is at most this */
#define SPIKES 15

/* What there is to know of a row in a k-block: spikes are elements `at` of it; -1: too many, or not finite. */
typedef struct bfp_notes {
    float scale;
    int32_t spikes, at[SPIKES];
    float value[SPIKES];
} bfp_notes;
#define NOTE_WORDS ((int64_t)(sizeof(bfp_notes) / 4))

static inline int bfp_exponent(float greatest)
{
    const float above = greatest * BFP_BELOW;
    uint32_t bits;
    memcpy(&bits, &above, sizeof bits);
    return ST_MAX((int)(bits >> 23) - 126, BFP_LEAST);
}

static inline vf bfp_load(const float *from, int64_t left) { return left >= VL ? vf_load(from) : left > 0 ? vf_load_n(from, left) : vf_zero(); }

/* A row that is not as rows are: its spikes to the notes, and what is left to `rest`.  Returns e. */
static __attribute__((noinline)) int bfp_spikes(const float *from, int64_t count, float *rest, bfp_notes *notes)
{
    vf odd = vf_zero(), most = vf_zero();
    for (int64_t i = 0; i < count; i += VL) {
        const vf x = bfp_load(from + i, count - i);
        odd = vf_add(odd, vf_sub(x, x));
        most = vf_max_fast(vf_abs(x), most);
    }
    int e = bfp_exponent(vf_reduce_max(most));
    notes->spikes = 0;
    for (float regular = 1; !vm_any(vf_ne(odd, odd)) && regular > 0; e = ST_MIN(e - 1, bfp_exponent(regular))) {
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
        if (e <= BFP_LEAST || CREST * CREST * vf_reduce_add(squares) >= (float)count)
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

/* 4 VL elements as whole numbers, byte for byte: part p of element 16 b + lane is byte b of a word at to + p * stride. */
static inline void bfp_slice(const vi q[4], char *to, int64_t stride)
{
    const vi half = vi_set1(0x808080);
    vi u[4]; /* bytes 2, 1, 0: q1, q2, q3 */
    for (int b = 0; b < 4; b++)
        u[b] = vi_xor(vi_add(q[b], half), half);
    const vi low = vi_set1(0xff), second = vi_set1(0xff00), third = vi_set1(0xff0000), high = vi_set1((int32_t)0xff000000u);
    const vi q1 = vi_or(vi_or(vi_shr(u[0], 16), vi_and(vi_shr(u[1], 8), second)), vi_or(vi_and(u[2], third), vi_and(vi_shl(u[3], 8), high)));
    const vi q2 = vi_or(vi_or(vi_and(vi_shr(u[0], 8), low), vi_and(u[1], second)),
                        vi_or(vi_and(vi_shl(u[2], 8), third), vi_and(vi_shl(u[3], 16), high)));
    const vi q3 = vi_or(vi_or(vi_and(u[0], low), vi_and(vi_shl(u[1], 8), second)), vi_or(vi_and(vi_shl(u[2], 16), third), vi_shl(u[3], 24)));
    vi_store((int32_t *)(void *)to, q1);
    vi_store((int32_t *)(void *)(to + stride), q2);
    vi_store((int32_t *)(void *)(to + 2 * stride), q3);
}

/* `count` elements, at most `most`: the three parts of each step, `stride` bytes apart, at `to`. */
static inline void bfp_split(const float *from, int64_t count, char *to, int64_t stride, bfp_notes *notes, float *rest)
{
    vf most = vf_zero(), squares = vf_zero();
    for (int64_t i = 0; i < count; i += VL) {
        const vf x = bfp_load(from + i, count - i);
        most = vf_max_fast(vf_abs(x), most);
        squares = vf_fma(x, x, squares);
    }
    const float greatest = vf_reduce_max(most);
    const double sum = (double)vf_reduce_add(squares), reach = 0x1p-7 * CREST * CREST; /* 2^14 times */
    int e = bfp_exponent(greatest);
    notes->spikes = 0;
    /* squares neither overflow nor vanish */
    const int regular = greatest == 0 ? sum == 0 : sum < 1e30 && sum > 1e-30 && 0x1p-7 * (double)count * ldexp(1, 2 * e) <= reach * sum;
    if (!regular) {
        e = bfp_spikes(from, count, rest, notes);
        from = rest;
    }
    notes->scale = vf_first(vf_ldexp(vf_set1(BFP_UNIT), vf_set1((float)(e - 23))));
    const vf scale = vf_ldexp(vf_set1(1), vf_set1((float)(23 - e)));
    for (int64_t k = 0; k < count; k += BFP_DEPTH, to += 3 * stride)
        for (int64_t w = 0; w < 16; w += VL) {
            vi q[4];
            for (int b = 0; b < 4; b++)
                q[b] = vi_nearest(vf_mul(bfp_load(from + k + 16 * b + w, count - k - 16 * b - w), scale));
            bfp_slice(q, to + 4 * w, stride);
        }
}

/* Sums of 16 x 16 by weight that are still to be added to C. */
typedef struct bfp_sums {
    const int32_t *at; /* of each weight 16 rows of 16 */
    float *c;          /* GROUP floats a row */
    const bfp_notes *notes;
    const char *b;     /* the panel's k-block, scales of columns behind its `steps` */
    int64_t steps;
    int rows, done, resume;
} bfp_sums;

/* Of columns with elements that are not finite (the least q: NaN, infinity and its opposite) less than 0. */
static inline const float *bfp_scales(const char *b, int64_t steps) { return (const float *)(const void *)(b + steps * BFP_STEP); }

/* Element k of columns [j, j + VL) of a panel's k-block. */
static inline vf bfp_floats(const char *b, int64_t steps, int64_t k, int64_t j)
{
    const char *at = b + k / BFP_DEPTH * BFP_STEP + k % 16 * 64 + 4 * j;
    const vi up = vi_set1(1 << (24 - 8 * (int)(k % BFP_DEPTH / 16)));
    vi q = vi_set1(0);
    for (int part = 0; part < 3; part++, at += BFP_SLICE)
        q = vi_add(vi_shl(q, 8), vi_sar(vi_mul(vi_load((const int32_t *)(const void *)at), up), 24));
    const vf x = vf_from_i32(q), scale = vf_abs(vf_load(bfp_scales(b, steps) + j));
    const vi code = vi_add(q, vi_set1(8388608));
    const vf odd = vf_select(vi_eq(code, vi_set1(0)), vf_set1(NAN), vf_select(vi_eq(code, vi_set1(1)), vf_set1(INFINITY), vf_set1(-INFINITY)));
    return vf_select(vi_gt(vi_set1(3), code), odd, vf_mul(vf_mul(x, vf_set1(1 / BFP_UNIT)), scale));
}

static __attribute__((noinline)) void bfp_add_spikes(const bfp_sums *s, const bfp_notes *notes, float *c)
{
    for (int64_t j = 0; j < 16; j += VL) {
        vf sum = notes->spikes < 0 ? vf_set1(NAN) : vf_load(c + j);
        for (int i = 0; i < notes->spikes; i++)
            sum = vf_fma(vf_set1(notes->value[i]), bfp_floats(s->b, s->steps, notes->at[i], j), sum);
        vf_store(c + j, sum);
    }
}

/* The next rows of sums. */
static inline __attribute__((always_inline)) void bfp_add(bfp_sums *s, int rows, int64_t ld)
{
    const int end = ST_MIN(s->done + rows, s->rows);
    if (s->done == end)
        return;
    const float *scales = bfp_scales(s->b, s->steps);
    for (; s->done < end; s->done++) {
        const int32_t *at = s->at + 16 * s->done;
        const bfp_notes *notes = s->notes + s->done;
        float *c = s->c + s->done * ld;
        for (int64_t j = 0; j < 16; j += VL) {
            const vf scale = vf_load(scales + j), down = vf_select(vf_lt(scale, vf_zero()), vf_set1(NAN), vf_set1(0x1p-8f));
            vf sum = vf_from_i32(vi_load(at + 768 + j));
            sum = vf_fma(sum, down, vf_from_i32(vi_load(at + 512 + j)));
            sum = vf_fma(sum, down, vf_from_i32(vi_load(at + 256 + j)));
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

/* Tiles 0 to 3 are sums by weight, 4 to 6 the parts of 16 rows, 7 a part of a panel.
 * Meanwhile the sums of another tile are added, and `lines` lines of memory fetched in each step. */
static __attribute__((noinline)) void bfp_tile(tile_file *t, const char *a, const char *b, int64_t steps, int32_t *to, bfp_sums *other,
                                               int64_t ld, const char *fetch, int64_t lines)
{
    const int share = steps ? (int)st_ceil_div(16, steps) : 0;
    tile_zero(t, 0);
    tile_zero(t, 1);
    tile_zero(t, 2);
    tile_zero(t, 3);
    for (; steps > 0; steps--, a += BFP_STEP, b += BFP_STEP) {
        for (const char *end = fetch + lines * 64; fetch < end; fetch += 64)
            __builtin_prefetch(fetch, 0, 2);
        tile_load(t, 4, a, 64);
        tile_load(t, 5, a + BFP_SLICE, 64);
        tile_load(t, 6, a + 2 * BFP_SLICE, 64);
        tile_load(t, 7, b + 2 * BFP_SLICE, 64);
        tile_dot_i8(t, 2, 4, 7);
        tile_dot_i8(t, 3, 5, 7);
        tile_load(t, 7, b, 64);
        tile_dot_i8(t, 1, 5, 7);
        tile_dot_i8(t, 2, 6, 7);
        tile_dot_i8(t, 0, 4, 7);
        bfp_add(other, share, ld);
        tile_load(t, 7, b + BFP_SLICE, 64);
        tile_dot_i8(t, 3, 6, 7);
        tile_dot_i8(t, 1, 4, 7);
        tile_dot_i8(t, 2, 5, 7);
    }
    tile_store(t, 0, to, 64);
    tile_store(t, 1, to + 256, 64);
    tile_store(t, 2, to + 512, 64);
    tile_store(t, 3, to + 768, 64);
}

#endif
