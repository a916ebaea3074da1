/* What attention in f32 and on tiles share: the rows that share a key/value head, cut into blocks, and who computes which.
 *
 * Row r of a key/value head is query r % queries of the r / queries-th head of its group.
 */
#ifndef STRATAC_KERNELS_ATTEND_H
#define STRATAC_KERNELS_ATTEND_H

#include "tile.h"

#define ATTEND_HIDDEN (-1000.0f) /* a mask value up to which a key is worth proving useless */

/* Rows [row, row + rows) of those that share key/value head `owner` of batch `batch`. */
typedef struct block {
    int64_t batch, owner, row, rows;
} block;

/* A stretch of a block's rows that belong to one head. */
typedef struct stretch {
    int64_t at, rows, head, query; /* the first of the block's rows, how many, and what it is */
} stretch;

static inline int64_t rows_of(const st_attention *a) { return a->heads / a->kv_heads * a->queries; }

static inline int next_stretch(const st_attention *a, const block *b, stretch *s)
{
    s->at += s->rows;
    if (s->at >= b->rows)
        return 0;
    int64_t row = b->row + s->at;
    s->head = b->owner * (a->heads / a->kv_heads) + row / a->queries;
    s->query = row % a->queries;
    s->rows = ST_MIN(b->rows - s->at, a->queries - s->query);
    return 1;
}

/* Keys that a query sees. */
static inline int64_t visible(const st_attention *a, int64_t query)
{
    return a->causal ? ST_MAX(ST_MIN(query + a->keys - a->queries + 1, a->keys), (int64_t)0) : a->keys;
}

/* Sequence b of those that lie one after the other, as a batch of its own. */
static inline st_attention sequence(const st_attention *a, int64_t b)
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

/* Blocks [first, first + count) of those that the rows of one key/value head are cut into. */
typedef void (*blocks_fn)(const st_attention *a, int64_t batch, int64_t owner, int64_t first, int64_t count);

static inline int64_t blocks_of(const st_attention *a, int64_t most) { return st_ceil_div(rows_of(a), most); }

/* The work is shared out by the scores of each block; every part walks all sequences, which are few. */
static inline void share_sequences(const st_attention *a, int64_t most, int part, int parts, blocks_fn run)
{
    int64_t total = 0, at = 0;
    for (int64_t b = 0; b < a->batch; b++) {
        const st_attention one = sequence(a, b);
        total += a->heads * one.queries * one.keys;
    }
    const int64_t begins = total * part / parts, ends = total * (part + 1) / parts;
    for (int64_t b = 0; b < a->batch; b++) {
        const st_attention one = sequence(a, b);
        const int64_t rows = rows_of(&one), blocks = blocks_of(&one, most);
        for (int64_t owner = 0; owner < a->kv_heads; owner++) {
            int64_t first = 0, count = 0;
            for (int64_t n = 0; n < blocks; n++) {
                if (at >= begins && at < ends)
                    first = count++ ? first : n;
                at += (rows * (n + 1) / blocks - rows * n / blocks) * one.keys;
            }
            if (count > 0)
                run(&one, 0, owner, first, count);
        }
    }
}

/* A part's share of all blocks, each of at most so many rows: one call for each key/value head it has any of. */
static inline void share_blocks(const st_attention *a, int64_t most, int part, int parts, blocks_fn run)
{
    if (a->ends) {
        share_sequences(a, most, part, parts, run);
        return;
    }
    const int64_t blocks = blocks_of(a, most), items = a->batch * a->kv_heads * blocks, end = items * (part + 1) / parts;
    for (int64_t item = items * part / parts, count; item < end; item += count) {
        const int64_t owner = item / blocks, first = item % blocks;
        count = ST_MIN(blocks - first, end - item);
        run(a, owner / a->kv_heads, owner % a->kv_heads, first, count);
    }
}

#endif
