/* Attention: a block of queries against all keys.  Scores of the block stay in the workspace, so the softmax is the plain one
 * (largest score, exponentials, sum) and its order depends on the key index alone.
 *
 * K^T and V of one key/value head are packed once and serve all query blocks of that head that fall to the part; heads with
 * more than KEYS keys are packed in chunks, again for every query block.
 */
#include "tile.h"

#define QUERIES (4 * ST_MR)
#define KEYS 2048

typedef struct layout {
    int64_t keys_p, v_p, chunk, score_ld, q_ld; /* chunk: keys packed at a time */
    float *q, *scores, *out, *kt, *v;
} layout;

static layout lay_out(int64_t keys, int64_t dim, int64_t v_dim, float *at)
{
    layout l = {.keys_p = st_round_up(ST_MAX(keys, (int64_t)1), ST_PANEL), .v_p = st_round_up(v_dim, ST_PANEL)};
    l.chunk = ST_MIN(l.keys_p, (int64_t)KEYS);
    l.q_ld = st_row_stride(dim);
    l.score_ld = st_row_stride(l.keys_p);
    l.q = at;
    l.scores = l.q + QUERIES * l.q_ld;
    l.out = l.scores + QUERIES * l.score_ld;
    l.kt = l.out + QUERIES * l.v_p;
    l.v = l.kt + l.chunk * dim;
    return l;
}

int64_t st_attention_workspace(int64_t queries, int64_t keys, int64_t dim, int64_t v_dim)
{
    (void)queries;
    int64_t keys_p = st_round_up(ST_MAX(keys, (int64_t)1), ST_PANEL), v_p = st_round_up(v_dim, ST_PANEL);
    return 4 * (QUERIES * (st_row_stride(dim) + st_row_stride(keys_p) + v_p) + ST_MIN(keys_p, (int64_t)KEYS) * (dim + v_p)) + 64;
}

/* e^x for x <= 0 (or NaN): vf_exp's polynomial, but n = round(x / ln 2) is left in the low bits of a large float, whence
 * 2^n needs no conversion; below e^-87 the result is zero (the row's sum is at least one). */
static inline vf soft_exp(vf x)
{
    vf magic = vf_set1(12582912.0f); /* 1.5 * 2^23 */
    vf t = vf_fma(x, vf_set1(1.44269504f), magic), n = vf_sub(t, magic);
    vf r = vf_fnma(n, vf_set1(1.42860682e-6f), vf_fnma(n, vf_set1(0.693145751953125f), x));
    vf p = vf_fma(vf_set1(0.0013942204f), r, vf_set1(0.00836867746f));
    p = vf_fma(p, r, vf_set1(0.0416663848f));
    p = vf_fma(p, r, vf_set1(0.166665211f));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(vf_mul(r, r), p, r);
    vf power = vi_as_vf(vi_add(vi_shl(vf_as_vi(t), 23), vi_set1(127 << 23)));
    return vf_select(vf_lt(x, vf_set1(-87.0f)), vf_zero(), vf_fma(p, power, power));
}

/* scores -> exp(scores - largest); returns the sum.  Four vectors of partial sums by key index: adding the zeros of masked
 * keys changes none of them. */
static float soft_row(float *s, int64_t visible, int64_t keys)
{
    vf lowest = vf_set1(-SIMD_INF), top = lowest;
    int64_t j = 0;
    for (; j + VL <= visible; j += VL)
        top = vf_max_fast(top, vf_load(s + j));
    if (j < visible)
        top = vf_max_fast(top, vf_select(vm_first(visible - j), vf_load_n(s + j, visible - j), lowest));
    float largest = vf_reduce_max(top);
    vf shift = vf_set1(largest == -SIMD_INF ? 0.0f : largest), sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = vf_zero();
    for (j = 0; j + 4 * VL <= visible; j += 4 * VL)
        for (int i = 0; i < 4; i++) {
            vf e = soft_exp(vf_sub(vf_load(s + j + i * VL), shift));
            vf_store(s + j + i * VL, e);
            sum[i] = vf_add(sum[i], e);
        }
    for (int i = 0; i < 4 && j < visible; i++, j += VL) {
        int64_t n = ST_MIN((int64_t)VL, visible - j);
        vf e = vf_select(vm_first(n), soft_exp(vf_sub(vf_load_n(s + j, n), shift)), vf_zero());
        vf_store_n(s + j, e, n);
        sum[i] = vf_add(sum[i], e);
    }
    for (j = visible; j < keys; j++)
        s[j] = 0.0f;
    return vf_reduce_add(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

static void query_block(const st_attention *a, const layout *l, int64_t b, int64_t h, int64_t i0, int64_t i1, int64_t *packed)
{
    int64_t kv = h / (a->heads / a->kv_heads), rows = i1 - i0, offset = a->causal ? a->keys - a->queries : a->keys;
    const float *q = a->q + b * a->q_batch + h * a->q_head, *k = a->k + b * a->k_batch + kv * a->k_head;
    const float *v = a->v + b * a->v_batch + kv * a->v_head;
    int64_t seen = ST_MAX(ST_MIN(a->keys, a->causal ? i1 + offset : a->keys), (int64_t)0); /* keys any row of the block sees */

    for (int64_t i = 0; i < rows; i++)
        for (int64_t d = 0; d < a->dim; d += VL) {
            int64_t n = ST_MIN((int64_t)VL, a->dim - d);
            vf_store_n(l->q + i * l->q_ld + d, vf_mul(vf_load_n(q + (i0 + i) * a->q_row + d, n), vf_set1(a->scale)), n);
        }
    st_product p = {.m1 = rows, .k = a->dim, .a = l->q, .a_row = l->q_ld, .b = l->kt, .b_packed = 1, .c_row = l->score_ld,
                    .workspace = l->q};
    int cached = a->keys <= l->chunk;
    for (int64_t j = 0; j < seen; j += l->chunk) {
        int64_t n = ST_MIN(l->chunk, seen - j), done = cached ? packed[0] : 0;
        if (n > done) { /* whole panels, so that what was packed for an earlier block stays valid */
            int64_t from = done / ST_PANEL * ST_PANEL, to = cached ? ST_MIN(st_round_up(n, ST_PANEL), a->keys) : n;
            st_pack_panels(k + (j + from) * a->k_row, a->dim, to - from, 1, a->k_row, l->kt + from * a->dim, a->dim * ST_PANEL);
            if (cached)
                packed[0] = to;
        }
        p.n1 = st_round_up(n, ST_PANEL);
        p.c = l->scores + j;
        st_product_run(&p);
    }
    if (a->score && seen)
        a->score(a->score_ctx, b, h, i0, rows, 0, seen, l->scores, l->score_ld);

    float sums[QUERIES];
    for (int64_t i = 0; i < rows; i++) {
        int64_t visible = a->causal ? ST_MAX(ST_MIN(seen, i0 + i + offset + 1), (int64_t)0) : seen;
        sums[i] = soft_row(l->scores + i * l->score_ld, visible, seen);
    }

    /* Few queries read V in place: packing would cost more than it saves. */
    int direct = a->queries <= ST_MR && a->v_dim == l->v_p;
    st_product o = {.m1 = rows, .n1 = l->v_p, .a_row = l->score_ld, .b_row = a->v_row, .b_col = 1, .b_packed = !direct,
                    .b_panel = l->chunk * ST_PANEL, .c = l->out, .c_row = l->v_p, .workspace = l->q};
    for (int64_t j = 0; j == 0 || j < seen; j += l->chunk) {
        int64_t n = ST_MIN(l->chunk, seen - j), done = cached ? packed[1] : 0;
        if (n > done && !direct) {
            st_pack_panels(v + (j + done) * a->v_row, n - done, a->v_dim, a->v_row, 1, l->v + done * ST_PANEL, o.b_panel);
            if (cached)
                packed[1] = n;
        }
        o.a = l->scores + j;
        o.b = direct ? v + j * a->v_row : l->v;
        o.k = n;
        o.resume = j > 0;
        st_product_run(&o);
    }

    for (int64_t i = 0; i < rows; i++) {
        float *from = l->out + i * l->v_p;
        float *to = a->store ? from : a->out + b * a->out_batch + h * a->out_head + (i0 + i) * a->out_row;
        vf norm = vf_set1(1.0f / sums[i]);
        for (int64_t d = 0; d < a->v_dim; d += VL) {
            int64_t n = ST_MIN((int64_t)VL, a->v_dim - d);
            vf_store_n(to + d, sums[i] == 0.0f ? vf_zero() : vf_mul(vf_load_n(from + d, n), norm), n);
        }
    }
    if (a->store)
        a->store(a->store_ctx, b * a->heads + h, i0, rows, 0, a->v_dim, l->out, l->v_p);
}

/* Sequence b of those that lie one after the other, as a batch of its own. */
static st_attention sequence(const st_attention *a, int64_t b)
{
    st_attention one = *a;
    int64_t start = b ? a->ends[(b - 1) * a->ends_step] : 0;
    one.queries = one.keys = ST_MAX(ST_MIN(a->ends[b * a->ends_step] - start, a->keys), (int64_t)0);
    one.q += start * a->q_row;
    one.k += start * a->k_row;
    one.v += start * a->v_row;
    one.out += start * a->out_row;
    return one;
}

/* The work is shared out by the scores of each query block; every part walks all sequences, which are few. */
static void ragged(const st_attention *a, int part, int parts)
{
    layout l = lay_out(a->keys, a->dim, a->v_dim, st_align64(a->workspace));
    int64_t total = 0, at = 0;
    for (int64_t b = 0; b < a->batch; b++) {
        st_attention one = sequence(a, b);
        total += a->heads * one.queries * one.keys;
    }
    for (int64_t b = 0; b < a->batch; b++) {
        st_attention one = sequence(a, b);
        int64_t blocks = st_ceil_div(one.queries, QUERIES), packed[2] = {0, 0}, owner = -1;
        for (int64_t item = 0; item < a->heads * blocks; item++) {
            int64_t h = item / blocks, i0 = one.queries * (item % blocks) / blocks, i1 = one.queries * (item % blocks + 1) / blocks;
            int mine = at >= total * part / parts && at < total * (part + 1) / parts;
            at += (i1 - i0) * one.keys;
            if (!mine)
                continue;
            if (owner != h / (a->heads / a->kv_heads))
                owner = h / (a->heads / a->kv_heads), packed[0] = packed[1] = 0;
            query_block(&one, &l, 0, h, i0, i1, packed);
        }
    }
}

void st_attention_f32(const st_attention *a, int part, int parts)
{
    if (a->ends) {
        ragged(a, part, parts);
        return;
    }
    layout l = lay_out(a->keys, a->dim, a->v_dim, st_align64(a->workspace));
    int64_t blocks = st_ceil_div(a->queries, QUERIES), items = a->batch * a->heads * blocks;
    int64_t packed[2] = {0, 0}, head = -1;
    for (int64_t item = items * part / parts; item < items * (part + 1) / parts; item++) {
        int64_t at = item % blocks, h = item / blocks % a->heads, b = item / blocks / a->heads;
        int64_t owner = b * a->kv_heads + h / (a->heads / a->kv_heads);
        if (owner != head)
            head = owner, packed[0] = packed[1] = 0;
        query_block(a, &l, b, h, a->queries * at / blocks, a->queries * (at + 1) / blocks, packed);
    }
}
