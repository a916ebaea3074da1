/* What tiles multiply in attention while vectors do something else. */
#ifndef STRATAC_KERNELS_ATTENTION_QUEUE_H
#define STRATAC_KERNELS_ATTENTION_QUEUE_H

#include "attention_work.h"

/* A product of tiles: so many steps of the depth, for columns from c on, a panel at a time. */
typedef struct sums {
    const char *a, *b;
    float *c;
    int64_t ld, columns, steps;
    int64_t skip; /* bytes from where one panel of b ends to where the next begins */
    int resume;
} sums;

/* What tiles do beside the weights of an item.  Q with the next item's keys comes first: those scores are read as soon as the next
 * turn begins, and what tiles have put down takes its time.  A few products at a time: tiles that wait for their turn hold up
 * whatever comes behind them. */
typedef struct queue {
    const char *a, *b;
    int64_t step, product; /* at hand: steps that are left, products of parts that are done */
    int64_t all, left;     /* products of parts of a step */
    float *end; /* sums that are to be put down, or NULL */
    int64_t end_ld, end_wide;
    sums now, then;
} queue;

#define LOAD_A(part) load_left(t, q->a + (part) * PART, tall)
#define LOAD_B(part) load_right(t, q->b + (part) * PART, wide)
SOFT_INLINE void load_left(tile_file *t, const char *a, int tall)
{
    tile_load(t, 4, a, 64);
    if (tall)
        tile_load(t, 5, a + 1024, 64);
}

SOFT_INLINE void load_right(tile_file *t, const char *b, int wide)
{
    tile_load(t, 6, b, 128);
    if (wide)
        tile_load(t, 7, b + 64, 128);
}

/* Of three parts: a1 b3, a1 b2, a2 b2, a2 b1, a3 b1, a1 b1; of two: a1 b2, a2 b1, a1 b1: few loads, and the greatest last. */
SOFT_INLINE void load_parts(tile_file *t, const queue *q, int parts, int tall, int wide)
{
    switch (q->product + (parts == 3 ? 0 : parts == 2 ? 6 : 9)) {
    case 0: LOAD_B(2); LOAD_A(0); break;
    case 1: LOAD_B(1); break;
    case 2: LOAD_A(1); break;
    case 3: LOAD_B(0); break;
    case 4: LOAD_A(2); break;
    case 5: LOAD_A(0); break;
    case 6: LOAD_B(1); LOAD_A(0); break;
    case 7: LOAD_B(0); LOAD_A(1); break;
    case 8: LOAD_A(0); break;
    default: LOAD_B(0); LOAD_A(0); break;
    }
}

/* The next product of parts.  Its tiles were loaded a turn ago and its sums are put down a turn later, lest any of them be waited for. */
SOFT_INLINE void advance_block(tile_file *t, queue *q, int parts, int tall, int wide)
{
    sums *s = &q->now;
    if (q->end) {
        block_end(t, q->end, q->end_ld, tall, q->end_wide);
        q->end = NULL;
    }
    if (q->step == s->steps && q->product == 0)
        block_begin(t, s->c, s->ld, s->resume, tall, wide);
    tile_dot(t, 0, 4, 6);
    if (tall)
        tile_dot(t, 2, 5, 6);
    if (wide)
        tile_dot(t, 1, 4, 7);
    if (tall && wide)
        tile_dot(t, 3, 5, 7);
    if (--q->left == 0) {
        block_end(t, s->c, s->ld, tall, wide);
        return;
    }
    if (++q->product == PRODUCTS(parts)) {
        q->product = 0;
        q->a += parts * PART;
        q->b += parts * PART;
        if (--q->step == 0) {
            q->end = s->c;
            q->end_ld = s->ld;
            q->end_wide = wide;
            s->c += WIDE;
            s->columns -= WIDE;
            s->b = q->b + s->skip;
            if (s->columns <= 0)
                *s = q->then;
            q->a = s->a;
            q->b = s->b;
            q->step = s->steps;
        }
    }
    load_parts(t, q, parts, tall, s->columns > 16);
}

/* The next product of parts of a queue that has one.  Out of line, so that the vectors' loop around it stays short. */
#define ADVANCE(parts)                                                                                                     \
    static __attribute__((noinline)) void advance_##parts(work *w, queue *q)                                               \
    {                                                                                                                      \
        const int wide = q->now.columns > 16;                                                                              \
        if (w->tall && wide)                                                                                               \
            advance_block(&w->tiles, q, parts, 1, 1);                                                                      \
        else                                                                                                               \
            advance_block(&w->tiles, q, parts, w->tall, wide);                                                             \
    }
ADVANCE(1)
ADVANCE(2)
ADVANCE(3)

/* So much of a queue that `done` of `of` equal shares of it are. */
SOFT_INLINE void progress(work *w, queue *q, int64_t done, int64_t of, int parts)
{
    while (q->left > 0 && (q->all - q->left) * of < q->all * done) {
        if (parts == 1)
            advance_1(w, q);
        else if (parts == 2)
            advance_2(w, q);
        else
            advance_3(w, q);
    }
}

SOFT_INLINE queue new_queue(work *w, const item *before, const item *next, int parts)
{
    queue q = {0};
    if (next->slot) {
        q.now.a = (const char *)w->q;
        q.now.b = (const char *)(w->k + next->from / WIDE * w->steps * parts * PART_WORDS);
        q.now.c = w->scores + next->turn * (ROWS * SCORE_LD);
        q.now.ld = SCORE_LD;
        q.now.columns = next->keys;
        q.now.steps = w->steps;
        q.all = st_ceil_div(next->keys, WIDE) * w->steps;
    }
    if (before->slot && before->live) {
        q.then.a = (const char *)(w->weights + before->turn * (KEYS / STEP * parts * PART_WORDS));
        q.then.b = (const char *)(w->v + before->from / STEP * parts * PART_WORDS);
        q.then.c = out_of(before->slot);
        q.then.ld = w->v_p;
        q.then.columns = w->v_p;
        q.then.steps = st_ceil_div(before->keys, STEP);
        q.then.skip = (w->chunk / STEP - q.then.steps) * parts * PART;
        q.then.resume = before->slot->begun;
        q.all += w->panels * q.then.steps;
        before->slot->begun = 1;
        if (!next->slot)
            q.now = q.then;
    }
    q.all *= PRODUCTS(parts);
    q.left = q.all;
    q.a = q.now.a;
    q.b = q.now.b;
    q.step = q.now.steps;
    if (q.left > 0)
        load_parts(&w->tiles, &q, parts, w->tall, q.now.columns > 16);
    return q;
}

#endif
