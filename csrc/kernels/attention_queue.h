/* What tiles multiply in attention while vectors do something else. */
#ifndef STRATAC_KERNELS_ATTENTION_QUEUE_H
#define STRATAC_KERNELS_ATTENTION_QUEUE_H

#include "attention_work.h"

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
    const int64_t at = (second ? q->panel - q->panels : q->panel) * WIDE, ld = second ? SCORE_LD : w->v_p;
    const int wide = (second ? q->keys : w->v_p) - at > 16;
    float *c = (second ? q->scores : q->out) + at;
    if (q->step == 0 && q->product == 0) {
        q->a = (const char *)(second ? w->q : q->weights);
        q->b = (const char *)(second ? q->k + at / WIDE * w->steps * parts * PART_WORDS : q->v + at * w->chunk / 2 * parts);
        block_begin(t, c, ld, !second && q->resume, tall, wide);
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
    block_end(t, c, ld, tall, wide);
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

#endif
