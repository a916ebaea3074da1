/* The blocked loop around the register tile: columns, then row blocks, then k blocks, then row tiles, then panels.
 *
 * A block of ST_NB columns by a k-block stays in L2 while all row tiles pass over it; a row tile's stretch of A stays in L1
 * while it passes over the panels.  Where k fits one block the finished tile is handed over at once, still in L1;
 * otherwise ST_MB rows of accumulators are parked between k-blocks.
 */
#include "tile.h"

static int64_t k_block(int64_t k, int64_t most)
{
    return k <= most ? ST_MAX(st_round_up(k, 16), 16) : st_round_up(st_ceil_div(k, st_ceil_div(k, ST_KC_MANY)), ST_CHAIN);
}

/* Accumulators that are kept: those of a tile, or of all rows of a block; of few rows more columns (ST_SHORT). */
static int64_t parked_floats(int64_t m, int64_t k)
{
    const int64_t rows = k <= ST_KC_MANY ? ST_MR : ST_MIN(st_round_up(m, ST_MR), (int64_t)ST_MB);
    return ST_MAX(rows * ST_NB, (int64_t)ST_SHORT);
}

int64_t st_product_floats(int64_t m, int64_t k, int b_packed)
{
    int64_t kc = k_block(k, ST_KC); /* the most there is */
    return ST_MR * (kc + ST_PAD) + parked_floats(m, k) + (b_packed ? 0 : kc * ST_NB);
}

/* Rows a multiple of 4 KiB apart all fall into the same L1 set (8 to 12 ways), so a tile of them evicts itself. */
static int rows_collide(int64_t stride, int64_t rows) { return rows > 6 && stride % 1024 == 0; }

static void copy_rows(const float *a, int64_t a_row, int64_t rows, int64_t count, float *out, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *from = a + i * a_row;
        float *to = out + i * ld;
        int64_t j = 0;
        for (; j + VL <= count; j += VL)
            vf_store(to + j, vf_load(from + j));
        vf_store_n(to + j, vf_load_n(from + j, count - j), count - j);
    }
}

#define FETCHED 32 /* lines of A that a panel's multiply-adds hide the way of from L2 to L1 */

/* What is brought into L2, a stretch per panel, while a tile computes: the rows of A the next tile will want, and of each panel of
 * the block of packed B that comes after this one the share from..to.  For a lone tile of rows, which reads B once: the panel it
 * wants next, at the rate at which it reads this one. */
typedef struct ahead {
    const float *a;
    int64_t a_row, rows, count;
    const char *b;
    int64_t panel, panels, from, to; /* in bytes; no panels: nothing */
    int lone;
} ahead;

/* Short rows into L1, with every panel, a ragged one too; long ones into L2. */
static void fetch(const ahead *next, int64_t piece, int64_t full, int64_t panels)
{
    const int near = next->rows * st_ceil_div(next->count, 16) <= FETCHED * panels;
    const int64_t pieces = near ? panels : full;
    if (next->rows == 0 || piece >= pieces)
        return;
    const int64_t to = next->rows * (piece + 1) / pieces;
    for (int64_t i = next->rows * piece / pieces; i < to; i++) {
        const float *row = next->a + i * next->a_row;
        for (int64_t j = 0; j < next->count; j += 16)
            near ? __builtin_prefetch(row + j, 0, 3) : __builtin_prefetch(row + j, 0, 2);
    }
}

/* Every k costs the products of many rows a hundredth; a few tiles of rows are over before every fourth has brought it all. */
static void fetch_b(st_left *left, const ahead *next, const float *b, int64_t panel, int64_t panels, int64_t q)
{
    const int64_t k = ST_MAX(left->runs * left->length, (int64_t)1), full = 4 * ST_PANEL, bytes = next->to - next->from;
    left->ahead = (const char *)left->a;
    left->pace = 0;
    left->eager = next->lone || 4 * bytes > full * k;
    if (next->lone && q + 1 < panels) {
        left->ahead = (const char *)(b + (q + 1) * panel);
        left->pace = full;
    } else if (next->lone ? next->panels > 0 : q < next->panels) {
        left->ahead = next->b + (next->lone ? 0 : q * next->panel + next->from);
        left->pace = ST_MIN(full, st_ceil_div(bytes, left->eager ? k : ST_MAX(k / 4, (int64_t)1)));
    }
}

/* The block after that of columns [j, j + cols) and of k from k0: its first tile of rows would wait for memory, which takes as long
 * as all tiles of a block do.  So it comes while the tiles of this one compute, those of rows [start, end); now [r, r + mr). */
static void block_ahead(const st_product *p, ahead *next, int64_t j, int64_t cols, int64_t nb, int64_t k0, int64_t kc, int64_t start,
                        int64_t r, int64_t mr, int64_t end)
{
    k0 += kc;
    if (k0 >= p->k) {
        j += cols, k0 = 0;
        if (end < p->m1 || j >= p->n1)
            return; /* these columns again, or no more */
        cols = ST_MIN(nb, p->n1 - j);
    }
    const int64_t panel = p->b_panel ? p->b_panel : p->k * ST_PANEL, bytes = ST_MIN(kc, p->k - k0) * ST_PANEL * 4;
    next->b = (const char *)(p->b + j / ST_PANEL * panel + k0 * ST_PANEL);
    next->panel = 4 * panel;
    next->panels = st_ceil_div(cols, ST_PANEL);
    next->from = bytes * (r - start) / (end - start);
    next->to = bytes * (r + mr - start) / (end - start);
}

/* The target, if any, of the panels from q on. */
static void target_at(const st_target *whole, int64_t q, st_target *at)
{
    if (!whole)
        return;
    const int64_t col = q * ST_PANEL;
    *at = *whole;
    at->c += col, at->columns -= col;
    if (at->bias)
        at->bias += col;
    if (at->add)
        at->add += col;
}

/* One row tile over all panels of the block.  The last panel, if ragged, goes to `edge`. */
static void tile_row(const st_micro_fn *micro, int64_t mr, st_left *left, const float *b, int64_t ldb, int64_t panel, int64_t cols,
                     float *c, int64_t ldc, float *edge, int64_t edge_ld, int resume, const ahead *next, const st_target *target)
{
    st_target at;
    left->target = target ? &at : NULL;
    int64_t full = cols / ST_PANEL, over = cols % ST_PANEL, panels = full + (over > 0), q = 0;
    left->ahead = (const char *)left->a;
    left->pace = 0;
    if (mr <= ST_WIDE4)
        for (; q + 4 <= full; q += 4) {
            target_at(target, q, &at);
            micro[ST_FOUR](left, b + q * panel, ldb, panel, c + q * ST_PANEL, ldc, resume);
        }
    if (mr <= ST_WIDE2)
        for (; q + 2 <= full; q += 2) {
            target_at(target, q, &at);
            micro[ST_TWO](left, b + q * panel, ldb, panel, c + q * ST_PANEL, ldc, resume);
        }
    for (; q < full; q++) {
        fetch(next, q, full, panels);
        fetch_b(left, next, b, panel, panels, q);
        target_at(target, q, &at);
        micro[ST_ONE](left, b + q * panel, ldb, panel, c + q * ST_PANEL, ldc, resume);
    }
    if (over) {
        fetch(next, q, full, panels);
        fetch_b(left, next, b, panel, panels, q);
        target_at(target, q, &at);
        micro[over <= VL ? ST_HALF : ST_ONE](left, b + q * panel, ldb, panel, edge, edge_ld, resume);
    }
}

/* Rows of the tile that starts at r: the rows left, up to the end of the image row if that matters, in equal shares. */
static int64_t tile_rows(const st_product *p, int64_t r, int64_t end)
{
    if (p->period)
        end = ST_MIN(end, (r / p->period + 1) * p->period);
    return st_ceil_div(end - r, st_ceil_div(end - r, ST_MR));
}

/* Find, copy or compute the left operand's rows [r, r+mr) x [k0, k0+count). */
static st_left left_rows(const st_product *p, int64_t r, int64_t mr, int64_t k0, int64_t count, float *copy, int64_t copy_ld)
{
    st_left left = {.a = copy, .row = copy_ld, .runs = 1, .length = count, .jump = count};
    if (p->place && p->place(p->fill_ctx, r, mr, k0, count, &left))
        return left;
    if (p->fill) {
        p->fill(p->fill_ctx, r, mr, k0, count, copy, copy_ld);
    } else if (rows_collide(p->a_row, mr)) {
        copy_rows(p->a + r * p->a_row + k0, p->a_row, mr, count, copy, copy_ld);
    } else {
        left.a = p->a + r * p->a_row + k0;
        left.row = p->a_row;
    }
    return left;
}

/* Accumulators of quads begin at `shift` times the sums of the columns, which stand behind each panel. */
static void begin_tile(const st_product *p, int64_t j, int64_t panel, int64_t mr, int64_t cols, float *c, int64_t ldc, float *edge,
                       int64_t edge_ld)
{
    const float *sums = p->b + j / ST_PANEL * panel + p->k * ST_PANEL;
    const int64_t whole = cols / ST_PANEL * ST_PANEL;
    for (int64_t i = 0; i < cols; i += VL) {
        const vf begin = vi_as_vf(vi_mul(vi_set1(p->shift), vf_as_vi(vf_load(sums + i / ST_PANEL * panel + i % ST_PANEL))));
        float *to = i < whole ? c + i : edge + (i - whole);
        for (int64_t r = 0; r < mr; r++)
            vf_store(to + r * (i < whole ? ldc : edge_ld), begin);
    }
}

/* The target of the row tile at r and columns [j, j + cols). */
static st_target target_of(const st_product *p, const st_finish *f, int64_t r, int64_t j, int64_t cols)
{
    const int64_t row = p->row_base + r, col = p->col_base + j;
    return (st_target){
        .c = p->c + row * p->c_row + col, .c_row = p->c_row, .bias = f->bias ? f->bias + col : NULL,
        .add = f->add ? f->add + row * f->add_row + col : NULL, .add_row = f->add_row, .columns = cols, .low = f->low, .high = f->high,
    };
}

void st_product_run(const st_product *p)
{
    int64_t rows_all = p->m1 - p->m0, kc = k_block(p->k, p->place ? ST_KC : rows_all > ST_FEW ? ST_KC_MANY : ST_KC_FEW);
    int64_t k_blocks = ST_MAX(st_ceil_div(p->k, kc), 1);
    if (rows_all <= 0 || p->n1 <= p->n0)
        return;
    int64_t copy_ld = kc + ST_PAD, nb = p->b_packed && kc > ST_CHAIN ? ST_NB_DEEP : ST_NB;
    const int64_t room = ST_MB * ST_NB / nb;
    int64_t mb = k_blocks == 1 ? rows_all : st_ceil_div(rows_all, st_ceil_div(rows_all, room));
    float *copy = p->workspace, *parked = copy + ST_MR * copy_ld, *panels = parked + parked_floats(rows_all, p->k);
    const st_micro_fn(*const table)[4] = p->quads ? st_micro_quads : p->pairs ? st_micro_pairs : st_micro;
    if (p->b_packed && rows_all <= ST_MR)
        nb = ST_MAX(nb, ST_SHORT / rows_all / ST_PANEL * ST_PANEL);

    for (int64_t j = p->n0; j < p->n1; j += nb) {
        int64_t cols = ST_MIN(nb, p->n1 - j), ld = st_round_up(cols, ST_PANEL), whole = cols / ST_PANEL * ST_PANEL;
        for (int64_t i = p->m0; i < p->m1; i += mb) {
            int64_t end = ST_MIN(i + mb, p->m1);
            for (int64_t kb = 0; kb < k_blocks; kb++) {
                int64_t k0 = kb * kc, count = ST_MIN(kc, p->k - k0), ldb = ST_PANEL, panel;
                const float *b;
                if (p->b_packed) {
                    panel = p->b_panel ? p->b_panel : p->k * ST_PANEL;
                    b = p->b + j / ST_PANEL * panel + k0 * ST_PANEL;
                } else if (p->b_col == 1 && end - i <= ST_MR && whole == cols) {
                    panel = ST_PANEL; /* one row tile would not repay the packing */
                    ldb = p->b_row;
                    b = p->b + k0 * ldb + j;
                } else {
                    panel = count * ST_PANEL;
                    b = panels;
                    if (k_blocks > 1 || i == p->m0)
                        st_pack_panels(p->b + k0 * p->b_row + j * p->b_col, count, cols, p->b_row, p->b_col, panels, panel);
                }
                for (int64_t r = i, mr; r < end; r += mr) {
                    mr = tile_rows(p, r, end);
                    st_left left = left_rows(p, r, mr, k0, count, copy, copy_ld);
                    ahead next = {.lone = p->b_packed && rows_all <= ST_MR};
                    if (!p->fill && r + mr < end)
                        next = (ahead){.a = p->a + (r + mr) * p->a_row + k0, .a_row = p->a_row, .rows = ST_MIN(mr, end - r - mr), .count = count};
                    if (p->b_packed)
                        block_ahead(p, &next, j, cols, nb, k0, kc, i, r, mr, end);
                    float *acc = parked + (k_blocks == 1 ? 0 : (r - i) * ld), *to = acc;
                    int64_t ldc = ld;
                    const st_finish *const f = p->store ? NULL : p->finish;
                    st_target target;
                    if (f) {
                        target = target_of(p, f, r, j, cols);
                    } else if (!p->store) {
                        to = p->c + (p->row_base + r) * p->c_row + p->col_base + j;
                        ldc = p->c_row;
                    }
                    int resume = kb > 0 || p->resume;
                    if (p->quads && p->shift && !resume) {
                        begin_tile(p, j, panel, mr, cols, to, ldc, acc + whole, ld);
                        resume = 1;
                    }
                    tile_row(table[mr], mr, &left, b, ldb, panel, cols, to, ldc, acc + whole, ld, resume, &next,
                             f && kb + 1 == k_blocks ? &target : NULL);
                    if (kb + 1 < k_blocks)
                        continue;
                    if (p->store)
                        p->store(p->store_ctx, p->batch, p->row_base + r, mr, p->col_base + j, cols, acc, ld);
                    else if (!f && whole < cols)
                        copy_rows(acc + whole, ld, mr, cols - whole, to + whole, ldc);
                }
            }
        }
    }
}

st_slice st_split_by(int64_t panel, int64_t batch, int64_t m, int64_t n, int64_t row_cost, int64_t panel_cost, int part, int parts)
{
    if (batch <= 0 || m <= 0 || n <= 0)
        return (st_slice){0};
    int64_t panels = st_ceil_div(n, panel), best = INT64_MAX, pb = 1, pm = 1, pn = 1;
    for (int64_t b = 1; b <= ST_MIN((int64_t)parts, batch); b++)
        for (int64_t r = 1; r <= ST_MIN(parts / b, m); r++) {
            int64_t c = ST_MIN(parts / (b * r), panels);
            int64_t rows = st_ceil_div(m, r), cols = st_ceil_div(panels, c);
            int64_t cost = st_ceil_div(batch, b) * (16 * rows * cols + panel_cost * cols + row_cost * rows);
            if (cost < best)
                best = cost, pb = b, pm = r, pn = c;
        }
    int64_t at = part;
    if (at >= pb * pm * pn)
        return (st_slice){0};
    int64_t in = at % pn, im = at / pn % pm, ib = at / pn / pm;
    return (st_slice){batch * ib / pb, batch * (ib + 1) / pb, m * im / pm, m * (im + 1) / pm,
                      panels * in / pn * panel, ST_MIN(panels * (in + 1) / pn * panel, n), in, pn};
}
