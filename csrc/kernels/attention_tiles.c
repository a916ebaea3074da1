/* Attention on tiles of bf16, in the modes of tiles.c: operands are sums of one, two or three bf16, sums and softmax are f32.
 *
 * K and V of a key/value head are split and laid out as right operands once, as many keys as fit into most of L2 (a chunk), for all
 * blocks of up to ROWS query rows that a part computes.  A block takes KEYS keys at a time, an item: scores on tiles, then weights
 * and their sum for each row, split as left operands, then their product with V on tiles.  Items follow each other like in a pipe:
 * while vectors make the weights of one, a row after the other, tiles multiply Q with the keys of the next, also where that one
 * belongs to the next block, and the weights of the item before with V.
 *
 * No maximum is looked for in advance.  Weights are e^score 2^-shift, where a row's shift is a whole number, at first 0.  Only where one
 * of them reaches 2^32, or none counts so far, does the shift follow the greatest score; then the row's weights of that item are made
 * again.  Powers of two change no bits of what is divided by the sum in the end.
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
#include "attention_pack.h"
#include "attention_queue.h"

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
    w->tall = rows > 16;
    block_configure(&w->tiles, rows);
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
    for (int64_t i = 0; i < ROWS; i++)
        w->fade[i] = 1.0f;
    configure(w);
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

/* Whether row i has any weights as yet that count. */
SOFT_INLINE int has_weights(const slot *s, int64_t i)
{
    vm any = vf_gt(vf_load(s->sum[i]), vf_set1(LEAST_SUM));
    for (int x = VL; x < 16; x += VL)
        any = vm_or(any, vf_gt(vf_load(s->sum[i] + x), vf_set1(LEAST_SUM)));
    return vm_any(any);
}

/* Change the scores; whether any weight of the item may not be zero. */
SOFT_INLINE int prepare(const work *w, const item *t)
{
    const st_attention *a = w->a;
    slot *s = t->slot;
    float *scores = w->scores + t->turn * (ROWS * SCORE_LD);
    if (!a->score || a->score_by_key)
        return 1;
    for (stretch n = {0}; next_stretch(a, &s->rows, &n);)
        a->score(a->score_ctx, s->rows.batch, n.head, n.query, n.rows, w->key0 + t->from, t->keys, scores + n.at * SCORE_LD, SCORE_LD);
    int live = 0;
    for (int64_t i = 0; i < s->rows.rows && !live; i++) {
        const vf least = has_weights(s, i) ? soft_scale_of(s->shift[i]).least : vf_set1(LEAST_SCORE);
        for (int64_t j = 0, n = seen_of(w, t, i); j < n; j += VL) {
            const int64_t count = ST_MIN((int64_t)VL, n - j);
            live |= vm_any(vm_and(vm_first(count), vm_not(vf_lt(vf_load_n(scores + i * SCORE_LD + j, count), least))));
        }
    }
    for (int64_t i = 0; i < s->rows.rows && !live; i++)
        if (!has_weights(s, i))
            s->top[i] = ST_MAX(s->top[i], vf_reduce_max(row_tops(scores + i * SCORE_LD, NULL, seen_of(w, t, i))));
    return live;
}

/* Row i's weights were too great, or all too small to count: have its shift follow the greatest of the scores at hand.  Whether it
 * does; it does not for rows that see nothing, whose weights are zero, and for those left to attention.c. */
static __attribute__((noinline)) int move_shift(work *w, slot *s, int64_t i, const float *scores, const float *bias, int64_t n)
{
    const float top = vf_reduce_max(row_tops(scores, bias, n)), old = s->shift[i];
    s->top[i] = ST_MAX(s->top[i], top);
    if (soft_odd(scores, bias, n) || top > -LEAST_SCORE)
        s->odd = 1;
    if (s->odd || !(top > LEAST_SCORE))
        return 0;
    s->shift[i] = vf_first(vf_round(vf_set1(top * 1.44269504f)));
    if (has_weights(s, i)) {
        w->fade[i] = vf_first(vf_ldexp(vf_set1(1.0f), vf_set1(ST_MAX(old - s->shift[i], -200.0f))));
        w->fades = 1;
    }
    return 1;
}

SOFT_INLINE vf score_or_none(const float *s, const float *bias, int64_t n)
{
    if (n >= VL)
        return soft_score(s, bias, VL);
    return n > 0 ? vf_select(vm_first(n), soft_score(s, bias, n), vf_set1(-SIMD_INF)) : vf_set1(-SIMD_INF);
}

/* Row i's weights as left operand; `whole`: it sees all KEYS keys.  Tiles take turns with every step: what they wait for holds up
 * vectors behind it. */
SOFT_INLINE void row_weights(work *w, const item *t, int64_t i, const float *bias, int parts, int whole, queue *q)
{
    slot *s = t->slot;
    const float *from = w->scores + t->turn * (ROWS * SCORE_LD) + i * SCORE_LD;
    const int64_t n = whole ? KEYS : seen_of(w, t, i), keys = whole ? KEYS : t->keys;
    vf sum[16 / VL];
    for (int again = 0;; again = 1) {
        const soft_scale scale = soft_scale_of(s->shift[i]);
        float *to = w->weights + t->turn * (KEYS / STEP * parts * PART_WORDS) + i * 16;
        vm fits = vf_eq(scale.base, scale.base), counts = vm_not(fits);
        for (int x = 0; x < 16 / VL; x++)
            sum[x] = vf_mul(vf_load(s->sum[i] + x * VL), vf_set1(w->fade[i]));
        for (int64_t j = 0; j < keys; j += STEP, to += parts * PART_WORDS) {
            for (int x = 0; x < 16 / VL; x++) {
                const int64_t at = j + x * VL;
                vf low, high;
                if (!whole && j >= n) {
                    put(vf_zero(), vf_zero(), parts, to + x * VL);
                    continue;
                }
                if (whole) {
                    low = soft_score(from + at, bias ? bias + at : NULL, VL);
                    high = soft_score(from + at + 16, bias ? bias + at + 16 : NULL, VL);
                } else {
                    low = score_or_none(from + at, bias ? bias + at : NULL, n - at);
                    high = score_or_none(from + at + 16, bias ? bias + at + 16 : NULL, n - at - 16);
                }
                fits = vm_and_lt(vm_and_lt(fits, low, scale.most), high, scale.most);
                low = soft_power(low, scale, parts);
                high = soft_power(high, scale, parts);
                sum[x] = vf_add(sum[x], vf_add(low, high));
                put(low, high, parts, to + x * VL);
            }
            if (parts > 1 || j + STEP >= keys)
                progress(w, q, i * keys + j + STEP, t->slot->rows.rows * keys, parts);
        }
        for (int x = 0; x < 16 / VL; x++)
            counts = vm_or(counts, vf_gt(sum[x], vf_set1(LEAST_SUM)));
        if ((vm_all(fits) && vm_any(counts)) || again || !move_shift(w, s, i, from, bias, n))
            break;
    }
    for (int x = 0; x < 16 / VL; x++)
        vf_store(s->sum[i] + x * VL, sum[x]);
}

/* What came before, to the scale of what comes. */
static void fade(work *w, slot *s)
{
    w->fades = 0;
    for (int64_t i = 0; i < s->rows.rows; i++) {
        if (w->fade[i] == 1.0f)
            continue;
        float *out = out_of(s) + i * w->v_p;
        const vf by = vf_set1(w->fade[i]);
        for (int64_t d = 0; d < w->v_p && s->begun; d += VL)
            vf_store(out + d, vf_mul(vf_load(out + d), by));
        w->fade[i] = 1.0f;
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

static float sum_of(const slot *s, int64_t i)
{
    vf sums = vf_load(s->sum[i]);
    for (int x = VL; x < 16; x += VL)
        sums = vf_add(sums, vf_load(s->sum[i] + x));
    return vf_reduce_add(sums);
}

/* A row's greatest score is no less: one weight at least is a key's share of their sum. */
static float least_top(const work *w, const slot *s, int64_t i)
{
    const float sum = sum_of(s, i), keys = (float)w->a->keys;
    int32_t share, exponent = -1;
    memcpy(&share, &(float){sum / keys}, sizeof share);
    exponent += (share >> 23) - 127;
    return sum > 0.0f ? (s->shift[i] + (float)exponent) * 0.693147182f : -SIMD_INF;
}

/* Whether no key that the mask hides has a weight in any row, see `spare` in attention.c. */
static int spare(const work *w, const slot *s)
{
    for (int64_t i = 0; i < s->rows.rows && w->hidden != -SIMD_INF; i++) {
        const float most = 1.02f * s->absolute[i] * w->reach + w->hidden;
        if (!(most == -SIMD_INF || most - least_top(w, s, i) < SOFT_UNDERFLOW))
            return 0;
    }
    return 1;
}

/* Divide by the sums; rows that saw nothing are zero.  Those whose scores are all of a size of masks are left to attention.c. */
static void finish(const work *w, slot *s)
{
    const st_attention *a = w->a;
    for (int64_t i = 0; i < s->rows.rows; i++)
        s->odd |= s->top[i] != -SIMD_INF && !has_weights(s, i);
    if (s->odd || !spare(w, s)) {
        plainly(w, &s->rows);
        return;
    }
    float *out = out_of(s);
    for (stretch t = {0}; next_stretch(a, &s->rows, &t);) {
        for (int64_t i = 0; i < t.rows; i++) {
            float *from = out + (t.at + i) * w->v_p;
            float *to = a->store ? from : a->out + s->rows.batch * a->out_batch + t.head * a->out_head + (t.query + i) * a->out_row;
            const float sum = sum_of(s, t.at + i);
            const int none = !s->begun || sum == 0.0f;
            const vf norm = vf_set1(1.0f / sum);
            int64_t d = 0;
            for (; d + VL <= a->v_dim && !none; d += VL)
                vf_store(to + d, vf_mul(vf_load(from + d), norm));
            for (; d < a->v_dim; d += VL) {
                const int64_t n = ST_MIN((int64_t)VL, a->v_dim - d);
                vf_store_n(to + d, none ? vf_zero() : vf_mul(vf_load_n(from + d, n), norm), n);
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
        now->live = prepare(w, now);
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
    if (w->fades)
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
    s->odd |= w->rows <= ST_ATTENTION_FEW || (g->from < g->end && !(w->most_v < FINITE_V));
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
