/* The heavy kernel families: what generated code may call.
 *
 * Every function computes part `part` of `parts` of its work.  Work is split over output tiles only, never over a
 * reduction, and each output element is accumulated in one fixed order that does not depend on the tile it falls in, so
 * the bits are the same for every `parts` and for every batch neighbour.
 *
 * Nothing here allocates.  `workspace` is private to the part, but where rows are `shared`; its size comes from the
 * *_workspace functions' twins in codegen (one test compares them).  Strides are in elements.  `restrict` is not promised
 * between inputs and outputs.
 *
 * A finished tile of accumulators is handed to a *store callback* (the epilogue, generated per cluster): it reads
 * tile[i * ld + j] for i < m, j < n and writes its outputs.  An optional *load callback* (the prologue) produces rows of the
 * left operand.
 */
#ifndef STRATAC_KERNELS_H
#define STRATAC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "decimal.h"
#include "recurrent.h"

/* Consume the finished block: rows [row, row+rows) x columns [col, col+cols) of batch `batch`. */
typedef void (*st_store_fn)(const void *ctx, int64_t batch, int64_t row, int64_t rows, int64_t col, int64_t cols,
                            const float *tile, int64_t ld);

/* Write columns [k, k+count) of row `row` of the left operand of batch `batch` to out[0..count). */
typedef void (*st_load_fn)(const void *ctx, int64_t batch, int64_t row, int64_t k, int64_t count, float *out);

/* C[b, i, j] = sum_k A[b, i, k] * B[b, k, j]. */
typedef struct st_gemm {
    int64_t batch, m, n, k;
    const float *a;               /* a[b*a_batch + i*a_row + k*a_col]; NULL when load is set */
    const uint16_t *narrow;       /* or NULL; else A is of bf16 and lies here, in place of a: a_col is 1, tiles too */
    int64_t a_batch, a_row, a_col;
    st_load_fn load;              /* prologue, or NULL */
    const void *load_ctx;
    const float *b;               /* packed (see st_pack below) when b_packed, else b[b*b_batch + k*b_row + j*b_col] */
    int64_t b_batch, b_row, b_col; /* packed: only b_batch is read (elements between packed matrices; 0 = shared) */
    int b_packed;
    int pairs;                    /* both operands rounded to bf16, sums in f32: b is packed as pairs, and a_col is 1 */
    int tiles;                    /* both operands sums of so many (1, 2, 3) bf16, sums in f32; or in block floating point (4, 5): b is packed so */
    st_store_fn store;            /* epilogue, or NULL: then write c[b*c_batch + i*c_row + j] */
    const void *store_ctx;
    float *c;
    int64_t c_batch, c_row;
    void *workspace;
    int64_t shared;               /* bytes between the workspaces of parts, if all call st_gemm_rows and meet before st_gemm_f32; else 0 */
} st_gemm;
void st_gemm_f32(const st_gemm *g, int part, int parts);
/* In tiles of one matrix: splits rows of A that several parts need, each once. */
void st_gemm_rows(const st_gemm *g, int part, int parts);

/* The same of whole numbers of 8 bits, exact but that sums wrap around at 32 bits: C[b, i, j] = sum_k (A[b, i, k] - zero) * B[b, k, j].
 * B is packed as quads. */
typedef struct st_whole_gemm {
    int64_t batch, m, n, k;
    const uint8_t *a;              /* a[b*a_batch + i*a_row + k*a_col] */
    int64_t a_batch, a_row, a_col;
    int32_t zero;
    const int8_t *b;
    int64_t b_batch;               /* bytes between packed matrices; 0 = shared */
    st_store_fn store;             /* epilogue, or NULL; its tile holds int32 */
    const void *store_ctx;
    int32_t *c;
    int64_t c_batch, c_row;
    void *workspace;
} st_whole_gemm;
void st_gemm_i8(const st_whole_gemm *g, int part, int parts);

/* An epilogue that kernels apply to sums in registers: c[row*c_row + col] = min(max(sum + bias[col] + add[row*add_row + col], low), high),
 * where a NaN stays one. */
typedef struct st_finish {
    int on;                        /* else nothing else of this is read, and sums are stored as they are */
    const float *bias;             /* or NULL */
    const float *add;              /* or NULL; may be c.  Not of depthwise convolutions */
    int64_t add_row;
    float low, high;               /* infinite: no bound */
} st_finish;

/* Two-dimensional convolution, channels last: X[n, h, w, groups*cg], packed filters, output row r = (n*oh + y)*ow + x,
 * output column = channel in [0, groups*og).  The store callback gets batch = 0, row = r, col = output channel. */
typedef struct st_window {
    int64_t n, h, w, cg;           /* cg: input channels per group */
    int64_t oh, ow, og, groups;    /* og: output channels per group */
    int64_t kh, kw, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int64_t x_n, x_h, x_w;         /* steps of X in elements; channels are contiguous */
} st_window;

typedef struct st_conv {
    st_window window;
    const float *x;
    const uint16_t *narrow;        /* or NULL; else X is of bf16 and lies here, in place of x: tiles is 1, or of st_depthwise_f32 */
    const float *filter;           /* packed: groups matrices of K = kh*kw*cg by og, each as st_pack lays it out */
    int pairs;                     /* both operands rounded to bf16, sums in f32: filters are packed as pairs */
    int tiles;                     /* as of st_gemm: filters are packed so */
    int64_t direct;                /* in tiles without gathering windows (conv_tiles.c): steps of k, its runs padded to whole ones; else 0 */
    st_store_fn store;
    const void *store_ctx;
    float *c;                      /* used when store is NULL: c[r*c_row + channel] */
    uint16_t *c_narrow;            /* of st_depthwise_f32, used when store and c are NULL: the same as bf16 */
    int64_t c_row;
    st_finish finish;              /* used when store is NULL; not in tiles, nor by st_winograd_f32 */
    void *workspace;
    int64_t shared;                /* as of st_gemm, of one group that is not direct */
} st_conv;
void st_conv_f32(const st_conv *c, int part, int parts);
void st_conv_rows(const st_conv *c, int part, int parts);

/* The same of whole numbers of 8 bits, each pixel less `zero`; filters are packed as quads. */
typedef struct st_whole_conv {
    st_window window;
    const uint8_t *x;
    int32_t zero;                  /* 0 .. 255 where there is padding */
    const int8_t *filter;
    st_store_fn store;             /* or NULL; its tile holds int32 */
    const void *store_ctx;
    int32_t *c;
    int64_t c_row;
    void *workspace;
} st_whole_conv;
void st_conv_i8(const st_whole_conv *c, int part, int parts);

/* 3x3, stride and dilation 1, one group, in 2x2 tiles of the output; the filter is 16 packed matrices of cg by og, one for each
 * point of the transform G g G' with rows (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2, (0, 0, 1) of G. */
void st_winograd_f32(const st_conv *c, int part, int parts);

/* Depthwise (cg == 1, og == 1), channels last; filter[kh*kw][channels], not packed. */
void st_depthwise_f32(const st_conv *c, int part, int parts);

/* Change a block of scores before the softmax (scale is already applied): add a mask, apply a bias, ... */
typedef void (*st_score_fn)(const void *ctx, int64_t batch, int64_t head, int64_t query, int64_t queries, int64_t key,
                            int64_t keys, float *scores, int64_t ld);

/* out[b, h, i, :] = softmax_j(scale * q[b,h,i,:] . k[b,h,j,:] (+ score callback)) @ v[b,h,j,:].
 * Key/value head of head h is h / (heads / kv_heads).  A row whose scores are all -infinity gives zeros.
 * Keys whose weight is exactly zero may be left out: whether a NaN or an infinity in their rows of v, or, where the score
 * callback adds -infinity, of k (or, if to all keys, of q), shows in the result is not defined (but the same for all parts).
 *
 * With `ends`, the rows of all sequences lie one after the other: sequence b begins where the one before it ends, and its
 * queries see its own keys.  `queries` and `keys` are both the most rows a sequence may have; more of one are left out. */
typedef struct st_attention {
    int64_t batch, heads, kv_heads, queries, keys, dim, v_dim;
    const float *q, *k, *v;
    int64_t q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row; /* last stride is 1 */
    float scale;
    const int64_t *ends;           /* or NULL; else see above: ends[b * ends_step], batch strides are not read, no callbacks */
    int64_t ends_step;
    int causal;                    /* key j visible to query i iff j <= i + (keys - queries) */
    int pairs;                     /* q, k, v and the weights rounded to bf16, sums and softmax in f32 */
    int tiles;                     /* or, if not 0: each a sum of so many parts in bf16, multiplied in tiles */
    st_score_fn score;             /* or NULL */
    const void *score_ctx;
    int score_by_key;              /* the callback adds what depends on the batch and the key alone: a padding mask */
    st_store_fn store;             /* or NULL; batch = b*heads + h, row = query, col = value column */
    const void *store_ctx;
    float *out;
    int64_t out_batch, out_head, out_row;
    void *workspace;
} st_attention;
void st_attention_f32(const st_attention *a, int part, int parts);

/* Facts codegen and packing need, as this build's constants: panel width (columns) of packed right operands, and workspace
 * bytes one part needs.  A packed K x N matrix is ceil(N/panel) panels, each K rows of `panel` consecutive columns,
 * zero padded: panel p holds B[k][p*panel + c] at packed[(p*K + k)*panel + c].  Packed as pairs, word
 * (p*ceil(K/2) + k/2)*panel + c holds the elements of an even k and of the odd one behind it as bf16, low half first.
 * Packed as quads, a panel has Q + 1 rows, Q = ceil(K/4): word (p*(Q + 1) + k/4)*panel + c holds four elements that follow each other
 * along k, as bytes, the first in the low one; the last row the sums of the columns, as int32.
 * Packed for tiles of T parts, panels have 32 columns, k is padded to S steps of 32, and word
 * (((p*S + k/32)*T + part)*16 + k%32/2)*32 + c holds that part of the two elements: the nearest bf16, then the nearest to what is
 * left.  Of several parts of an element that is not finite the others are zero; where only the nearest is infinite, all parts are
 * those next towards zero.  Of three parts the floats are packed: B[k][c] at (((p*S + k/32)*16 + k%32/2)*2 + c/16)*32 + k%2*16 + c%16,
 * c < 32.
 *
 * Packed in block floating point (tile_bfp.h: T = 4 of three bytes, T = 5 of two), k falls into ceil(K/512), or of two bytes ceil(K/768),
 * blocks of equally many elements, rounded up to whole steps of 64.  An even number of panels of 16 columns has one block after the other:
 * for each step, for each byte, the highest first, 16 rows w of 16 columns of four bytes, byte b being that of element 16 b + w; then as
 * floats what a unit of each column is, times 2^16 or 2^8, and less than 0 if there are elements that are not finite: these are the least
 * number for NaN, and one and two more for infinity and its opposite.
 *
 * A convolution that is `direct` has each run of K (cg elements, a tap; kw * cg, a row of the filter, where cg is no multiple
 * of 32, dilation_w is 1 and there are several taps) padded to whole steps of 32. */
int64_t st_panel(void);
int64_t st_gemm_workspace(int64_t m, int64_t n, int64_t k, int b_packed, int pairs, int tiles);
int64_t st_conv_workspace(int64_t k, int64_t og, int pairs, int tiles, int64_t direct);
int64_t st_gemm_i8_workspace(int64_t k); /* of st_conv_i8 too, k being its window */
int64_t st_winograd_workspace(int64_t cg);
int64_t st_attention_workspace(int64_t rows, int64_t keys, int64_t dim, int64_t v_dim, int tiles); /* rows that share a key/value head */
void st_pack_f32(const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, float *packed);

#endif
