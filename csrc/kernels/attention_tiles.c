/* Attention on tiles of bf16, in the modes of tiles.c: operands are sums of one, two or three bf16, sums and softmax are f32.
 *
 * K and V of a key/value head are split and laid out as right operands once, as many keys as fit into most of L2 (a chunk), for all
 * blocks of up to ROWS query rows that a part computes.  A block takes KEYS keys at a time, an item: scores on tiles, then weights
 * by a running maximum and sum for each row as in attention.c, split as left operands, then their product with V on tiles.  Items
 * follow each other like in a pipe: while vectors make the weights of one, a row after the other, tiles multiply the weights of the
 * item before with V and Q with the keys of the next, also where that one belongs to the next block.
 *
 * Within a step of 32 along the depth (of Q and K; or keys) word w holds elements w and w + 16: to what is multiplied with each
 * other that order is all the same, and whole vectors can be split and put down without moving lanes.
 *
 * A row takes its items in the order of the keys, and what items are follows from the sizes and, where a mask over the keys hides
 * some, from the mask.  Neither the parts nor what shares the batch shows in the bits.
 *
 * What tiles cannot do is left to attention.c: blocks whose queries, keys or values are not finite or so large that sums may not be;
 * few rows; blocks for which keys that a mask hides cannot be proven useless.
 */
#include "../simd/simd_tiles.h"
#include "attend.h"
#include "soft.h"

#define ROWS 32
#define WIDE 32                 /* columns of a panel: keys, or elements of V */
#define STEP TILE_DEPTH
#define KEYS 128                /* of an item; a multiple of STEP and of WIDE */
#define SCORE_LD (KEYS + 16)
#define PART (ROWS * 64)        /* bytes of one part of a step: 32 rows of Q or of weights, 16 rows of 32 words of K or V */
#define PART_WORDS (PART / 4)
#define PRODUCTS(parts) ((parts) * ((parts) + 1) / 2) /* of parts that make one product */
#define PACKED 327680           /* floats of K and V that are held at once */
#define SLOTS 65536             /* floats of unfinished rows */
#define FINITE 1e30f            /* sums that must stay below this are, and no part of a value up to this is infinite */

/* Unfinished rows of a block; behind it their sums, out[ROWS][v_p]. */
typedef struct slot {
    float sum[ROWS][16]; /* of weights, in sixteen parts */
    float top[ROWS], absolute[ROWS];
    int64_t seen[ROWS];  /* keys */
    int64_t begun, odd;  /* whether out holds anything; whether attention.c shall compute it instead */
    block rows;
    int64_t unused[2];
} slot;
#define SLOT_HEAD 656 /* floats */
_Static_assert(sizeof(slot) == SLOT_HEAD * sizeof(float), "as codegen/facts.py has it");

typedef struct item {
    slot *slot; /* or NULL: there is none */
    int64_t from, keys; /* of the chunk */
    int turn, live, final; /* which buffers it has; whether any weight is not zero; whether it is the block's last */
} item;

typedef struct work {
    const st_attention *a;
    int parts;
    int64_t rows, blocks, steps, v_p, panels; /* steps of the depth; columns of V in whole tiles, panels of them */
    int64_t chunks, chunk, slots, slot_floats;
    float *q, *scores, *weights, *k, *v, *bias, *state, *plain;
    float fade[ROWS], shift[ROWS]; /* of the item at hand */
    int tall;
    tile_file tiles;
    int64_t number, key0, keys, lo, hi; /* the chunk at hand: of its keys the mask leaves [lo, hi) */
    float hidden, reach; /* the greatest mask value and the greatest |k| beyond [lo, hi) of all chunks so far */
    float most_k, most_v;
} work;

/* ---- sizes ---- */

static int64_t v_columns(int64_t v_dim) { return st_round_up(v_dim, 16); }

/* Floats that one key takes, packed. */
static int64_t key_floats(int64_t dim, int64_t v_dim, int parts)
{
    return (st_round_up(dim, STEP) + st_round_up(v_dim, WIDE)) / 2 * parts;
}

/* Keys held at once. */
static int64_t most_keys(int64_t dim, int64_t v_dim, int parts)
{
    return ST_MAX(PACKED / key_floats(dim, v_dim, parts) / KEYS, (int64_t)1) * KEYS;
}

static int64_t slot_floats(int64_t v_dim) { return SLOT_HEAD + ROWS * v_columns(v_dim); }

int64_t st_attention_tiles_workspace(int64_t rows, int64_t keys, int64_t dim, int64_t v_dim, int tiles)
{
    const int64_t each = key_floats(dim, v_dim, tiles), one = slot_floats(v_dim), held = most_keys(dim, v_dim, tiles);
    const int64_t whole = st_round_up(ST_MAX(keys, (int64_t)1), KEYS);
    const int64_t packed = ST_MIN(whole * each, ST_MAX((int64_t)PACKED, KEYS * each));
    const int64_t several = ST_MAX(ST_MIN(st_ceil_div(rows, ROWS) * one, ST_MAX(one, (int64_t)SLOTS)), 3 * one);
    const int64_t buffers = st_ceil_div(dim, STEP) * tiles * PART_WORDS + 2 * ROWS * SCORE_LD + 2 * KEYS / STEP * tiles * PART_WORDS;
    const int64_t bias = ST_MIN(whole, (int64_t)PACKED / WIDE), state = keys <= held ? 3 * one : several;
    return 4 * (buffers + packed + bias + state) + 64 + st_attention_workspace(ST_MIN(rows, (int64_t)ROWS), keys, dim, v_dim, 0);
}

static void configure(work *w)
{
    const int64_t rows = st_ceil_div(w->rows, w->blocks);
    tile_shape shape = {.palette = 1};
    for (int n = 0; n < 8; n++) {
        const int64_t own = n < 2 || n == 4 ? ST_MIN(rows, (int64_t)16) : n >= 6 ? 16 : ST_MAX(rows - 16, (int64_t)1);
        shape.row_bytes[n] = 64;
        shape.rows[n] = (uint8_t)own;
    }
    w->tall = rows > 16;
    tile_configure(&w->tiles, &shape);
}

static void begin(work *w, const st_attention *a)
{
    const int parts = a->tiles;
    const int64_t held = most_keys(a->dim, a->v_dim, parts);
    w->a = a;
    w->parts = parts;
    w->rows = rows_of(a);
    w->blocks = blocks_of(a, ROWS);
    w->steps = st_ceil_div(a->dim, STEP);
    w->v_p = v_columns(a->v_dim);
    w->panels = st_ceil_div(a->v_dim, WIDE);
    w->chunks = ST_MAX(st_ceil_div(a->keys, held), (int64_t)1);
    w->chunk = ST_MAX(st_round_up(st_ceil_div(a->keys, w->chunks), KEYS), (int64_t)KEYS);
    w->slot_floats = slot_floats(a->v_dim);
    w->slots = w->chunks == 1 ? 3 : ST_MAX(SLOTS / w->slot_floats, (int64_t)1);
    w->q = st_align64(a->workspace);
    w->scores = w->q + w->steps * parts * PART_WORDS;
    w->weights = w->scores + 2 * ROWS * SCORE_LD;
    w->k = w->weights + 2 * KEYS / STEP * parts * PART_WORDS;
    w->v = w->k + w->steps * w->chunk / 2 * STEP * parts;
    w->state = w->v + w->panels * w->chunk / 2 * WIDE * parts;
    w->bias = w->state + (w->chunks == 1 ? 3 : ST_MAX(ST_MIN(w->slots, w->blocks), (int64_t)3)) * w->slot_floats;
    w->plain = w->bias + w->chunk;
    configure(w);
}

static slot *slot_at(const work *w, int64_t number) { return (slot *)(void *)(w->state + number * w->slot_floats); }
static float *out_of(slot *s) { return (float *)(void *)(s + 1); }

/* ---- splitting ---- */

/* VL words of two elements each as a sum of so many parts; halves are rounded away from zero.  Three parts are the float itself. */
SOFT_INLINE void put(vf low, vf high, int parts, float *to)
{
    const vi half = vi_set1(0x8000), upper = vi_set1((int32_t)0xffff0000u);
    for (int p = 0; p < parts; p++, to += PART_WORDS) {
        vi x = vf_as_vi(low), y = vf_as_vi(high);
        if (p < 2) /* the third is exact */
            x = vi_add(x, half), y = vi_add(y, half);
        vf_store(to, vi_as_vf(vi_or(vi_shr(x, 16), vi_and(y, upper))));
        if (p + 1 < parts) {
            low = vf_sub(low, vi_as_vf(vi_and(x, upper)));
            high = vf_sub(high, vi_as_vf(vi_and(y, upper)));
        }
    }
}

SOFT_INLINE vf load_some(const float *p, int64_t n)
{
    return n >= VL ? vf_load(p) : n > 0 ? vf_load_n(p, n) : vf_zero();
}

/* Greatest magnitudes are told apart as whole numbers, in which NaN is greater than infinity. */
SOFT_INLINE vi greater(vi most, vf x) { return vi_max(most, vi_and(vf_as_vi(x), vi_set1(0x7fffffff))); }
static float greatest(vi most)
{
    int32_t lanes[VL], found = 0;
    float value;
    vi_store(lanes, most);
    for (int i = 0; i < VL; i++)
        found = ST_MAX(found, lanes[i]);
    memcpy(&value, &found, sizeof value);
    return value;
}

/* scale * q of a block as left operand, and the sum of |q| of each row. */
SOFT_INLINE void split_queries(work *w, slot *s, int parts)
{
    const st_attention *a = w->a;
    const vf scale = vf_set1(a->scale);
    for (stretch t = {0}; next_stretch(a, &s->rows, &t);)
        for (int64_t i = 0; i < t.rows; i++) {
            const float *q = a->q + s->rows.batch * a->q_batch + t.head * a->q_head + (t.query + i) * a->q_row;
            float *to = w->q + (t.at + i) * 16;
            vf sum = vf_zero();
            for (int64_t d = 0; d < a->dim; d += STEP, to += parts * PART_WORDS)
                for (int64_t x = 0; x < 16; x += VL) {
                    const vf low = vf_mul(load_some(q + d + x, a->dim - d - x), scale);
                    const vf high = vf_mul(load_some(q + d + 16 + x, a->dim - d - 16 - x), scale);
                    sum = vf_add(sum, vf_add(vf_abs(low), vf_abs(high)));
                    put(low, high, parts, to + x);
                }
            s->absolute[t.at + i] = vf_reduce_add(sum);
        }
}

/* One panel of keys. */
SOFT_INLINE vi pack_keys(const work *w, const float *k, int64_t keys, int parts, float *to)
{
    const int64_t dim = w->a->dim, row = w->a->k_row;
    vi most = vi_set1(0);
    for (int64_t d = 0; d < dim; d += STEP, to += parts * PART_WORDS)
        for (int64_t c = 0; c < WIDE && c < keys; c += VL)
            for (int64_t x = 0; x < 16; x += VL) {
                vf low[VL], high[VL];
                for (int64_t i = 0; i < VL; i++) {
                    const float *from = k + (c + i) * row + d + x;
                    low[i] = c + i < keys ? load_some(from, dim - d - x) : vf_zero();
                    high[i] = c + i < keys ? load_some(from + 16, dim - d - x - 16) : vf_zero();
                }
                vf_transpose(low);
                vf_transpose(high);
                for (int64_t i = 0; i < VL; i++) {
                    most = greater(greater(most, low[i]), high[i]);
                    put(low[i], high[i], parts, to + (x + i) * WIDE + c);
                }
            }
    return most;
}

/* One step of keys, in every panel of V. */
SOFT_INLINE vi pack_values(const work *w, const float *v, int64_t keys, int parts, float *to)
{
    const int64_t dim = w->a->v_dim, row = w->a->v_row;
    vi most = vi_set1(0);
    for (int64_t p = 0; p < dim; p += WIDE, to += w->chunk / 2 * WIDE * parts)
        for (int64_t i = 0; i < 16; i++)
            for (int64_t c = 0; c < WIDE && p + c < dim; c += VL) {
                const float *from = v + i * row + p + c;
                const vf low = i < keys ? load_some(from, dim - p - c) : vf_zero();
                const vf high = i + 16 < keys ? load_some(from + 16 * row, dim - p - c) : vf_zero();
                most = greater(greater(most, low), high);
                put(low, high, parts, to + i * WIDE + c);
            }
    return most;
}

/* Keys up to `end`, and what is greatest in all, lest it depend on which blocks a part has. */
SOFT_INLINE void pack(work *w, const float *k, const float *v, int64_t end, int parts)
{
    const st_attention *a = w->a;
    vi most_k = vi_set1(0), most_v = vi_set1(0);
    for (int64_t j = w->lo; j < end; j += STEP) {
        const int64_t keys = ST_MIN((int64_t)STEP, end - j);
        most_k = vi_max(most_k, pack_keys(w, k + j * a->k_row, keys, parts, w->k + j / WIDE * w->steps * parts * PART_WORDS));
        most_v = vi_max(most_v, pack_values(w, v + j * a->v_row, keys, parts, w->v + j / STEP * parts * PART_WORDS));
    }
    for (int64_t j = ST_MAX(end, w->lo); j < w->hi; j++) {
        for (int64_t d = 0; d < a->dim; d += VL)
            most_k = greater(most_k, load_some(k + j * a->k_row + d, a->dim - d));
        for (int64_t d = 0; d < a->v_dim; d += VL)
            most_v = greater(most_v, load_some(v + j * a->v_row + d, a->v_dim - d));
    }
    w->most_k = greatest(most_k);
    w->most_v = greatest(most_v);
}

/* ---- tiles ---- */

/* What tiles do beside the weights of an item: panels of sums, step by step.  A few products at a time: tiles that wait for their
 * turn hold up whatever comes behind them. */
typedef struct queue {
    const float *weights, *v;
    float *out, *scores;
    const float *k;
    int64_t panels, steps, resume;       /* of the item before with V */
    int64_t key_panels, key_steps, keys; /* of Q with the next one's keys */
    int64_t panel, step, product;        /* at hand */
    const char *a, *b;
    int64_t all, left; /* products of parts of a step */
} queue;

/* The next product of parts of a queue that has one.  Out of line, so that the vectors' loop around it stays short. */
static __attribute__((noinline)) void advance(work *w, queue *q, int parts)
{
    tile_file *t = &w->tiles;
    const int second = q->panel >= q->panels, tall = w->tall;
    const int64_t at = (second ? q->panel - q->panels : q->panel) * WIDE, ld = second ? SCORE_LD : w->v_p, row = 4 * ld;
    const int wide = (second ? q->keys : w->v_p) - at > 16;
    float *c = (second ? q->scores : q->out) + at;
    if (q->step == 0 && q->product == 0) {
        q->a = (const char *)(second ? w->q : q->weights);
        q->b = (const char *)(second ? q->k + at / WIDE * w->steps * parts * PART_WORDS : q->v + at * w->chunk / 2 * parts);
        if (!second && q->resume) {
            tile_load(t, 0, c, row);
            if (wide)
                tile_load(t, 1, c + 16, row);
            if (tall)
                tile_load(t, 2, c + 16 * ld, row);
            if (tall && wide)
                tile_load(t, 3, c + 16 * ld + 16, row);
        } else {
            tile_zero(t, 0);
            tile_zero(t, 1);
            tile_zero(t, 2);
            tile_zero(t, 3);
        }
    }
    /* of three parts: a1 b3, a1 b2, a2 b2, a2 b1, a3 b1, a1 b1; of two: a1 b2, a2 b1, a1 b1: few loads, and the greatest last */
    static const int8_t a_part[4][6] = {{0}, {0}, {0, 1, 0}, {0, 0, 1, 1, 2, 0}};
    static const int8_t b_part[4][6] = {{0}, {0}, {1, 0, 0}, {2, 1, 1, 0, 0, 0}};
    static const int8_t new_a[4][6] = {{0}, {1}, {1, 1, 1}, {1, 0, 1, 0, 1, 1}};
    static const int8_t new_b[4][6] = {{0}, {1}, {1, 1, 0}, {1, 1, 0, 1, 0, 0}};
    if (new_b[parts][q->product]) {
        const char *b = q->b + b_part[parts][q->product] * PART;
        tile_load(t, 6, b, 128);
        if (wide)
            tile_load(t, 7, b + 64, 128);
    }
    if (new_a[parts][q->product]) {
        const char *a = q->a + a_part[parts][q->product] * PART;
        tile_load(t, 4, a, 64);
        if (tall)
            tile_load(t, 5, a + 1024, 64);
    }
    tile_dot(t, 0, 4, 6);
    if (tall)
        tile_dot(t, 2, 5, 6);
    if (wide)
        tile_dot(t, 1, 4, 7);
    if (tall && wide)
        tile_dot(t, 3, 5, 7);
    q->left--;
    if (++q->product < PRODUCTS(parts))
        return;
    q->product = 0;
    q->a += parts * PART;
    q->b += parts * PART;
    if (++q->step < (second ? q->key_steps : q->steps))
        return;
    q->step = 0;
    q->panel++;
    tile_store(t, 0, c, row);
    if (wide)
        tile_store(t, 1, c + 16, row);
    if (tall)
        tile_store(t, 2, c + 16 * ld, row);
    if (tall && wide)
        tile_store(t, 3, c + 16 * ld + 16, row);
}

/* So much of a queue that `done` of `of` equal shares of it are. */
SOFT_INLINE void progress(work *w, queue *q, int64_t done, int64_t of, int parts)
{
    while (q->left > 0 && (q->all - q->left) * of < q->all * done)
        advance(w, q, parts);
}

static queue new_queue(const work *w, const item *before, const item *next, int parts)
{
    queue q = {0};
    if (before->slot && before->live) {
        q.weights = w->weights + before->turn * (KEYS / STEP * parts * PART_WORDS);
        q.v = w->v + before->from / STEP * parts * PART_WORDS;
        q.out = out_of(before->slot);
        q.panels = w->panels;
        q.steps = st_ceil_div(before->keys, STEP);
        q.resume = before->slot->begun;
        before->slot->begun = 1;
    }
    if (next->slot) {
        q.k = w->k + next->from / WIDE * w->steps * parts * PART_WORDS;
        q.scores = w->scores + next->turn * (ROWS * SCORE_LD);
        q.key_panels = st_ceil_div(next->keys, WIDE);
        q.key_steps = w->steps;
        q.keys = next->keys;
    }
    q.all = q.left = (q.panels * q.steps + q.key_panels * q.key_steps) * PRODUCTS(parts);
    return q;
}

/* ---- softmax ---- */

/* The greatest of n scores in the lanes of a vector; NaN does not count. */
SOFT_INLINE vf row_tops(const float *s, const float *bias, int64_t n)
{
    const vf lowest = vf_set1(-SIMD_INF);
    vf top = lowest, other = lowest;
    int64_t j = 0;
    for (; j + 2 * VL <= n; j += 2 * VL) {
        top = vf_max_fast(soft_score(s + j, bias ? bias + j : NULL, VL), top);
        other = vf_max_fast(soft_score(s + j + VL, bias ? bias + j + VL : NULL, VL), other);
    }
    for (; j < n; j += VL) {
        const int64_t count = ST_MIN((int64_t)VL, n - j);
        top = vf_max_fast(vf_select(vm_first(count), soft_score(s + j, bias ? bias + j : NULL, count), lowest), top);
    }
    return vf_max_fast(top, other);
}

/* Keys of an item that row i sees. */
SOFT_INLINE int64_t seen_of(const work *w, const item *t, int64_t i)
{
    return ST_MAX(ST_MIN(t->slot->seen[i] - w->key0 - t->from, t->keys), (int64_t)0);
}

/* Whether all rows see every key of a full item, and no mask is added to them on the way. */
static int is_whole(const work *w, const item *t)
{
    const slot *s = t->slot;
    int whole = t->keys == KEYS && !w->a->score_by_key;
    for (int64_t i = 0; i < s->rows.rows && whole; i++)
        whole = s->seen[i] - w->key0 - t->from >= KEYS;
    return whole;
}

/* Change the scores, find each row's greatest so far, and by what its sums have to be multiplied for that; whether any weight of
 * the item is not exactly zero. */
SOFT_INLINE int prepare(work *w, item *t, const float *bias, int whole)
{
    const st_attention *a = w->a;
    slot *s = t->slot;
    float *scores = w->scores + t->turn * (ROWS * SCORE_LD);
    if (a->score && !a->score_by_key)
        for (stretch n = {0}; next_stretch(a, &s->rows, &n);)
            a->score(a->score_ctx, s->rows.batch, n.head, n.query, n.rows, w->key0 + t->from, t->keys, scores + n.at * SCORE_LD, SCORE_LD);
    int live = 0;
    for (int64_t i = 0; i < s->rows.rows; i += VL) {
        vf top[VL];
        for (int64_t r = 0; r < VL; r++)
            top[r] = i + r >= s->rows.rows ? vf_set1(-SIMD_INF)
                     : whole               ? row_tops(scores + (i + r) * SCORE_LD, NULL, KEYS)
                                           : row_tops(scores + (i + r) * SCORE_LD, bias, seen_of(w, t, i + r));
        vf_transpose(top);
        for (int half = VL / 2; half > 0; half /= 2)
            for (int r = 0; r < half; r++)
                top[r] = vf_max_fast(top[r], top[r + half]);
        const vf old = vf_load(s->top + i), now = vf_max_fast(top[0], old);
        const vf shift = vf_select(vf_eq(now, vf_set1(-SIMD_INF)), vf_zero(), now);
        vf_store(s->top + i, now);
        vf_store(w->shift + i, shift);
        vf_store(w->fade + i, vf_select(vf_gt(now, old), soft_exp(vf_sub(old, shift)), vf_set1(1.0f)));
        live |= vm_any(vm_not(vf_lt(vf_sub(top[0], shift), vf_set1(SOFT_UNDERFLOW)))); /* infinities that meet are NaN */
    }
    for (int64_t i = 0; i < s->rows.rows && !live; i++)
        live = soft_odd(scores + i * SCORE_LD, bias, seen_of(w, t, i));
    return live;
}

SOFT_INLINE vf weight(const float *s, const float *bias, vf shift, int64_t n)
{
    if (n >= VL)
        return soft_exp(vf_sub(soft_score(s, bias, VL), shift));
    return n > 0 ? vf_select(vm_first(n), soft_exp(vf_sub(soft_score(s, bias, n), shift)), vf_zero()) : vf_zero();
}

/* Row i's weights as left operand; `whole`: it sees all KEYS keys.  Of three parts tiles have so much to do that they take turns with
 * every step. */
SOFT_INLINE void row_weights(work *w, const item *t, int64_t i, const float *bias, int parts, int whole, queue *q)
{
    const float *from = w->scores + t->turn * (ROWS * SCORE_LD) + i * SCORE_LD;
    float *to = w->weights + t->turn * (KEYS / STEP * parts * PART_WORDS) + i * 16, *sums = t->slot->sum[i];
    const int64_t n = whole ? KEYS : seen_of(w, t, i), keys = whole ? KEYS : t->keys;
    const vf shift = vf_set1(w->shift[i]), fade = vf_set1(w->fade[i]);
    vf sum[16 / VL];
    for (int x = 0; x < 16 / VL; x++)
        sum[x] = vf_mul(vf_load(sums + x * VL), fade);
    for (int64_t j = 0; j < keys; j += STEP, to += parts * PART_WORDS) {
        for (int x = 0; x < 16 / VL; x++) {
            const int64_t at = j + x * VL;
            vf low, high;
            if (at + 16 + VL <= n) {
                low = soft_exp(vf_sub(soft_score(from + at, bias ? bias + at : NULL, VL), shift));
                high = soft_exp(vf_sub(soft_score(from + at + 16, bias ? bias + at + 16 : NULL, VL), shift));
            } else {
                low = weight(from + at, bias ? bias + at : NULL, shift, n - at);
                high = weight(from + at + 16, bias ? bias + at + 16 : NULL, shift, n - at - 16);
            }
            sum[x] = vf_add(sum[x], vf_add(low, high));
            put(low, high, parts, to + x * VL);
        }
        if (parts == 3 || j + STEP >= keys)
            progress(w, q, i * keys + j + STEP, t->slot->rows.rows * keys, parts);
    }
    for (int x = 0; x < 16 / VL; x++)
        vf_store(sums + x * VL, sum[x]);
}

/* What came before, to the scale of what comes. */
static void fade(const work *w, slot *s)
{
    for (int64_t i = 0; i < s->rows.rows; i++) {
        if (w->fade[i] == 1.0f)
            continue;
        float *out = out_of(s) + i * w->v_p;
        const vf by = vf_set1(w->fade[i]);
        for (int64_t d = 0; d < w->v_p; d += VL)
            vf_store(out + d, vf_mul(vf_load(out + d), by));
    }
}

/* ---- blocks ---- */

/* A stretch of rows as attention of its own. */
typedef struct single {
    const st_attention *a;
    int64_t batch, head, query;
} single;

static void score_single(const void *ctx, int64_t batch, int64_t head, int64_t query, int64_t queries, int64_t key, int64_t keys,
                         float *scores, int64_t ld)
{
    const single *s = ctx;
    s->a->score(s->a->score_ctx, s->batch + batch, s->head + head, s->query + query, queries, key, keys, scores, ld);
}

static void store_single(const void *ctx, int64_t batch, int64_t row, int64_t rows, int64_t col, int64_t cols, const float *tile, int64_t ld)
{
    const single *s = ctx;
    s->a->store(s->a->store_ctx, s->batch * s->a->heads + s->head + batch, s->query + row, rows, col, cols, tile, ld);
}

/* A block by attention.c. */
static void plainly(const work *w, const block *b)
{
    const st_attention *a = w->a;
    for (stretch t = {0}; next_stretch(a, b, &t);) {
        const single ctx = {a, b->batch, t.head, t.query};
        st_attention one = *a;
        one.tiles = 0;
        one.ends = NULL;
        one.batch = one.heads = one.kv_heads = 1;
        one.queries = t.rows;
        one.keys = a->causal ? ST_MAX(a->keys - a->queries + t.query + t.rows, (int64_t)0) : a->keys;
        one.q += b->batch * a->q_batch + t.head * a->q_head + t.query * a->q_row;
        one.k += b->batch * a->k_batch + b->owner * a->k_head;
        one.v += b->batch * a->v_batch + b->owner * a->v_head;
        if (a->score)
            one.score = score_single, one.score_ctx = &ctx;
        if (a->store)
            one.store = store_single, one.store_ctx = &ctx;
        else
            one.out += b->batch * a->out_batch + t.head * a->out_head + t.query * a->out_row;
        one.workspace = w->plain;
        st_attention_f32(&one, 0, 1);
    }
}

/* Whether no key that the mask hides has a weight in any row, see `spare` in attention.c. */
static int spare(const work *w, const slot *s)
{
    for (int64_t i = 0; i < s->rows.rows && w->hidden != -SIMD_INF; i++) {
        const float most = 1.02f * s->absolute[i] * w->reach + w->hidden;
        if (!(most == -SIMD_INF || most - s->top[i] < SOFT_UNDERFLOW))
            return 0;
    }
    return 1;
}

/* Divide by the sums; rows that saw nothing are zero. */
static void finish(const work *w, slot *s)
{
    const st_attention *a = w->a;
    if (s->odd || !spare(w, s)) {
        plainly(w, &s->rows);
        return;
    }
    float *out = out_of(s);
    for (stretch t = {0}; next_stretch(a, &s->rows, &t);) {
        for (int64_t i = 0; i < t.rows; i++) {
            float *from = out + (t.at + i) * w->v_p;
            float *to = a->store ? from : a->out + s->rows.batch * a->out_batch + t.head * a->out_head + (t.query + i) * a->out_row;
            vf sums = vf_load(s->sum[t.at + i]);
            for (int x = VL; x < 16; x += VL)
                sums = vf_add(sums, vf_load(s->sum[t.at + i] + x));
            const float sum = vf_reduce_add(sums);
            const vf norm = vf_set1(1.0f / sum);
            for (int64_t d = 0; d < a->v_dim; d += VL) {
                const int64_t n = ST_MIN((int64_t)VL, a->v_dim - d);
                vf_store_n(to + d, s->begun && sum != 0.0f ? vf_mul(vf_load_n(from + d, n), norm) : vf_zero(), n);
            }
        }
        if (a->store)
            a->store(a->store_ctx, s->rows.batch * a->heads + t.head, t.query, t.rows, 0, a->v_dim, out + t.at * w->v_p, w->v_p);
    }
}

/* Weights of one item, while tiles are busy with the ones before and after it. */
SOFT_INLINE void turn(work *w, const item *before, item *now, const item *next, int parts)
{
    queue q = new_queue(w, before, next, parts);
    if (now->slot) {
        const float *bias = w->a->score_by_key ? w->bias + now->from : NULL;
        const int64_t rows = now->slot->rows.rows;
        const int whole = is_whole(w, now);
        now->live = whole ? prepare(w, now, NULL, 1) : prepare(w, now, bias, 0);
        for (int64_t i = 0; i < rows && now->live; i++) {
            if (whole)
                row_weights(w, now, i, NULL, parts, 1, &q);
            else if (bias)
                row_weights(w, now, i, bias, parts, 0, &q);
            else
                row_weights(w, now, i, NULL, parts, 0, &q);
        }
    }
    progress(w, &q, 1, 1, parts);
    if (before->slot && before->final)
        finish(w, before->slot);
    if (now->slot && now->live && now->slot->begun)
        fade(w, now->slot);
}

/* Blocks [first, first + count) of a key/value head against the chunk at hand. */
typedef struct items {
    int64_t batch, owner, first, count;
    int64_t block, from, end, used; /* which comes next; the key its next item begins with and the last one's end; slots taken */
    int turn;
} items;

static block block_at(const work *w, const items *g, int64_t number)
{
    const int64_t row = w->rows * (g->first + number) / w->blocks, end = w->rows * (g->first + number + 1) / w->blocks;
    return (block){g->batch, g->owner, row, end - row};
}

/* Begin a block in this chunk; whether it has any items. */
SOFT_INLINE int begin_block(work *w, items *g, slot *s, int parts)
{
    const st_attention *a = w->a;
    int64_t most = 0;
    if (w->number == 0) {
        memset(s, 0, sizeof *s);
        s->rows = block_at(w, g, g->block);
        for (int64_t i = 0; i < ROWS; i++)
            s->top[i] = -SIMD_INF;
        for (stretch t = {0}; next_stretch(a, &s->rows, &t);)
            for (int64_t i = 0; i < t.rows; i++)
                s->seen[t.at + i] = visible(a, t.query + i);
    }
    for (int64_t i = 0; i < s->rows.rows; i++)
        most = ST_MAX(most, s->seen[i]);
    g->from = w->lo;
    g->end = ST_MIN(w->hi, most - w->key0);
    s->odd |= w->rows <= ST_ATTENTION_FEW || (g->from < g->end && !(w->most_v < FINITE));
    if (s->odd || (g->from >= g->end && w->hidden == -SIMD_INF))
        return 0;
    split_queries(w, s, parts);
    for (int64_t i = 0; i < s->rows.rows && g->from < g->end; i++)
        s->odd |= !(s->absolute[i] * w->most_k < FINITE) || !(s->absolute[i] < FINITE) || !(w->most_k < FINITE);
    return !s->odd && g->from < g->end;
}

SOFT_INLINE item next_item(work *w, items *g, int parts)
{
    while (g->block < g->count) {
        slot *s = slot_at(w, w->chunks == 1 ? g->used % 3 : g->block);
        if (g->from < 0 && !begin_block(w, g, s, parts)) {
            if (w->number + 1 == w->chunks)
                finish(w, s);
            g->block++;
            g->from = -1;
            continue;
        }
        item found = {.slot = s, .from = g->from, .keys = ST_MIN((int64_t)KEYS, g->end - g->from), .turn = g->turn};
        g->turn = !g->turn;
        g->from += KEYS;
        if (g->from >= g->end) {
            found.final = w->number + 1 == w->chunks;
            g->from = -1;
            g->block++;
            g->used++;
        }
        return found;
    }
    return (item){0};
}

SOFT_INLINE void run_items(work *w, items g, int parts)
{
    item before = {0}, now = {0};
    do {
        const item next = next_item(w, &g, parts);
        turn(w, &before, &now, &next, parts);
        before = now;
        now = next;
    } while (before.slot || now.slot);
}

/* The next chunk: what its mask over the keys is, which stretch of it that leaves, and K and V packed as far as blocks see them. */
static void begin_chunk(work *w, const items *g, int64_t number)
{
    const st_attention *a = w->a;
    const float *k = a->k + g->batch * a->k_batch + g->owner * a->k_head, *v = a->v + g->batch * a->v_batch + g->owner * a->v_head;
    int64_t most = 0;
    w->number = number;
    w->key0 = number * w->chunk;
    w->keys = ST_MAX(ST_MIN(w->chunk, a->keys - w->key0), (int64_t)0);
    w->lo = 0;
    w->hi = w->keys;
    if (number == 0)
        w->hidden = -SIMD_INF, w->reach = 0.0f;
    k += w->key0 * a->k_row;
    v += w->key0 * a->v_row;
    if (a->score_by_key && w->keys) {
        for (int64_t j = 0; j < w->keys; j++)
            w->bias[j] = 0.0f;
        a->score(a->score_ctx, g->batch, g->owner * (a->heads / a->kv_heads), 0, 1, w->key0, w->keys, w->bias, w->chunk);
        int64_t first = w->keys, last = 0;
        float hidden = -SIMD_INF;
        for (int64_t j = 0; j < w->keys; j++) {
            if (!(w->bias[j] <= ATTEND_HIDDEN))
                first = ST_MIN(first, j), last = j + 1;
            else
                hidden = ST_MAX(hidden, w->bias[j]);
        }
        if (last || w->chunks > 1 || hidden == -SIMD_INF) {
            w->lo = ST_MIN(first, last) / STEP * STEP;
            w->hi = last;
        }
        vi reach = vi_set1(0);
        float beyond = -SIMD_INF;
        for (int64_t j = 0; j < w->keys; j++) {
            if (j >= w->lo && j < w->hi)
                continue;
            beyond = ST_MAX(beyond, w->bias[j]);
            for (int64_t d = 0; d < a->dim && hidden != -SIMD_INF; d += VL)
                reach = greater(reach, load_some(k + j * a->k_row + d, a->dim - d));
        }
        const float far = greatest(reach);
        w->hidden = ST_MAX(w->hidden, beyond);
        w->reach = ST_MAX(w->reach, far < FINITE ? far : SIMD_INF);
    }
    for (int64_t n = 0; n < g->count; n++) {
        const block b = block_at(w, g, n);
        for (stretch t = {0}; next_stretch(a, &b, &t);)
            most = ST_MAX(most, visible(a, t.query + t.rows - 1));
    }
    const int64_t end = ST_MIN(w->hi, most - w->key0);
    if (w->rows <= ST_ATTENTION_FEW)
        return;
    if (w->parts == 1)
        pack(w, k, v, end, 1);
    else if (w->parts == 2)
        pack(w, k, v, end, 2);
    else
        pack(w, k, v, end, 3);
}

static void pass(work *w, int64_t batch, int64_t owner, int64_t first, int64_t count)
{
    for (int64_t number = 0; number < w->chunks; number++) {
        const items g = {.batch = batch, .owner = owner, .first = first, .count = count, .from = -1};
        begin_chunk(w, &g, number);
        if (w->parts == 1)
            run_items(w, g, 1);
        else if (w->parts == 2)
            run_items(w, g, 2);
        else
            run_items(w, g, 3);
    }
}

/* So many blocks of one key/value head, as many at a time as there is room for unfinished rows. */
static void passes(const st_attention *a, int64_t batch, int64_t owner, int64_t first, int64_t count)
{
    work w = {0};
    begin(&w, a);
    for (int64_t now; count > 0; first += now, count -= now) {
        now = w.chunks == 1 ? count : st_ceil_div(count, st_ceil_div(count, w.slots));
        pass(&w, batch, owner, first, now);
    }
    tile_release(&w.tiles);
}

void st_attention_tiles(const st_attention *a, int part, int parts) { share_blocks(a, ROWS, part, parts, passes); }
