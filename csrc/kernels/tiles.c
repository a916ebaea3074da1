/* The blocked loop of the modes that multiply tiles: bf16, bf16x3 and bf16x6, and block floating point (tile_bfp.h).
 *
 * Operands are sums of one, two or three bf16 (`tiles`, the number of parts), sums are f32.  Of the products of parts those that
 * reach the mode's precision are taken, from the smallest on, so that nothing is lost to what is already there:
 *
 *   bf16x3  a1 b2, a2 b1, a1 b1                              bf16x6  a1 b3, a3 b1, a2 b2, a1 b2, a2 b1, a1 b1
 *
 * A block of C is 2 x 2 tiles.  The left operand's rows of a k-block are split ahead, all of those whose sums are kept, and go past
 * a panel of B from L2, the panel being in L1.  So B is read from memory once for all these rows, a panel ahead and evenly, since a core
 * reads hardly faster than it multiplies, and a few lines between any two loads of tiles: many at once take all the places where lines
 * that come wait, and the loads have to wait for one.  B in three parts would be half as large again as the floats they are parts of: it
 * is stored as floats, and the next panel is split while this one is multiplied.  So are the rows of the next block, a few at a time
 * between the panels, where the tile unit has work queued.  Sums grow by one step of 32 elements and one product of parts at a time, in
 * the order of k, whatever the blocks: neither tiles nor threads show in the bits.
 *
 * Complete sums go out while the next ones are computed, so that both the tile unit and what waits for memory have something to do: those
 * of a few columns, or, of few rows that need not be split again, of a whole block of columns while all of k passes by for the next one.
 *
 * Rows that are bf16 already (`narrow`) are tiles where they lie, if their depth is a whole number of steps; else they are copied.
 *
 * Where a part is not finite, infinities meet or zeros meet infinities that fp32 never sees.  A result of split operands that is
 * not finite is therefore taken again, as one chain of f32 multiply-adds over k.
 */
#include "tile_out.h"

#define KEPT_ROWS 256         /* rows and columns of sums kept while k is blocked ... */
#define KEPT_COLUMNS 512
#define FEW_ROWS 128          /* ... or, with at most this many rows, fewer rows and more columns */
#define MORE_COLUMNS 1024
#define NEAR_COLUMNS 256      /* ... or, with at most so many elements of rows in place, which stay in L2 while all of B passes by, ... */
#define NEAR_ELEMENTS (1 << 19) /* ... fewer columns: their sums stay nearer */
#define LATE_COLUMNS GROUP    /* ... or, where they go out late, twice so many columns */
#define DIRECT_COLUMNS 256    /* with ST_DIRECT_ROWS */
#define SHARED_BLOCKS 4       /* of k, where parts share rows */
#define NEAR_WORDS (1 << 17)  /* of B: they stay in L2 */
#define BFP_FLOATS (2 * 4 * 256 + 768) /* sums of two tiles by weight, and a row of a k-block (k_most) without its spikes */

/* Elements of k whose parts of 32 rows and of a panel of B are 18 to 24 KiB each.  Of bytes a panel of B is 36 KiB, and has most of L1:
 * rows pass by. */
static int64_t k_most(int parts)
{
    const int64_t most[] = {0, 320, 160, 96, 768, 768};
    return most[parts];
}

static int64_t k_block(int64_t k, int parts)
{
    const int64_t blocks = ST_MAX(st_ceil_div(k, k_most(parts)), 1), depth = depth_of(parts);
    return ST_MAX(st_round_up(st_ceil_div(k, blocks), depth), depth);
}

/* The same, or less, for m rows: few wait for B, and in one or two parts are the faster the more of L1 is left to it. */
static int64_t k_block_of(int64_t m, int64_t k, int parts)
{
    const int64_t few = parts == 1 ? 192 : 128;
    const int shorter = parts <= 2 && m <= FEW_ROWS && k > k_most(parts);
    return shorter ? st_round_up(st_ceil_div(k, st_ceil_div(k, few)), TILE_DEPTH) : k_block(k, parts);
}

int64_t st_tiles_words(int64_t k, int parts)
{
    return COLUMNS / columns_of(parts) * panel_words(bfp_slices(parts) ? ST_MAX(k, (int64_t)1) : k, k_block(k, parts), parts);
}

/* Rows that are split ahead; it grows with m. */
static int64_t rows_kept(int64_t m) { return ST_MIN(st_round_up(m, ROWS), (int64_t)(m <= FEW_ROWS ? FEW_ROWS : KEPT_ROWS)); }

/* Row tiles in each of two buffers: an even number, so that both have room for half of them in SHARED_BLOCKS blocks of k. */
static int64_t tiles_kept(int64_t m) { return st_round_up(rows_kept(m) / ROWS, 2); }

/* Sums that are kept for at most this many rows and columns; it grows with both. */
static int64_t sums_kept(int64_t m, int64_t n)
{
    const int64_t rows = st_round_up(m, ROWS), columns = st_round_up(n, GROUP);
    const int64_t few = ST_MIN(rows, (int64_t)FEW_ROWS) * ST_MIN(columns, (int64_t)MORE_COLUMNS);
    return m <= FEW_ROWS ? few : ST_MAX(few, ST_MIN(rows, (int64_t)KEPT_ROWS) * ST_MIN(columns, (int64_t)KEPT_COLUMNS));
}

int64_t st_tiles_floats(int64_t m, int64_t n, int64_t k, int parts)
{
    const int64_t kc = k_block(k, parts), tile = split_words(kc, parts), sums = k > kc ? sums_kept(m, n) : rows_kept(m) * 2 * GROUP;
    return 2 * tiles_kept(m) * tile + (parts == WHOLE ? 2 * tile : 0) + ST_MR * (kc + ST_PAD) + sums +
           (bfp_slices(parts) ? BFP_FLOATS : 0);
}

int64_t st_tiles_direct_floats(int64_t n, int64_t k, int parts)
{
    const int64_t kc = k_block(k, parts), columns = k > kc ? ST_MIN(st_round_up(n, GROUP), (int64_t)DIRECT_COLUMNS) : 2 * GROUP;
    return (parts == WHOLE ? 2 * split_words(kc, parts) : 0) + ST_MR * (kc + ST_PAD) + ST_DIRECT_ROWS * columns;
}

/* The same of a left operand of bf16. */
static const char *narrow_of(const run *u, int64_t row, int64_t rows, int64_t k, int64_t count, int64_t *bytes)
{
    const st_product *p = u->p;
    if (!p->fill) {
        *bytes = 2 * p->a_row;
        return (const char *)(p->narrow + row * p->a_row + k);
    }
    *bytes = 4 * (u->kc + ST_PAD);
    p->fill(p->fill_ctx, row, rows, k, count, u->copy, u->kc + ST_PAD);
    return (const char *)u->copy;
}

/* Rows of a k-block of the left operand in parts, on their way: for every 32 rows, for each step of k, for each part, ROWS rows of
 * 64 bytes. */
typedef struct rows_split {
    int64_t row, rows, k0, count; /* where they start; how many there are */
    int64_t share;                /* rows at a time */
    int64_t done;
    float *to;
} rows_split;

BLOCK_INLINE void split_row(const float *from, int64_t count, char *to, const int parts)
{
    for (; count > 0; count -= TILE_DEPTH, from += TILE_DEPTH, to += parts * PART)
        tile_split(from, count, parts, to, PART);
}

/* The next rows of bf16, as they are; those that are read in place are fetched. */
static void move_rows(const run *u, const rows_split *s, int64_t rows)
{
    int64_t bytes;
    const char *from = narrow_of(u, s->row + s->done, rows, s->k0, s->count, &bytes);
    for (int64_t row = s->done; row < s->done + rows; row++, from += bytes) {
        if (u->in_place) {
            block_fetch(from, 2 * s->count);
            continue;
        }
        char *to = (char *)(s->to + row / ROWS * u->tile) + row % ROWS * 64;
        for (int64_t k = 0; k < s->count; k += TILE_DEPTH, to += PART)
            block_copy(from + 2 * k, s->count - k, to);
    }
}

/* The next `share` rows. */
static void split_rows(const run *u, rows_split *s)
{
    const st_product *p = u->p;
    const int parts = p->tiles, slices = bfp_slices(parts);
    const int64_t end = ST_MIN(s->done + s->share, s->rows);
    while (s->done < end) {
        const int64_t rows = ST_MIN(end - s->done, (int64_t)ST_MR);
        int64_t ld;
        if (p->narrow) {
            move_rows(u, s, rows);
            s->done += rows;
            continue;
        }
        const float *from = floats_of(u, s->row + s->done, rows, s->k0, s->count, &ld);
        for (int64_t i = 0; i < rows; i++, from += ld) {
            const int64_t row = s->done + i;
            float *tile = s->to + row / ROWS * u->tile;
            if (slices) {
                bfp_notes *notes = (bfp_notes *)(void *)(tile + u->tile) - ROWS + row % ROWS;
                bfp_split(from, s->count, (char *)tile + row % ROWS / 16 * u->half + row % 16 * 64, notes, u->rest, slices);
                continue;
            }
            char *to = (char *)tile + row % ROWS * 64;
            if (parts == 1)
                split_row(from, s->count, to, 1);
            else if (parts == 2)
                split_row(from, s->count, to, 2);
            else
                split_row(from, s->count, to, 3);
        }
        s->done += rows;
    }
}

/* Where number `tile` of the row tiles that a part splits for all lies. */
static int64_t shared_words(const run *u, int64_t tile, int64_t k0)
{
    return (tile * ST_MAX(st_ceil_div(u->p->k, u->kc), (int64_t)1) + k0 / u->kc) * u->tile;
}

const st_shared *st_tiles_shared(const st_slice *s, int64_t k, int tiles, int64_t step, st_shared *to)
{
    const int64_t rows = s->m1 - s->m0;
    if (!step || s->across < 2 || rows <= ROWS || rows > KEPT_ROWS || st_ceil_div(k, k_block_of(rows, k, tiles)) > SHARED_BLOCKS)
        return NULL;
    *to = (st_shared){s->at, s->across, step / 4};
    return to;
}

static block block_at(const run *u, int64_t i, int64_t j, int64_t k0)
{
    const st_product *p = u->p;
    const int few = p->m1 - p->m0 <= FEW_ROWS;
    const int near = u->in_place && (p->m1 - p->m0) * p->k <= NEAR_ELEMENTS;
    const int64_t most = u->late.on ? LATE_COLUMNS : near ? NEAR_COLUMNS : few ? MORE_COLUMNS : p->planes ? DIRECT_COLUMNS : KEPT_COLUMNS;
    const int64_t columns = u->kc >= p->k ? p->n1 - p->n0 : most;
    const int64_t rows = few ? FEW_ROWS : p->planes ? ST_DIRECT_ROWS : KEPT_ROWS;
    return (block){i, ST_MIN(rows, p->m1 - i), j, ST_MIN(columns, p->n1 - j), k0, ST_MIN(u->kc, p->k - k0)};
}

/* Whether blocks of columns go out late: few rows, which need not be split again for fewer columns, and several blocks both of these and
 * of k. */
static int goes_late(const run *u)
{
    const st_product *p = u->p;
    return p->m1 - p->m0 <= FEW_ROWS && !p->planes && (u->in_place || p->shared) && u->kc < p->k && p->n1 - p->n0 > LATE_COLUMNS;
}

/* Where the row tiles of a block lie: at `split`, or shared out. */
static void place_rows(run *u, const block *b, const float *split)
{
    const st_shared *s = u->p->shared;
    const int64_t tiles = st_ceil_div(b->rows, ROWS);
    for (int64_t r = 0; r < tiles && !s && !u->p->planes; r++)
        u->rows[r] = split + r * u->tile;
    for (int64_t part = 0; s && part < s->parts; part++) {
        const float *workspace = u->p->workspace + (part - s->part) * s->step;
        const int64_t first = tiles * part / s->parts;
        for (int64_t r = first; r < tiles * (part + 1) / s->parts; r++)
            u->rows[r] = workspace + shared_words(u, r - first, b->k0);
    }
}

/* The block behind this one, k first and columns last; one without rows behind the last. */
static block block_after(const run *u, const block *b)
{
    const st_product *p = u->p;
    if (b->k0 + b->count < p->k)
        return block_at(u, b->i, b->j, b->k0 + b->count);
    if (b->i + b->rows < p->m1)
        return block_at(u, b->i + b->rows, b->j, 0);
    if (b->j + b->cols < p->n1)
        return block_at(u, p->m0, b->j + b->cols, 0);
    return (block){0};
}

/* Panel q of a block as it is stored, or, counting on, of the block behind it; NULL if that has not so many. */
static const float *stored_panel(const run *u, const block *b, const block *after, int64_t panels, int64_t q)
{
    if (q >= panels) {
        q -= panels;
        b = after;
        if (!b->rows || q * u->columns >= b->cols)
            return NULL;
    }
    return u->p->b + (b->j / u->columns + q) * u->panel + panel_words(b->k0, u->kc, u->p->tiles);
}

/* One panel of one row tile: where both lie, where its sums go, and which rows and elements of k they are. */
typedef struct piece {
    const float *split;
    const char *panel;
    float *sums;
    int64_t row, rows, k0, steps;
} piece;

static inline void parts_panel(run *u, const piece *c, int wide, const beside *x)
{
    const st_product *p = u->p;
    const st_planes *planes = p->planes;
    const int where = planes ? PLANES : u->in_place ? IN_PLACE : SPLIT;
    const left l = planes        ? (left){planes->at + c->row * planes->row, planes->steps + c->k0 / TILE_DEPTH, planes->part, planes->row}
                   : u->in_place ? (left){.a = (const char *)(p->narrow + c->row * p->a_row + c->k0), .row = 2 * p->a_row}
                                 : (left){.a = (const char *)c->split};
    if (u->configured != c->rows)
        block_configure(&u->tiles, u->configured = c->rows);
    panel_of[p->tiles - 1][where][2 * (c->rows > 16) + wide](&u->tiles, &l, c->panel, c->steps, c->sums, c->k0 > 0, x);
}

/* In block floating point, 16 rows at a time. */
static inline void bfp_panel(run *u, const piece *c, const beside *x)
{
    const bfp_notes *notes = (const bfp_notes *)(const void *)(c->split + u->tile) - ROWS;
    const int64_t lines = st_ceil_div(x->lines, c->rows > 16 ? 2 : 1);
    const int slices = bfp_slices(u->p->tiles);
    const char *fetch = x->fetch;
    for (int64_t row = 0; row < c->rows; row += 16, fetch += lines * c->steps * 64) {
        int32_t *weights = u->weights;
        (slices == 3 ? bfp_multiply_3 : bfp_multiply_2)(&u->tiles, (const char *)c->split + row / 16 * u->half, c->panel, c->steps, weights,
                                                        &u->pending, GROUP, fetch, lines);
        u->pending = (bfp_sums){.at = weights, .c = c->sums + row * GROUP, .notes = notes + row, .b = c->panel, .steps = c->steps,
                                .slices = slices, .rows = (int)ST_MIN(c->rows - row, (int64_t)16), .resume = c->k0 > 0};
        u->weights = u->other_weights;
        u->other_weights = weights;
    }
}

/* Which row tile is next, past panel q.  Few rows, and those whose last tile is not full, go there and back: so that tile needs its own
 * configuration once in two panels, not once in each, and the rows that were last are still in L1. */
static inline int64_t row_tile(const block *b, int64_t tiles, int64_t q, int64_t turn)
{
    const int back = q % 2 && (b->rows <= FEW_ROWS || b->rows % ROWS);
    return back ? tiles - 1 - turn : turn;
}

/* Sums are kept by row tiles, of each GROUP after GROUP of columns; two GROUPs, in turn, where k is one block. */
static void run_block(run *u, const block *b, const block *after, rows_split *next)
{
    const int parts = u->p->tiles, keep = u->kc < u->p->k, last = b->k0 + b->count >= u->p->k, whole = parts == WHOLE;
    const int64_t steps = st_ceil_div(b->count, depth_of(parts)), panels = st_ceil_div(b->cols, u->columns);
    const int64_t tiles = st_ceil_div(b->rows, ROWS);
    const int64_t row_sums = (keep ? st_ceil_div(b->cols, GROUP) : 2) * ROWS * GROUP;
    const int64_t share = st_ceil_div(b->rows, tiles * (GROUP / u->columns));
    const int later = u->late.on && after->rows > 0; /* this block goes out */
    float *const sums_at = u->sums + u->late.turn;
    /* Per step and per product of parts, of the next panel.  Floats are read in order, so half is enough: the processor fetches the
     * rest. */
    const int64_t shares = tiles * ST_MAX(steps, (int64_t)1), most = u->kc / depth_of(parts);
    const int64_t lines = st_ceil_div(most * step_words(parts) / (whole ? 32 : 16), shares);
    const int64_t pairs = st_ceil_div(most * STEP_PAIRS, shares * PRODUCTS);
    finished out = {0};
    for (int64_t q = 0; q < panels; q++) {
        const int64_t column = q * u->columns, from = column / GROUP * GROUP;
        const float *panel = whole ? u->parts[0] : stored_panel(u, b, after, panels, q);
        const float *floats = whole ? stored_panel(u, b, after, panels, q + 1) : NULL;
        const char *ahead = (const char *)stored_panel(u, b, after, panels, q + 2);
        beside x = {ahead, ahead ? lines : 0, floats, u->parts[1], 0, pairs,
                    floats ? (q + 1 < panels ? steps : st_ceil_div(after->count, TILE_DEPTH)) * STEP_PAIRS : 0};
        float *group = sums_at + (keep ? column / GROUP : column / GROUP % 2) * ROWS * GROUP;
        for (int64_t turn = 0; turn < tiles; turn++) {
            const int64_t r = row_tile(b, tiles, q, turn), rows = ST_MIN((int64_t)ROWS, b->rows - r * ROWS);
            float *sums = group + r * row_sums + column - from;
            const piece c = {u->rows[r], (const char *)panel, sums, b->i + r * ROWS, rows, b->k0, steps};
            if (bfp_slices(parts))
                bfp_panel(u, &c, &x);
            else
                parts_panel(u, &c, b->cols - column > 16, &x);
            x.fetch += x.lines * steps * 64;
            x.pair += pairs * steps * PRODUCTS;
            if (next->done < next->rows)
                split_rows(u, next);
            if (out.row < out.rows)
                hand_over(u, b, &out, share, row_sums);
            if (u->late.on)
                hand_late(u, u->late.share);
        }
        if (last && !later && ((column + u->columns) % GROUP == 0 || q + 1 == panels)) {
            bfp_end(&u->pending, GROUP);
            while (out.row < out.rows)
                hand_over(u, b, &out, ROWS, row_sums);
            out = (finished){b->j + from, ST_MIN(b->cols - from, (int64_t)GROUP), 0, b->rows, group};
        }
        float *swap = u->parts[0];
        u->parts[0] = u->parts[1];
        u->parts[1] = swap;
    }
    bfp_end(&u->pending, GROUP);
    while (out.row < out.rows)
        hand_over(u, b, &out, ROWS, row_sums);
    while (last && u->late.group.row < u->late.group.rows)
        hand_late(u, ROWS);
    if (last && later)
        begin_late(u, b, after, sums_at, row_sums);
}

/* The same in one or two parts where k is one block: panels of a GROUP for 32 rows, whose sums are handed over next and so never leave
 * L1.  Once B is in L2, the rows are completed: memory is then read and written in longer stretches. */
static void run_rows(run *u, const block *b, const block *after, rows_split *next)
{
    const int64_t most = GROUP / COLUMNS, steps = st_ceil_div(b->count, TILE_DEPTH), panels = st_ceil_div(b->cols, COLUMNS);
    const int64_t tiles = st_ceil_div(b->rows, ROWS), groups = st_ceil_div(panels, most);
    const int64_t lines = st_ceil_div(steps * u->p->tiles * PART / 64, tiles * ST_MAX(steps, (int64_t)1));
    const int near = panels * u->panel <= NEAR_WORDS && b->i > u->p->m0;
    finished out = {0};
    float *sums = u->sums;
    for (int64_t i = 0; i < tiles * groups; i++) {
        const int64_t g = near ? i % groups : i / tiles, r = near ? i / groups : row_tile(b, tiles, g, i % tiles);
        const int64_t first = panels * g / groups, here = panels * (g + 1) / groups - first, column = first * COLUMNS;
        for (int64_t q = first; q < first + here; q++) {
            const char *ahead = near ? NULL : (const char *)stored_panel(u, b, after, panels, q + most);
            const beside x = {.fetch = ahead ? ahead + r * lines * steps * 64 : NULL, .lines = ahead ? lines : 0};
            const piece c = {u->rows[r], (const char *)stored_panel(u, b, after, panels, q), sums + (q - first) * COLUMNS,
                             b->i + r * ROWS, ST_MIN((int64_t)ROWS, b->rows - r * ROWS), 0, steps};
            parts_panel(u, &c, b->cols - q * COLUMNS > 16, &x);
            if (next->done < next->rows)
                split_rows(u, next);
            if (out.row < out.rows)
                hand_over(u, b, &out, st_ceil_div(ROWS, here), 0);
        }
        out = (finished){b->j + column, ST_MIN(b->cols - column, here * COLUMNS), r * ROWS, ST_MIN((r + 1) * ROWS, b->rows), sums};
        sums = sums == u->sums ? u->sums + ROWS * GROUP : u->sums;
    }
    while (out.row < out.rows)
        hand_over(u, b, &out, ROWS, 0);
}

static run run_of(const st_product *p)
{
    run u = {.p = p, .kc = k_block_of(p->m1 - p->m0, p->k, p->tiles), .columns = columns_of(p->tiles)};
    u.in_place = p->narrow && !p->planes && !p->fill && p->k % TILE_DEPTH == 0;
    u.tile = split_words(u.kc, p->tiles);
    u.half = u.kc / BFP_DEPTH * bfp_slices(p->tiles) * BFP_SLICE;
    u.panel = st_tiles_words(p->k, p->tiles) / (COLUMNS / u.columns);
    u.parts[0] = p->workspace + (p->planes ? 0 : 2 * tiles_kept(p->m1 - p->m0) * u.tile);
    u.parts[1] = u.parts[0] + (p->tiles == WHOLE ? u.tile : 0);
    u.copy = u.parts[1] + (p->tiles == WHOLE ? u.tile : 0);
    u.weights = (int32_t *)(void *)u.copy;
    u.other_weights = u.weights + 4 * 256;
    u.rest = u.copy + 2 * 4 * 256;
    u.copy += bfp_slices(p->tiles) ? BFP_FLOATS : 0;
    u.sums = u.copy + ST_MR * (u.kc + ST_PAD);
    return u;
}

void st_tiles_rows(const st_product *p)
{
    const st_shared *s = p->shared;
    if (!s)
        return;
    const run u = run_of(p);
    const int64_t tiles = st_ceil_div(p->m1 - p->m0, ROWS), first = tiles * s->part / s->parts;
    for (int64_t r = first; r < tiles * (s->part + 1) / s->parts; r++)
        for (int64_t k0 = 0; !k0 || k0 < p->k; k0 += u.kc) { /* a block without elements of k has notes, too */
            const int64_t row = p->m0 + r * ROWS;
            rows_split own = {.row = row, .rows = ST_MIN((int64_t)ROWS, p->m1 - row), .k0 = k0, .count = ST_MIN(u.kc, p->k - k0), .share = ROWS};
            own.to = p->workspace + shared_words(&u, r - first, k0);
            split_rows(&u, &own);
        }
}

void st_tiles_run(const st_product *p)
{
    if (p->m1 <= p->m0 || p->n1 <= p->n0)
        return;
    run u = run_of(p);
    float *split = p->workspace, *other = split + tiles_kept(p->m1 - p->m0) * u.tile;
    const int here = !p->planes && !p->shared; /* rows are split */
    u.late = (late){.on = goes_late(&u), .room = st_round_up(p->m1 - p->m0, ROWS) * LATE_COLUMNS};
    if (bfp_slices(p->tiles))
        bfp_configure(&u.tiles);
    block b = block_at(&u, p->m0, p->n0, 0);
    rows_split first = {.row = b.i, .rows = here && !u.in_place ? b.rows : 0, .k0 = b.k0, .count = b.count, .share = b.rows, .to = split};
    split_rows(&u, &first);
    if (p->tiles == WHOLE)
        split_pairs(stored_panel(&u, &b, &b, 1, 0), u.parts[0], 0, st_ceil_div(b.count, TILE_DEPTH) * STEP_PAIRS);
    const int by_rows = p->tiles < WHOLE && u.kc >= p->k && p->n1 - p->n0 > ST_MAX(p->k / 2, (int64_t)COLUMNS); /* sums, not rows */
    while (b.rows) { /* a block without elements of k is one, too */
        const block after = block_after(&u, &b);
        const int same = after.i == b.i && after.k0 == b.k0; /* rows */
        const int64_t calls = st_ceil_div(b.cols, u.columns) * st_ceil_div(b.rows, ROWS);
        const int known = same || !here || (u.in_place && after.j > p->n0); /* rows in place are fetched once, beside the first columns */
        rows_split next = {.row = after.i, .rows = known ? 0 : after.rows, .k0 = after.k0, .count = after.count, .to = other};
        next.share = st_round_up(ST_MAX(st_ceil_div(next.rows, calls), (int64_t)2), ST_MAX(p->together, (int64_t)1));
        place_rows(&u, &b, split);
        (by_rows ? run_rows : run_block)(&u, &b, &after, &next);
        if (!same) {
            float *swap = split;
            split = other;
            other = swap;
        }
        b = after;
    }
    tile_release(&u.tiles);
}
