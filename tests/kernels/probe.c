/* The vector language of csrc/simd, exported for test_simd.py. */
#include "../../csrc/simd/simd.h"

int64_t probe_lanes(void) { return VL; }
const char *probe_isa(void) { return SIMD_ISA; }

#define UNARY(name)                                                                                                        \
    void vector_##name(const float *x, float *y, int64_t count)                                                            \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i += VL) {                                                                          \
            int64_t n = count - i < VL ? count - i : VL;                                                                   \
            vf_store_n(y + i, vf_##name(vf_load_n(x + i, n)), n);                                                          \
        }                                                                                                                  \
    }                                                                                                                      \
    void scalar_##name(const float *x, float *y, int64_t count)                                                            \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                \
            y[i] = sf_##name(x[i]);                                                                                        \
    }
UNARY(exp)
UNARY(log)
UNARY(tanh)
UNARY(erf)
UNARY(sigmoid)
UNARY(sin)
UNARY(cos)
UNARY(sqrt)
UNARY(floor)
UNARY(ceil)
UNARY(round)
UNARY(trunc)
UNARY(abs)

#define BINARY(name, expression)                                                                                           \
    void binary_##name(const float *x, const float *w, float *y, int64_t count)                                            \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i += VL) {                                                                          \
            int64_t n = count - i < VL ? count - i : VL;                                                                   \
            vf a = vf_load_n(x + i, n), b = vf_load_n(w + i, n);                                                           \
            vf_store_n(y + i, expression, n);                                                                              \
        }                                                                                                                  \
    }
#define AS_FLOAT(mask) vf_select(mask, vf_set1(1.0f), vf_zero())
BINARY(pow, vf_pow(a, b))
BINARY(add, vf_add(a, b))
BINARY(sub, vf_sub(a, b))
BINARY(mul, vf_mul(a, b))
BINARY(div, vf_div(a, b))
BINARY(min, vf_min(a, b))
BINARY(max, vf_max(a, b))
#define NUMBER(v) vf_select(vf_eq(v, v), v, vf_set1(1.0f))
BINARY(at_most, vf_at_most(a, NUMBER(b)))
BINARY(at_least, vf_at_least(a, NUMBER(b)))
BINARY(min_fast, vf_min_fast(a, b))
BINARY(max_fast, vf_max_fast(a, b))
BINARY(neg, vf_neg(vf_select(vf_eq(b, b), a, a)))
BINARY(lt, AS_FLOAT(vf_lt(a, b)))
BINARY(le, AS_FLOAT(vf_le(a, b)))
BINARY(gt, AS_FLOAT(vf_gt(a, b)))
BINARY(ge, AS_FLOAT(vf_ge(a, b)))
BINARY(eq, AS_FLOAT(vf_eq(a, b)))
BINARY(ne, AS_FLOAT(vf_ne(a, b)))
BINARY(and_not, AS_FLOAT(vm_and(vf_lt(a, b), vm_not(vf_lt(a, vf_zero())))))
BINARY(xor_or, AS_FLOAT(vm_or(vm_xor(vf_lt(a, b), vf_gt(b, vf_zero())), vf_ne(a, a))))
BINARY(fma, vf_fma(a, b, vf_set1(0.1f)))
BINARY(fnma, vf_fnma(a, b, vf_set1(0.1f)))

/* Lanes of int32. */
#define INTEGER(name, expression)                                                                                          \
    void integer_##name(const int32_t *x, const int32_t *w, int32_t *y, int64_t count)                                     \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i += VL) {                                                                          \
            int64_t n = count - i < VL ? count - i : VL;                                                                   \
            vi a = vi_load_n(x + i, n), b = vi_load_n(w + i, n);                                                           \
            (void)b;                                                                                                       \
            vi_store_n(y + i, expression, n);                                                                              \
        }                                                                                                                  \
    }
INTEGER(add, vi_add(a, b))
INTEGER(sub, vi_sub(a, b))
INTEGER(mul, vi_mul(a, b))
INTEGER(and, vi_and(a, b))
INTEGER(or, vi_or(a, b))
INTEGER(xor, vi_xor(a, b))
static const float counted[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
INTEGER(lookup, vi_from_vf(vf_lookup(counted, a)))
INTEGER(min, vi_min(a, b))
INTEGER(max, vi_max(a, b))
INTEGER(shl, vi_shl(a, 5))
INTEGER(shr, vi_shr(a, 5))
INTEGER(sar, vi_sar(a, 5))
INTEGER(select, vi_select(vi_gt(a, b), a, vi_select(vi_eq(a, b), vi_set1(7), b)))
INTEGER(to_float, vf_as_vi(vf_from_i32(a)))
INTEGER(from_float, vi_from_vf(vi_as_vf(a)))

float reduce_add(const float *x) { return vf_reduce_add(vf_load(x)); }
float reduce_max(const float *x) { return vf_reduce_max(vf_load(x)); }
float reduce_min(const float *x) { return vf_reduce_min(vf_load(x)); }
void strided(const float *x, int64_t stride, int64_t n, float *y) { vf_store(y, vf_load_strided(x, stride, n)); }
void iota(float *y) { vf_store(y, vf_iota()); }
void masks(const uint8_t *x, int64_t n, uint8_t *y, int *any_all)
{
    vm m = vm_load_n(x, n);
    any_all[0] = vm_any(m);
    any_all[1] = vm_all(m);
    vm_store_n(y, m, n);
}
void transpose(const float *x, float *y)
{
    vf r[VL];
    for (int i = 0; i < VL; i++)
        r[i] = vf_load(x + i * VL);
    vf_transpose(r);
    for (int i = 0; i < VL; i++)
        vf_store(y + i * VL, r[i]);
}

/* Narrow floats: by vectors (with a partial one at the end), and one at a time. */
#define NARROW(name, width, ...)                                                                                           \
    void load_##name(const uint##width##_t *x, float *y, int64_t count)                                                    \
    {                                                                                                                      \
        int64_t i = 0;                                                                                                     \
        for (; i + VL <= count; i += VL)                                                                                   \
            vf_store(y + i, vf_load_##name(x + i));                                                                        \
        vf_store_n(y + i, vf_load_n_##name(x + i, count - i), count - i);                                                  \
    }                                                                                                                      \
    void strided_##name(const uint##width##_t *x, float *y, int64_t count)                                                 \
    {                                                                                                                      \
        for (int64_t i = 0; 2 * i < count; i += VL) {                                                                      \
            const int64_t left = (count + 1) / 2 - i, n = left < VL ? left : VL;                                           \
            vf_store_n(y + i, vf_load_strided_##name(x + 2 * i, 2, n), n);                                                 \
        }                                                                                                                  \
    }                                                                                                                      \
    void store_##name(const float *x, uint##width##_t *y, int64_t count)                                                   \
    {                                                                                                                      \
        int64_t i = 0;                                                                                                     \
        for (; i + VL <= count; i += VL)                                                                                   \
            vf_store_##name(y + i, vf_load(x + i));                                                                        \
        vf_store_n_##name(y + i, vf_load_n(x + i, count - i), count - i);                                                  \
    }                                                                                                                      \
    void round_##name(const float *x, uint##width##_t *y, int64_t count)                                                   \
    {                                                                                                                      \
        for (int64_t i = 0; i + VL <= count; i += VL)                                                                      \
            vf_store_##name(y + i, vf_round_##name(vf_load(x + i)));                                                       \
    }                                                                                                                      \
    void saturate_##name(const float *x, uint##width##_t *y, int64_t count)                                                \
    {                                                                                                                      \
        for (int64_t i = 0; i + VL <= count; i += VL)                                                                      \
            vf_store_##name(y + i, vf_saturate_##name(vf_load(x + i)));                                                    \
    }                                                                                                                      \
    void value_##name(const uint##width##_t *x, float *y, int64_t count)                                                   \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                \
            y[i] = st_##name##_value(x[i]);                                                                                \
    }                                                                                                                      \
    void of_##name(const float *x, uint##width##_t *y, int64_t count)                                                      \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                \
            y[i] = st_##name##_of(x[i]);                                                                                   \
    }                                                                                                                      \
    void saturated_##name(const float *x, uint##width##_t *y, int64_t count)                                               \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                \
            y[i] = st_##name##_saturated(x[i]);                                                                            \
    }
ST_FLOATS(NARROW)

void power_value(const uint8_t *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = st_f8e8m0_value(x[i]);
}
#define POWER(name, function)                                                                                              \
    void power_##name(const float *x, uint8_t *y, int64_t count)                                                           \
    {                                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                \
            y[i] = function(x[i]);                                                                                         \
    }
POWER(up, st_f8e8m0_of)
POWER(up_saturated, st_f8e8m0_saturated)
POWER(down, st_f8e8m0_down)
POWER(nearest, st_f8e8m0_nearest)
POWER(nearest_saturated, st_f8e8m0_nearest_saturated)

void f16_of_f64(const double *x, uint16_t *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = st_f16_of_f64(x[i]);
}
