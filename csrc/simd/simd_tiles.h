/* Tiles: eight registers of up to 16 rows of 64 bytes, and the product of two of them added to a third.
 *
 *   C[i][j] += sum over 16 words w of A[i][w] . B[w][j]
 *
 * A word is two bf16, and sums are f32 (tile_dot), or four signed bytes, and sums are int32 and wrap around (tile_dot_i8).  On
 * processors with AMX the second is TDPBSSD and the first TDPBF16PS; elsewhere the same arithmetic is done step by step, as Intel
 * documents it (Instruction Set Extensions Programming Reference).  Of bf16 the even and the odd elements are two chains of fused
 * multiply-adds from zero, the two chains are added, and that sum is added to C; each step is rounded to the nearest float, ties to
 * even, and denormals, taken or made, are zero.  So C is rounded once for 32 elements of the depth.
 *
 * The number of a tile is a literal.  The instructions are written out: what compilers offer for them tells gcc 12 neither that
 * the configuration is read whole nor that loads read memory.
 */
#ifndef STRATAC_SIMD_TILES_H
#define STRATAC_SIMD_TILES_H

#include "simd.h"

#define TILE_DEPTH 32 /* elements of the depth in one product of tiles */

/* What ldtilecfg reads: for each tile its rows, and the bytes of each (always 64 here, so that only rows vary). */
typedef struct tile_shape {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shape;
_Static_assert(sizeof(tile_shape) == 64, "ldtilecfg reads 64 bytes");

#if defined(__AMX_TILE__)

typedef struct tile_file {
    tile_shape shape;
} tile_file;

static inline void tile_configure(tile_file *t, const tile_shape *shape)
{
    t->shape = *shape;
    __asm__ volatile("ldtilecfg %0" : : "m"(t->shape));
}
static inline void tile_release(tile_file *t)
{
    (void)t;
    __asm__ volatile("tilerelease" : : : "memory");
}
#define tile_zero(t, n) ((void)(t), tile_zero_(n))
#define tile_load(t, n, from, stride) ((void)(t), tile_load_(n, from, stride))
/* The same of what others load before it is loaded again: it does not drive out of the first cache what stays there. */
#define tile_load_passing(t, n, from, stride) ((void)(t), tile_load_passing_(n, from, stride))
#define tile_store(t, n, to, stride) ((void)(t), tile_store_(n, to, stride))
#define tile_dot(t, c, a, b) ((void)(t), tile_dot_(c, a, b))
#define tile_dot_i8(t, c, a, b) ((void)(t), tile_dot_i8_(c, a, b))
#define tile_zero_(n) ({ __asm__ volatile("tilezero %%tmm" #n : :); })
#define tile_load_(n, from, stride)                                                                                        \
    ({ __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n : : "r"((const void *)(from)), "r"((int64_t)(stride)) : "memory"); })
#define tile_load_passing_(n, from, stride)                                                                                \
    ({ __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #n : : "r"((const void *)(from)), "r"((int64_t)(stride)) : "memory"); })
#define tile_store_(n, to, stride)                                                                                         \
    ({ __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" : : "r"((void *)(to)), "r"((int64_t)(stride)) : "memory"); })
#define tile_dot_(c, a, b) ({ __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :); })
#define tile_dot_i8_(c, a, b) ({ __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :); })

#else

typedef struct tile_file {
    tile_shape shape;
    float at[8][16][16];
} tile_file;

static inline void tile_configure(tile_file *t, const tile_shape *shape)
{
    memset(t, 0, sizeof *t);
    t->shape = *shape;
}
static inline void tile_release(tile_file *t) { t->shape.palette = 0; }
static inline void tile_zero(tile_file *t, int n) { memset(t->at[n], 0, sizeof t->at[n]); }
static inline void tile_load(tile_file *t, int n, const void *from, int64_t stride)
{
    for (int i = 0; i < t->shape.rows[n]; i++)
        memcpy(t->at[n][i], (const char *)from + i * stride, 64);
}
#define tile_load_passing tile_load
static inline void tile_store(const tile_file *t, int n, void *to, int64_t stride)
{
    for (int i = 0; i < t->shape.rows[n]; i++)
        memcpy((char *)to + i * stride, t->at[n][i], 64);
}

/* Denormals are zero. */
static inline vf tile_normal(vf x)
{
    const vf zero = vi_as_vf(vi_and(vf_as_vi(x), vi_set1((int32_t)0x80000000u)));
    return vf_select(vf_lt(vf_abs(x), vf_set1(0x1p-126f)), zero, x);
}
static inline vf tile_low(const float *words) { return tile_normal(vi_as_vf(vi_shl(vf_as_vi(vf_load(words)), 16))); }
static inline vf tile_high(const float *words)
{
    return tile_normal(vi_as_vf(vi_and(vf_as_vi(vf_load(words)), vi_set1((int32_t)0xffff0000u))));
}

/* Out of line: it is called from many places, and not made for speed. */
static __attribute__((noinline, unused)) void tile_dot(tile_file *t, int c, int a, int b)
{
    float a_even[16][16], a_odd[16][16];
    for (int i = 0; i < t->shape.rows[c]; i++)
        for (int w = 0; w < 16; w += VL) {
            vf_store(a_even[i] + w, tile_low(t->at[a][i] + w));
            vf_store(a_odd[i] + w, tile_high(t->at[a][i] + w));
        }
    for (int j = 0; j < 16; j += VL) {
        vf b_even[16], b_odd[16];
        for (int w = 0; w < 16; w++) {
            b_even[w] = tile_low(t->at[b][w] + j);
            b_odd[w] = tile_high(t->at[b][w] + j);
        }
        for (int i = 0; i < t->shape.rows[c]; i++) {
            vf even = vf_zero(), odd = vf_zero();
            for (int w = 0; w < 16; w++) {
                even = tile_normal(vf_fma(vf_set1(a_even[i][w]), b_even[w], even));
                odd = tile_normal(vf_fma(vf_set1(a_odd[i][w]), b_odd[w], odd));
            }
            const vf sum = tile_normal(vf_add(even, odd)), old = tile_normal(vf_load(t->at[c][i] + j));
            vf_store(t->at[c][i] + j, tile_normal(vf_add(old, sum)));
        }
    }
}

/* One of the four bytes of words, as whole numbers. */
static inline vi tile_byte(vi words, int byte) { return vi_sar(vi_shl(words, 24 - 8 * byte), 24); }

static __attribute__((noinline, unused)) void tile_dot_i8(tile_file *t, int c, int a, int b)
{
    for (int j = 0; j < 16; j += VL)
        for (int byte = 0; byte < 4; byte++) {
            vi right[16];
            for (int w = 0; w < 16; w++)
                right[w] = tile_byte(vf_as_vi(vf_load(t->at[b][w] + j)), byte);
            for (int i = 0; i < t->shape.rows[c]; i++) {
                vi sum = vf_as_vi(vf_load(t->at[c][i] + j));
                for (int w = 0; w < 16; w++) {
                    int8_t left[4];
                    memcpy(left, &t->at[a][i][w], sizeof left);
                    sum = vi_add(sum, vi_mul(vi_set1(left[byte]), right[w]));
                }
                vf_store(t->at[c][i] + j, vi_as_vf(sum));
            }
        }
}

#endif

/* The upper halves of words of x below those of y. */
static inline vi vi_upper_halves(vi x, vi y)
{
#if VL == 16 && defined(__AVX512BW__)
    return _mm512_mask_alignr_epi8(y, 0x3333333333333333u, x, x, 2);
#else
    return vi_or(vi_shr(x, 16), vi_and(y, vi_set1((int32_t)0xffff0000u)));
#endif
}

/* The nearest bfloat16 as a float, ties to even; NaN stays NaN and denormals become zero, as vcvtne2ps2bf16 has it. */
static inline vf vf_nearest_bf16(vf x)
{
    const vi high = vi_set1((int32_t)0xffff0000u), bits = vf_as_vi(x), odd = vi_and(vi_shr(bits, 16), vi_set1(1));
    const vf near = vi_as_vf(vi_and(vi_add(bits, vi_add(odd, vi_set1(0x7fff))), high));
    const vf small = vi_as_vf(vi_and(bits, vi_set1((int32_t)0x80000000u)));
    const vf finite = vf_select(vf_lt(vf_abs(x), vf_set1(0x1p-126f)), small, near);
    return vf_select(vf_eq(x, x), finite, vi_as_vf(vi_and(vi_or(bits, vi_set1(0x00400000)), high)));
}

/* TILE_DEPTH floats, those beyond `count` zero, as a sum of `parts` bfloat16 each: the nearest, then the nearest to what is left.
 * Part p of them goes to the 64 bytes at to + p * stride.  Three parts are the float itself, unless it is not finite once rounded
 * (then the sum is not either) or parts are denormal. */
static inline void tile_split(const float *from, int64_t count, int parts, char *to, int64_t stride)
{
#if defined(__AVX512BF16__) && VL == 16
    vf low, high;
    if (count >= TILE_DEPTH) {
        low = vf_load(from);
        high = vf_load(from + 16);
    } else {
        low = count < 16 ? vf_load_n(from, count) : vf_load(from);
        high = count > 16 ? vf_load_n(from + 16, count - 16) : vf_zero();
    }
    for (int p = 0; p < parts; p++, to += stride) {
        const __m512i near = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_storeu_si512((void *)to, near);
        if (p + 1 < parts) {
            low = vf_sub(low, vi_as_vf(vi_shl(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(near)), 16)));
            high = vf_sub(high, vi_as_vf(vi_shl(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(near, 1)), 16)));
        }
    }
#else
    float whole[TILE_DEPTH], rest[TILE_DEPTH], near[TILE_DEPTH];
    if (count < TILE_DEPTH) {
        for (int64_t i = 0; i < TILE_DEPTH; i += VL) {
            const int64_t here = count - i < 0 ? 0 : count - i < VL ? count - i : VL;
            vf_store(whole + i, here == 0 ? vf_zero() : vf_load_n(from + i, here));
        }
        from = whole;
    }
    for (int p = 0; p < parts; p++, from = rest, to += stride) {
        uint16_t halves[TILE_DEPTH];
        for (int i = 0; i < TILE_DEPTH; i += VL) {
            const vf x = vf_load(from + i), rounded = vf_nearest_bf16(x);
            vf_store(near + i, rounded);
            vf_store(rest + i, vf_sub(x, rounded));
        }
        for (int i = 0; i < TILE_DEPTH; i++) {
            uint32_t bits;
            memcpy(&bits, near + i, sizeof bits);
            halves[i] = (uint16_t)(bits >> 16);
        }
        memcpy(to, halves, sizeof halves);
    }
#endif
}

#endif
