/* Attention: blocks of query rows against tiles of keys, with a running maximum and sum for each row (Milakov and Gimelshein,
 * Online normalizer calculation for softmax, 2018).
 *
 * The rows that share a key/value head - the queries of one head after the other - are cut into blocks of at most ST_MR.  A
 * block's scores against one tile of keys stay in L1 or L2 between the two products and the softmax in between; K^T and V of
 * the tile are packed once for as many blocks as there is room for unfinished rows.  How rows and keys are cut follows from the
 * sizes alone, and each row takes the tiles in the order of the keys, so neither the parts nor what shares the batch shows in
 * the bits; all keys in one tile are the plain softmax.
 *
 * What cannot count is left out: tiles of which a block sees nothing; after the scores are known, tiles whose weights are all
 * exactly zero beside what came before; and before they are known, stretches that a mask over the keys hides, see `spare`.
 *
 * Few rows (decoding) read K and V where they lie: packing would cost more than it saves.
 */
#include "attend.h"
#include "soft.h"

#define TILE 512              /* keys; a multiple of 4 * VL and of the panel */
#define SLOTS 65536           /* floats of unfinished rows */
#define DOTS ST_MIN(ST_MR, 6) /* up to so many rows, scores are dot products along the rows of K */
#define TOGETHER 4            /* keys whose dot products with one of several rows are computed at once ... */
#define AHEAD 32              /* ... and how many keys before their turn these are fetched */

/* Unfinished rows of a block. */
typedef struct slot {
    float *out, *top, *sum; /* [rows][v_p]; greatest score and sum of weights of each row */
    float *begun;           /* whether out holds anything */
} slot;

typedef struct work {
    const st_attention *a;
    int pairs, dots, direct;
    int64_t group, rows, blocks; /* heads that share keys; their rows, and blocks of them */
    int64_t tiles, tile, depth, v_p, q_ld, score_ld, slot_floats, slots;
    float *q, *scores, *bias, *kt, *v, *state;
    float absolute[ST_MR]; /* of each row of q: the sum of |q| */
    /* the tile at hand: keys [key0, key0 + keys), of which the mask leaves [lo, hi); in panels from lo: what is packed */
    int64_t key0, keys, lo, hi, packed_lo, k_packed, v_packed;
    float hidden, reach; /* the greatest mask value and the greatest |k| outside [lo, hi) */
} work;

static int64_t tiles_of(int64_t keys) { return ST_MAX(st_ceil_div(keys, (int64_t)TILE), (int64_t)1); }

/* Equal tiles, whole vectors of partial sums. */
static int64_t tile_of(int64_t keys) { return st_round_up(ST_MAX(st_ceil_div(keys, tiles_of(keys)), (int64_t)1), ST_MAX(4 * VL, ST_PANEL)); }

static int64_t slot_floats(int64_t v_p) { return ST_MR * v_p + 2 * ST_MR + 1; }

int64_t st_attention_workspace(int64_t rows, int64_t keys, int64_t dim, int64_t v_dim, int tiles)
{
    if (tiles)
        return st_attention_tiles_workspace(rows, keys, dim, v_dim, tiles);
    int64_t tile = keys <= TILE ? tile_of(keys) : TILE, v_p = st_round_up(v_dim, ST_PANEL), one = st_round_up(slot_floats(v_p), 16);
    int64_t state = keys <= TILE ? one : ST_MIN(st_ceil_div(rows, ST_MR) * one, ST_MAX(one, (int64_t)SLOTS));
    return 4 * (ST_MR * (st_row_stride(dim) + st_row_stride(tile)) + tile * (1 + dim + v_p) + state) + 64;
}

static work begin(const st_attention *a)
{
    work w = {.a = a, .group = a->heads / a->kv_heads, .tiles = tiles_of(a->keys), .tile = tile_of(a->keys)};
    w.rows = rows_of(a);
    w.blocks = blocks_of(a, ST_MR);
    w.dots = w.rows <= DOTS;
    w.pairs = a->pairs && !w.dots;
    w.direct = !w.pairs && w.rows <= ST_MR && a->v_dim % VL == 0;
    w.depth = w.pairs ? st_ceil_div(a->dim, 2) : a->dim;
    w.v_p = st_round_up(a->v_dim, ST_PANEL);
    w.q_ld = st_row_stride(a->dim);
    w.score_ld = st_row_stride(w.tile);
    w.slot_floats = st_round_up(slot_floats(w.v_p), 16);
    w.slots = w.tiles == 1 ? 1 : ST_MAX(SLOTS / w.slot_floats, (int64_t)1);
    w.q = st_align64(a->workspace);
    w.scores = w.q + ST_MR * w.q_ld;
    w.kt = w.scores + ST_MR * w.score_ld;
    w.v = w.kt + w.tile * a->dim;
    w.state = w.v + w.tile * w.v_p;
    w.bias = w.state + ST_MIN(w.slots, w.blocks) * w.slot_floats;
    return w;
}

static slot slot_at(const work *w, int64_t number)
{
    float *out = w->state + number * w->slot_floats, *top = out + ST_MR * w->v_p;
    return (slot){out, top, top + ST_MR, top + 2 * ST_MR};
}

static const float *keys_at(const work *w, const block *b, int64_t key)
{
    return w->a->k + b->batch * w->a->k_batch + b->owner * w->a->k_head + (w->key0 + key) * w->a->k_row;
}

static const float *values_at(const work *w, const block *b, int64_t key)
{
    return w->a->v + b->batch * w->a->v_batch + b->owner * w->a->v_head + (w->key0 + key) * w->a->v_row;
}

/* ---- packing ---- */

/* Panels of K^T as pairs along dim: rows of K are rounded first, then turned. */
static void pack_key_pairs(const work *w, const float *k, int64_t keys, float *to)
{
    enum { WORDS = 64 };
    float rounded[ST_PANEL * WORDS];
    for (int64_t j = 0; j < keys; j += ST_PANEL, to += w->depth * ST_PANEL)
        for (int64_t d = 0; d < w->depth; d += WORDS) {
            const int64_t count = ST_MIN((int64_t)ST_PANEL, keys - j), words = ST_MIN((int64_t)WORDS, w->depth - d);
            for (int64_t i = 0; i < count; i++)
                bf16_pairs(k + (j + i) * w->a->k_row + 2 * d, ST_MIN(2 * words, w->a->dim - 2 * d), rounded + i * WORDS);
            st_pack_panels(rounded, words, count, 1, WORDS, to + d * ST_PANEL, 0);
        }
}

/* Panels of V as pairs along the keys. */
static void pack_value_pairs(const work *w, const float *v, int64_t keys, float *to)
{
    const int64_t row = w->a->v_row, panel = w->tile / 2 * ST_PANEL;
    for (int64_t j = 0; j < keys; j += 2, v += 2 * row, to += ST_PANEL)
        for (int64_t d = 0; d < w->v_p; d += VL) {
            const int64_t n = ST_MAX(ST_MIN((int64_t)VL, w->a->v_dim - d), (int64_t)0);
            const vf low = n ? vf_load_n(v + d, n) : vf_zero(), high = n && j + 1 < keys ? vf_load_n(v + row + d, n) : vf_zero();
            vf_store(to + d / ST_PANEL * panel + d % ST_PANEL, bf16_zip(low, high));
        }
}

/* Have keys [lo, hi) of the tile packed, in whole panels, so that what was packed for one block stays valid for the next. */
static void pack_keys(work *w, const block *b, int64_t lo, int64_t hi)
{
    if (w->packed_lo != lo)
        w->packed_lo = w->k_packed = w->v_packed = lo;
    const int64_t from = w->k_packed, to = ST_MIN(st_round_up(hi, ST_PANEL), w->keys);
    if (from >= to)
        return;
    float *at = w->kt + from * w->depth;
    if (w->pairs)
        pack_key_pairs(w, keys_at(w, b, from), to - from, at);
    else
        st_pack_panels(keys_at(w, b, from), w->a->dim, to - from, 1, w->a->k_row, at, w->a->dim * ST_PANEL);
    w->k_packed = st_round_up(to, ST_PANEL);
}

static void pack_values(work *w, const block *b, int64_t hi)
{
    const int64_t from = w->v_packed, to = ST_MIN(st_round_up(hi, ST_PANEL), w->keys);
    if (from >= to)
        return;
    if (w->pairs)
        pack_value_pairs(w, values_at(w, b, from), to - from, w->v + from / 2 * ST_PANEL);
    else
        st_pack_panels(values_at(w, b, from), to - from, w->a->v_dim, w->a->v_row, 1, w->v + from * ST_PANEL, w->tile * ST_PANEL);
    w->v_packed = st_round_up(to, ST_PANEL);
}

/* ---- products ---- */

/* c[rows][cols] (+)= a[rows][k] b[k][cols] in one row tile; columns up to a whole vector are computed and stored.  `from`:
 * which k of the tile of keys the first one is, on which the chains do not depend. */
static void multiply(const work *w, int64_t rows, const float *a, int64_t a_row, int64_t from, int64_t k, const float *b,
                     int64_t ldb, int64_t panel, int64_t cols, float *c, int64_t ldc, int resume)
{
    const st_micro_fn *micro = (w->pairs ? st_micro_pairs : st_micro)[rows];
    const st_left left = {
        .a = a, .row = a_row, .runs = 1, .length = k, .jump = k, .into = from % ST_CHAIN, .ahead = (const char *)a,
    };
    int64_t full = cols / ST_PANEL, over = cols % ST_PANEL, p = 0;
    if (rows <= ST_WIDE4)
        for (; p + 4 <= full; p += 4)
            micro[ST_FOUR](&left, b + p * panel, ldb, panel, c + p * ST_PANEL, ldc, resume);
    if (rows <= ST_WIDE2)
        for (; p + 2 <= full; p += 2)
            micro[ST_TWO](&left, b + p * panel, ldb, panel, c + p * ST_PANEL, ldc, resume);
    for (; p < full; p++)
        micro[ST_ONE](&left, b + p * panel, ldb, panel, c + p * ST_PANEL, ldc, resume);
    if (over)
        micro[over <= VL ? ST_HALF : ST_ONE](&left, b + p * panel, ldb, panel, c + p * ST_PANEL, ldc, resume);
}

/* q . k[n] for a vector of keys, each as a vector of partial sums; `together` divides VL.  One key after the other is an order in which
 * processors fetch K ahead by themselves.  Several at once read q once, and of rows [from, to) of `next` what they read of their own
 * comes meanwhile. */
static inline void partial_sums(const float *q, const float *k, int64_t step, int64_t dim, int together, const float *next, int64_t from,
                                int64_t to, vf sums[VL])
{
    for (int64_t n = 0; n < VL; n += together) {
        vf sum[TOGETHER];
        int64_t d = 0;
        for (int g = 0; g < together; g++)
            sum[g] = vf_zero();
        for (; d + VL <= dim; d += VL) {
            const vf x = vf_load(q + d);
            for (int g = 0; g < together; g++) {
                if (n + g >= from && n + g < to)
                    __builtin_prefetch(next + (n + g) * step + d, 0, 2);
                sum[g] = vf_fma(x, vf_load(k + (n + g) * step + d), sum[g]);
            }
        }
        if (d < dim) {
            const vf x = vf_load_n(q + d, dim - d);
            for (int g = 0; g < together; g++)
                sum[g] = vf_fma(x, vf_load_n(k + (n + g) * step + d, dim - d), sum[g]);
        }
        for (int g = 0; g < together; g++)
            sums[n + g] = sum[g];
    }
}

/* The same for fewer keys than a vector holds. */
static void few_sums(const float *q, const float *k, int64_t step, int64_t dim, int64_t count, vf sums[VL])
{
    for (int64_t n = 0; n < VL; n++) {
        sums[n] = vf_zero();
        for (int64_t d = 0; d < dim && n < count; d += VL) {
            const int64_t lanes = ST_MIN((int64_t)VL, dim - d);
            sums[n] = vf_fma(vf_load_n(q + d, lanes), vf_load_n(k + n * step + d, lanes), sums[n]);
        }
    }
}

/* scores[i][j] = q[i] . k[j]: a vector of keys at a time; `there` is how many keys follow k in memory. */
static void dot_products(const work *w, int64_t rows, const float *k, int64_t keys, int64_t there, float *scores)
{
    const int64_t dim = w->a->dim, step = w->a->k_row;
    for (int64_t j = 0; j < keys; j += VL, k += VL * step) {
        const int64_t left = ST_MAX(ST_MIN((int64_t)VL, there - j - AHEAD), (int64_t)0);
        for (int64_t i = 0; i < rows; i++) {
            const float *q = w->q + i * w->q_ld;
            vf sum[VL];
            if (j + VL > keys)
                few_sums(q, k, step, dim, keys - j, sum);
            else if (rows == 1)
                partial_sums(q, k, step, dim, 1, k, 0, 0, sum);
            else
                partial_sums(q, k, step, dim, TOGETHER, left > 0 ? k + AHEAD * step : k, left * i / rows, left * (i + 1) / rows, sum);
            vf_transpose(sum);
            for (int half = VL / 2; half > 0; half /= 2)
                for (int n = 0; n < half; n++)
                    sum[n] = vf_add(sum[n], sum[n + half]);
            vf_store(scores + i * w->score_ld + j, sum[0]);
        }
    }
}

/* ---- one tile ---- */

/* scale * q, rounded to pairs where both products are; and how far its scores can be from zero, for `spare`. */
static void load_queries(work *w, const block *b)
{
    const st_attention *a = w->a;
    for (stretch s = {0}; next_stretch(w->a, b, &s);)
        for (int64_t i = 0; i < s.rows; i++) {
            const float *q = a->q + b->batch * a->q_batch + s.head * a->q_head + (s.query + i) * a->q_row;
            float *to = w->q + (s.at + i) * w->q_ld;
            vf sum = vf_zero();
            for (int64_t d = 0; d < a->dim; d += VL) {
                const int64_t n = ST_MIN((int64_t)VL, a->dim - d);
                const vf x = vf_mul(vf_load_n(q + d, n), vf_set1(a->scale));
                sum = vf_add(sum, vf_abs(x));
                vf_store(to + d, x);
            }
            w->absolute[s.at + i] = vf_reduce_add(sum);
            if (w->pairs)
                bf16_pairs(to, a->dim, to);
        }
}

/* The next tile: what its mask over the keys is, and which stretch of it that leaves. */
static void begin_tile(work *w, const block *b, int64_t number)
{
    const st_attention *a = w->a;
    w->key0 = number * w->tile;
    w->keys = ST_MAX(ST_MIN(w->tile, a->keys - w->key0), (int64_t)0);
    w->lo = w->packed_lo = w->k_packed = w->v_packed = 0;
    w->hi = w->keys;
    if (!a->score_by_key || !w->keys)
        return;
    vf hidden = vf_set1(-SIMD_INF), reach = vf_zero();
    for (int64_t j = 0; j < w->keys; j += VL)
        vf_store(w->bias + j, vf_zero());
    a->score(a->score_ctx, b->batch, b->owner * w->group, 0, 1, w->key0, w->keys, w->bias, w->tile);
    int64_t first = w->keys, last = 0;
    for (int64_t j = 0; j < w->keys; j++)
        if (!(w->bias[j] <= ATTEND_HIDDEN))
            first = ST_MIN(first, j), last = j + 1;
    w->lo = ST_MIN(first, last) / (4 * VL) * (4 * VL);
    w->hi = ST_MAX(ST_MIN(st_round_up(last, VL), w->keys), w->lo);
    for (int64_t j = 0; j < w->keys; j += VL) {
        const int64_t n = ST_MIN((int64_t)VL, w->keys - j);
        if (j < w->lo || j >= w->hi)
            hidden = vf_max_fast(hidden, vf_select(vm_first(n), vf_load_n(w->bias + j, n), hidden));
    }
    w->hidden = vf_reduce_max(hidden);
    if (w->hidden == -SIMD_INF)
        return; /* there is nothing to prove */
    for (int64_t j = 0; j < w->keys; j++)
        for (int64_t d = 0; d < a->dim && (j < w->lo || j >= w->hi); d += VL)
            reach = vf_max(reach, vf_abs(vf_load_n(keys_at(w, b, j) + d, ST_MIN((int64_t)VL, a->dim - d))));
    const float most = vf_reduce_max(reach);
    w->reach = most < 3e38f ? most : SIMD_INF; /* what rounds to infinity as bf16, and NaN, reach anywhere */
}

/* Whether no key outside [lo, hi) has a weight in any row, given each row's greatest score within or before: by Hoelder's
 * inequality |q . k| <= sum |q| max |k| (a fiftieth more covers every rounding), and adding the mask, subtracting the greatest score
 * and the exponential are monotone as computed.  NaN and infinity prove nothing. */
static int spare(const work *w, const block *b, const float *tops)
{
    for (int64_t i = 0; i < b->rows; i++) {
        const float most = 1.02f * w->absolute[i] * w->reach + w->hidden;
        if (!(most == -SIMD_INF || most - tops[i] < SOFT_UNDERFLOW))
            return 0;
    }
    return 1;
}

/* Scores of keys [lo, hi) of the tile, and each row's greatest, of those it sees, or of what came before. */
static void score(work *w, const block *b, const slot *s, int64_t lo, int64_t hi, const int64_t *seen, float *tops)
{
    const st_attention *a = w->a;
    for (int64_t i = 0; i < b->rows; i++)
        tops[i] = s->top[i];
    if (lo >= hi)
        return;
    float *scores = w->scores + lo;
    if (w->dots) {
        dot_products(w, b->rows, keys_at(w, b, lo), hi - lo, a->keys - w->key0 - lo, scores);
    } else {
        pack_keys(w, b, lo, hi);
        multiply(w, b->rows, w->q, w->q_ld, 0, w->depth, w->kt + lo * w->depth, ST_PANEL, w->depth * ST_PANEL, hi - lo, scores, w->score_ld, 0);
    }
    if (a->score && !a->score_by_key)
        for (stretch t = {0}; next_stretch(w->a, b, &t);)
            a->score(a->score_ctx, b->batch, t.head, t.query, t.rows, w->key0 + lo, hi - lo, scores + t.at * w->score_ld, w->score_ld);
    const float *bias = a->score_by_key ? w->bias + lo : NULL;
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t n = ST_MIN(seen[i], hi) - lo;
        if (n > 0) {
            const float *row = scores + i * w->score_ld;
            tops[i] = ST_MAX(tops[i], bias ? soft_top(row, bias, n) : soft_top(row, NULL, n));
        }
    }
}

/* Whether the weights of keys [lo, hi) are all exactly zero. */
static int negligible(const work *w, const block *b, const slot *s, int64_t lo, int64_t hi, const int64_t *seen, const float *tops)
{
    const float *bias = w->a->score_by_key ? w->bias + lo : NULL;
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t n = ST_MIN(seen[i], hi) - lo;
        if (n <= 0)
            continue;
        if (tops[i] > s->top[i])
            return 0;
        const float *row = w->scores + lo + i * w->score_ld;
        const float top = bias ? soft_top(row, bias, n) : soft_top(row, NULL, n);
        if (!(top == -SIMD_INF || top - tops[i] < SOFT_UNDERFLOW) || soft_odd(row, bias, n))
            return 0;
    }
    return 1;
}

/* Take the tile at hand into a block's rows. */
static void take_tile(work *w, const block *b, slot s)
{
    const st_attention *a = w->a;
    int64_t seen[ST_MR], most = 0;
    for (stretch t = {0}; next_stretch(w->a, b, &t);)
        for (int64_t i = 0; i < t.rows; i++) {
            seen[t.at + i] = ST_MIN(visible(a, t.query + i) - w->key0, w->keys);
            most = ST_MAX(most, seen[t.at + i]);
        }
    if (most <= 0)
        return;
    load_queries(w, b);
    int64_t lo = ST_MIN(w->lo, most), hi = ST_MIN(w->hi, most);
    float tops[ST_MR];
    score(w, b, &s, lo, hi, seen, tops);
    if ((lo > 0 || hi < most) && w->hidden != -SIMD_INF && !spare(w, b, tops)) {
        lo = w->lo = 0, w->hi = w->keys, hi = most; /* for all blocks to come: they are alike */
        score(w, b, &s, lo, hi, seen, tops);
    }
    if (lo >= hi || negligible(w, b, &s, lo, hi, seen, tops))
        return;

    const int resume = *s.begun != 0.0f;
    float *scores = w->scores + lo;
    const float *bias = a->score_by_key ? w->bias + lo : NULL;
    for (int64_t i = 0; i < b->rows; i++) {
        float *row = scores + i * w->score_ld;
        const int64_t n = ST_MAX(ST_MIN(seen[i], hi) - lo, (int64_t)0);
        const float shift = tops[i] == -SIMD_INF ? 0.0f : tops[i];
        if (resume && tops[i] > s.top[i]) {
            const vf fade = soft_exp(vf_sub(vf_set1(s.top[i]), vf_set1(shift)));
            for (int64_t d = 0; d < w->v_p; d += VL)
                vf_store(s.out + i * w->v_p + d, vf_mul(vf_load(s.out + i * w->v_p + d), fade));
            s.sum[i] *= vf_first(fade);
        }
        s.top[i] = tops[i];
        if (w->pairs)
            s.sum[i] += bias ? soft_weights(row, bias, shift, n, hi - lo, 1) : soft_weights(row, NULL, shift, n, hi - lo, 1);
        else
            s.sum[i] += bias ? soft_weights(row, bias, shift, n, hi - lo, 0) : soft_weights(row, NULL, shift, n, hi - lo, 0);
    }

    const int64_t k = w->pairs ? st_ceil_div(hi - lo, 2) : hi - lo;
    if (w->direct) {
        multiply(w, b->rows, scores, w->score_ld, w->pairs ? lo / 2 : lo, k, values_at(w, b, lo), a->v_row, ST_PANEL, a->v_dim, s.out, w->v_p, resume);
    } else {
        if (w->packed_lo != lo) /* where the scores were dot products */
            w->packed_lo = w->v_packed = lo;
        pack_values(w, b, hi);
        const int64_t at = w->pairs ? lo / 2 : lo, panel = (w->pairs ? w->tile / 2 : w->tile) * ST_PANEL;
        multiply(w, b->rows, scores, w->score_ld, at, k, w->v + at * ST_PANEL, ST_PANEL, panel, a->v_dim, s.out, w->v_p, resume);
    }
    *s.begun = 1.0f;
}

/* Divide by the sums; rows that saw nothing are zero. */
static void finish(const work *w, const block *b, slot s)
{
    const st_attention *a = w->a;
    for (stretch t = {0}; next_stretch(w->a, b, &t);) {
        for (int64_t i = 0; i < t.rows; i++) {
            const float sum = s.sum[t.at + i], *from = s.out + (t.at + i) * w->v_p;
            float *to = a->store ? s.out + (t.at + i) * w->v_p
                                 : a->out + b->batch * a->out_batch + t.head * a->out_head + (t.query + i) * a->out_row;
            const vf norm = vf_set1(1.0f / sum);
            for (int64_t d = 0; d < a->v_dim; d += VL) {
                const int64_t n = ST_MIN((int64_t)VL, a->v_dim - d);
                vf_store_n(to + d, sum == 0.0f ? vf_zero() : vf_mul(vf_load_n(from + d, n), norm), n);
            }
        }
        if (a->store)
            a->store(a->store_ctx, b->batch * a->heads + t.head, t.query, t.rows, 0, a->v_dim, s.out + t.at * w->v_p, w->v_p);
    }
}

/* Blocks [first, first + count) of the rows that share a key/value head. */
static void pass(work *w, int64_t batch, int64_t owner, int64_t first, int64_t count)
{
    for (int64_t tile = 0; tile < w->tiles; tile++)
        for (int64_t n = 0; n < count; n++) {
            const int64_t row = w->rows * (first + n) / w->blocks, end = w->rows * (first + n + 1) / w->blocks;
            const block b = {batch, owner, row, end - row};
            const slot s = slot_at(w, w->tiles == 1 ? 0 : n);
            if (n == 0)
                begin_tile(w, &b, tile);
            if (tile == 0) {
                *s.begun = 0.0f;
                for (int64_t i = 0; i < b.rows; i++)
                    s.top[i] = -SIMD_INF, s.sum[i] = 0.0f;
            }
            take_tile(w, &b, s);
            if (tile + 1 == w->tiles)
                finish(w, &b, s);
        }
}

/* So many blocks of one key/value head from `first` on, as many at a time as there is room for unfinished rows. */
static void passes(const st_attention *a, int64_t batch, int64_t owner, int64_t first, int64_t count)
{
    work w = begin(a);
    for (int64_t now; count > 0; first += now, count -= now) {
        now = w.tiles == 1 ? count : st_ceil_div(count, st_ceil_div(count, w.slots));
        pass(&w, batch, owner, first, now);
    }
}

void st_attention_f32(const st_attention *a, int part, int parts)
{
    if (a->tiles && rows_of(a) > ST_ATTENTION_FEW)
        st_attention_tiles(a, part, parts);
    else
        share_blocks(a, ST_MR, part, parts, passes);
}
