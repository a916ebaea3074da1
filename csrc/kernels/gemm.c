/* Matrix products, batched or not, in terms of st_product_run. */
#include "../simd/simd_pairs.h"
#include "tile.h"

/* A transposed, strided or computed left operand, one row tile at a time. */
typedef struct source {
    const st_gemm *g;
    int64_t batch;
    const float *a;
    int64_t row; /* between rows, where k is contiguous */
} source;

/* Rows of floats as pairs; k and count are of pairs. */
static void fill_pairs(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    for (int64_t i = 0; i < rows; i++)
        bf16_pairs(s->a + (row + i) * s->row + 2 * k, ST_MIN(2 * count, s->g->k - 2 * k), out + i * ld);
}

static void fill_transposed(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    for (int64_t i0 = 0; i0 < rows; i0 += VL) {
        const float *a = s->a + row + i0 + k * s->g->a_col;
        const int64_t some = ST_MIN((int64_t)VL, rows - i0);
        for (int64_t j = 0; j < count; j += VL) {
            const int64_t depth = ST_MIN((int64_t)VL, count - j);
            vf r[VL];
            for (int64_t i = 0; i < VL; i++)
                r[i] = i < depth ? vf_load_n(a + (j + i) * s->g->a_col, some) : vf_zero();
            vf_transpose(r);
            for (int64_t i = 0; i < some; i++)
                vf_store_n(out + (i0 + i) * ld + j, r[i], depth);
        }
    }
}

static void fill_strided(const void *ctx, int64_t row, int64_t rows, int64_t k, int64_t count, float *out, int64_t ld)
{
    const source *s = ctx;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j += VL) {
            int64_t n = ST_MIN((int64_t)VL, count - j);
            vf_store_n(out + i * ld + j, vf_load_strided(s->a + (row + i) * s->g->a_row + (k + j) * s->g->a_col, s->g->a_col, n), n);
        }
}

/* A computed left operand is produced once per block of rows, whatever the number of columns: as many rows as fit the
 * budget, in tiles. */
#define LOAD_FLOATS 65536
static int64_t load_rows(int64_t k, int tiles)
{
    const int64_t step = tiles ? 32 : ST_MR, floats = tiles ? 2 * LOAD_FLOATS : LOAD_FLOATS, most = tiles ? 8 : ST_MB / ST_MR;
    return ST_MAX(ST_MIN(floats / (k + ST_PAD) / step, most), 1) * step;
}

static int64_t depth_of(int64_t k, int pairs) { return pairs ? st_ceil_div(k, 2) : k; }

static int64_t product_floats(int64_t m, int64_t n, int64_t k, int b_packed, int pairs, int tiles)
{
    return tiles ? st_tiles_floats(m, n, k, tiles) : st_product_floats(m, depth_of(k, pairs), b_packed);
}

int64_t st_gemm_workspace(int64_t m, int64_t n, int64_t k, int b_packed, int pairs, int tiles)
{
    const int64_t rows = ST_MIN(st_round_up(m, ST_MR), load_rows(k, tiles)); /* of a prologue: floats always */
    return 4 * (product_floats(m, n, k, b_packed, pairs, tiles) + rows * st_row_stride(k)) + 64;
}

/* The product, or, `rows`, what comes before it. */
static void part_of(const st_gemm *g, int part, int parts, int rows)
{
    const int64_t row_cost = g->load ? 128 : g->tiles >= ST_BFP24 ? 48 : 24; /* of tiles; as if every part split its rows itself */
    st_slice s = g->tiles ? st_split_by(ST_TILE_PANEL, g->batch, g->m, g->n, row_cost, 256, part, parts)
                          : st_split(g->batch, g->m, g->n, g->load ? 256 : 4, g->b_packed ? 32 : 128, part, parts);
    void (*const run)(const st_product *) = rows ? st_tiles_rows : g->tiles ? st_tiles_run : st_product_run;
    const int64_t depth = depth_of(g->k, g->pairs);
    source src = {g, 0, NULL, g->a_row};
    float *workspace = st_align64(g->workspace);
    st_shared shared;
    st_product p = {
        .m0 = s.m0, .m1 = s.m1, .n0 = s.n0, .n1 = s.n1, .k = depth,
        .a_row = g->a_row, .pairs = g->pairs, .tiles = g->tiles,
        .shared = st_tiles_shared(&s, depth, g->tiles, g->shared, &shared),
        .fill = g->pairs ? fill_pairs : g->load || g->a_col == 1 || g->k <= 1 ? NULL : g->a_row == 1 ? fill_transposed : fill_strided,
        .fill_ctx = &src,
        .together = g->a_row == 1 ? ST_MR : 0,
        .b_row = g->b_row, .b_col = g->b_col, .b_packed = g->b_packed,
        .store = g->store, .store_ctx = g->store_ctx, .c_row = g->c_row, .workspace = workspace,
    };
    for (int64_t batch = s.batch0; batch < s.batch1; batch++) {
        p.b = g->b + batch * g->b_batch;
        p.batch = batch;
        p.c = g->store ? NULL : g->c + batch * g->c_batch;
        if (!g->load) {
            if (g->narrow)
                p.narrow = g->narrow + batch * g->a_batch;
            else
                p.a = src.a = g->a + batch * g->a_batch;
            run(&p);
            continue;
        }
        float *computed = workspace + product_floats(g->m, g->n, g->k, g->b_packed, g->pairs, g->tiles);
        int64_t step = load_rows(g->k, g->tiles), ld = st_row_stride(g->k);
        for (int64_t i = s.m0; i < s.m1; i += step) {
            int64_t count = ST_MIN(step, s.m1 - i);
            for (int64_t r = 0; r < count; r++)
                g->load(g->load_ctx, batch, i + r, 0, g->k, computed + r * ld);
            p.m0 = 0;
            p.m1 = count;
            p.row_base = i;
            p.a = src.a = computed;
            p.a_row = src.row = ld;
            run(&p);
        }
    }
}

void st_gemm_f32(const st_gemm *g, int part, int parts) { part_of(g, part, parts, 0); }

void st_gemm_rows(const st_gemm *g, int part, int parts) { part_of(g, part, parts, 1); }
