/* Operands of attention on tiles: queries as left, keys and values as right ones, in parts of bf16. */
#ifndef STRATAC_KERNELS_ATTENTION_PACK_H
#define STRATAC_KERNELS_ATTENTION_PACK_H

#include "attention_work.h"

/* Words of two elements each in bf16, rounded as `put` does. */
SOFT_INLINE vi halves(vf low, vf high)
{
    const vi half = vi_set1(0x8000);
    return vi_upper_halves(vi_add(vf_as_vi(low), half), vi_add(vf_as_vi(high), half));
}

/* VL words of two elements each as a sum of so many parts; halves are rounded away from zero.  Three parts are the float itself. */
SOFT_INLINE void put(vf low, vf high, int parts, float *to)
{
    const vi half = vi_set1(0x8000), upper = vi_set1((int32_t)0xffff0000u);
    for (int p = 0; p < parts; p++, to += PART_WORDS) {
        vi x = vf_as_vi(low), y = vf_as_vi(high);
        if (p < 2) /* the third is exact */
            x = vi_add(x, half), y = vi_add(y, half);
        vf_store(to, vi_as_vf(vi_upper_halves(x, y)));
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
                for (int64_t i = 0; i < VL; i++)
                    most = greater(greater(most, low[i]), high[i]);
                if (parts == 1) { /* words of two are half as much to transpose */
                    for (int64_t i = 0; i < VL; i++)
                        low[i] = vi_as_vf(halves(low[i], high[i]));
                    vf_transpose(low);
                    for (int64_t i = 0; i < VL; i++)
                        vf_store(to + (x + i) * WIDE + c, low[i]);
                    continue;
                }
                vf_transpose(low);
                vf_transpose(high);
                for (int64_t i = 0; i < VL; i++)
                    put(low[i], high[i], parts, to + (x + i) * WIDE + c);
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

#endif
