/* Right operands into panels: rows of ST_PANEL consecutive columns, zero padded. */
#include "tile.h"

/* Columns are contiguous along k (a transposed operand): VL x VL blocks through registers. */
static void pack_transposed(const float *b, int64_t k, int64_t n, int64_t b_col, float *out)
{
    for (int64_t c = 0; c < ST_PANEL; c += VL)
        for (int64_t i = 0; i < k; i += VL) {
            int64_t depth = ST_MIN((int64_t)VL, k - i);
            vf r[VL];
            for (int64_t j = 0; j < VL; j++)
                r[j] = c + j < n ? vf_load_n(b + (c + j) * b_col + i, depth) : vf_zero();
            vf_transpose(r);
            for (int64_t j = 0; j < depth; j++)
                vf_store(out + (i + j) * ST_PANEL + c, r[j]);
        }
}

void st_pack_panels(const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, float *packed, int64_t stride)
{
    for (int64_t j = 0; j < n; j += ST_PANEL, packed += stride) {
        int64_t cols = ST_MIN((int64_t)ST_PANEL, n - j);
        const float *from = b + j * b_col;
        if (b_row == 1 && b_col != 1) {
            pack_transposed(from, k, cols, b_col, packed);
            continue;
        }
        for (int64_t i = 0; i < k; i++, from += b_row)
            for (int64_t c = 0; c < ST_PANEL; c += VL) {
                int64_t left = ST_MAX(ST_MIN((int64_t)VL, cols - c), (int64_t)0);
                vf v = left == 0 ? vf_zero() : left == VL && b_col == 1 ? vf_load(from + c) : vf_load_strided(from + c * b_col, b_col, left);
                vf_store(packed + i * ST_PANEL + c, v);
            }
    }
}

void st_pack_f32(const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, float *packed)
{
    st_pack_panels(b, k, n, b_row, b_col, packed, k * ST_PANEL);
}

int64_t st_panel(void) { return ST_PANEL; }
