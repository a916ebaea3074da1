/* Narrow floats in memory as vectors of floats, written once in the operations every ISA file has; an ISA with instructions for
 * f16 has those.  The formats, and the same one at a time, are in kernels/narrow.h.
 *
 *   vf_load_T(p), vf_load_n_T(p, n), vf_load_strided_T(p, stride, n)     elements as floats, exactly
 *   vf_store_T(p, v), vf_store_n_T(p, v, n)                              the nearest elements, ties to even
 *   vf_round_T(v), vf_saturate_T(v)                                      what a store and a load give, without memory
 *
 * Integers are loaded as floats and stored from floats in the same way.
 */
#ifndef STRATAC_SIMD_NARROW_H
#define STRATAC_SIMD_NARROW_H

#include "../kernels/narrow.h"

/* The partial accesses of an ISA that has none of its own, through memory. */
#define SIMD_PARTS(vector, type, name)                                                                                     \
    static inline vector vector##_load_n_##name(const type *p, int64_t n)                                                  \
    {                                                                                                                      \
        type lanes[VL] = {0};                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                                    \
            lanes[i] = p[i];                                                                                               \
        return vector##_load_##name(lanes);                                                                                \
    }                                                                                                                      \
    static inline void vector##_store_n_##name(type *p, vector v, int64_t n)                                               \
    {                                                                                                                      \
        type lanes[VL];                                                                                                    \
        vector##_store_##name(lanes, v);                                                                                   \
        for (int64_t i = 0; i < n; i++)                                                                                    \
            p[i] = lanes[i];                                                                                               \
    }
#ifndef SIMD_MASKED_PARTS
SIMD_PARTS(vi, uint16_t, u16)
SIMD_PARTS(vi, uint8_t, u8)
#ifdef SIMD_F16
SIMD_PARTS(vf, uint16_t, f16)
#endif
#endif
#undef SIMD_PARTS

static inline vf simd_decode(vi code, st_float_format f)
{
    const int half = 1 << (f.bits - 1);
    if (f.bias == 127)
        return vi_as_vf(vi_shl(code, 32 - f.bits));
    const vi size = vi_and(code, vi_set1(half - 1));
    vf x = vf_mul(vi_as_vf(vi_shl(size, 23 - f.mantissa)), vf_set1(st_f32_of_bits((uint32_t)(254 - f.bias) << 23)));
    if ((int)f.top < half - 1) {
        x = vf_select(vi_gt(size, vi_set1((int)f.top)), vf_set1(SIMD_NAN), x);
        if (f.over != f.nan)
            x = vf_select(vi_eq(size, vi_set1((int)f.over)), vf_set1(SIMD_INF), x);
    }
    x = vi_as_vf(vi_or(vf_as_vi(x), vi_shl(vi_and(code, vi_set1(half)), 32 - f.bits)));
    return f.unsigned_zero ? vf_select(vi_eq(code, vi_set1((int)f.nan)), vf_set1(SIMD_NAN), x) : x;
}

static inline vi simd_encode(vf x, st_float_format f, int saturate)
{
    const int drop = 23 - f.mantissa;
    const vi bits = vf_as_vi(x), size = vi_and(bits, vi_set1(INT32_MAX));
    const vi even = vi_and(vi_shr(size, drop), vi_set1(1));
    vi code = vi_shr(vi_add(size, vi_add(even, vi_set1((1 << (drop - 1)) - 1))), drop);
    if (f.bias != 127) { /* of f32's own exponents the codes below the smallest normal number are right as they are */
        const vi magic = vi_set1((24 - f.bias - f.mantissa + 127) << 23);
        const vi small = vi_sub(vf_as_vi(vf_add(vi_as_vf(size), vi_as_vf(magic))), magic);
        code = vi_sub(code, vi_set1((127 - f.bias) << f.mantissa));
        code = vi_select(vi_gt(size, vi_set1(((128 - f.bias) << 23) - 1)), code, small);
    }
    code = vi_select(vi_gt(code, vi_set1((int)f.top)), vi_set1((int)(saturate ? f.top : f.over)), code);
    code = vi_select(vi_gt(size, vi_set1(0x7f800000)), vi_set1((int)f.nan), code);
    const vi sign = vi_shl(vi_shr(bits, 31), f.bits - 1);
    if (!f.unsigned_zero)
        return vi_xor(code, sign);
    const vi none = vi_set1(0);
    const vm bare = vm_or(vi_eq(code, none), vi_eq(code, vi_set1((int)f.nan)));
    return vi_or(code, vi_select(bare, none, sign));
}

#define SIMD_STORES(name, width, ...)                                                                                      \
    static inline void vf_store_##name(uint##width##_t *p, vf v)                                                           \
    {                                                                                                                      \
        vi_store_u##width(p, simd_encode(v, (st_float_format){__VA_ARGS__}, 0));                                           \
    }                                                                                                                      \
    static inline void vf_store_n_##name(uint##width##_t *p, vf v, int64_t n)                                              \
    {                                                                                                                      \
        vi_store_n_u##width(p, simd_encode(v, (st_float_format){__VA_ARGS__}, 0), n);                                      \
    }
#define SIMD_STORES_f16 SIMD_STORES
#define SIMD_STORES_f8e4m3 SIMD_STORES
#define SIMD_STORES_f8e4m3fnuz SIMD_STORES
#define SIMD_STORES_f8e5m2 SIMD_STORES
#define SIMD_STORES_f8e5m2fnuz SIMD_STORES
#define SIMD_STORES_f4e2m1 SIMD_STORES
#if defined(__AVX512BF16__) && VL == 16
/* The instruction takes denormals for zero and keeps the bits of NaN: these are encoded as elsewhere. */
#define SIMD_STORES_bf16(name, width, ...)                                                                                 \
    static inline __m256i simd_nearest_##name(vf v)                                                                        \
    {                                                                                                                      \
        const int denormal = 0x20, nan = 0x81;                                                                             \
        if (__builtin_expect(_mm512_fpclass_ps_mask(v, denormal | nan) != 0, 0))                                           \
            return _mm512_cvtepi32_epi16(simd_encode(v, (st_float_format){__VA_ARGS__}, 0));                               \
        return (__m256i)_mm512_cvtneps_pbh(v);                                                                             \
    }                                                                                                                      \
    static inline void vf_store_##name(uint##width##_t *p, vf v) { _mm256_storeu_si256((void *)p, simd_nearest_##name(v)); } \
    static inline void vf_store_n_##name(uint##width##_t *p, vf v, int64_t n)                                              \
    {                                                                                                                      \
        _mm256_mask_storeu_epi16(p, vm_first(n), simd_nearest_##name(v));                                                  \
    }
#else
#define SIMD_STORES_bf16 SIMD_STORES
#endif
#define SIMD_MEMORY(name, width, ...)                                                                                      \
    static inline vf vf_load_##name(const uint##width##_t *p)                                                              \
    {                                                                                                                      \
        return simd_decode(vi_load_u##width(p), (st_float_format){__VA_ARGS__});                                           \
    }                                                                                                                      \
    static inline vf vf_load_n_##name(const uint##width##_t *p, int64_t n)                                                 \
    {                                                                                                                      \
        return simd_decode(vi_load_n_u##width(p, n), (st_float_format){__VA_ARGS__});                                      \
    }                                                                                                                      \
    SIMD_STORES_##name(name, width, __VA_ARGS__)                                                                           \
    static inline vf vf_round_##name(vf v)                                                                                 \
    {                                                                                                                      \
        return simd_decode(simd_encode(v, (st_float_format){__VA_ARGS__}, 0), (st_float_format){__VA_ARGS__});             \
    }
#ifdef SIMD_F16
#define SIMD_MEMORY_f16(...)
#else
#define SIMD_MEMORY_f16 SIMD_MEMORY
#endif
#define SIMD_MEMORY_bf16 SIMD_MEMORY
#define SIMD_MEMORY_f8e4m3 SIMD_MEMORY
#define SIMD_MEMORY_f8e4m3fnuz SIMD_MEMORY
#define SIMD_MEMORY_f8e5m2 SIMD_MEMORY
#define SIMD_MEMORY_f8e5m2fnuz SIMD_MEMORY
#define SIMD_MEMORY_f4e2m1 SIMD_MEMORY
#define SIMD_FLOAT(name, width, ...)                                                                                       \
    SIMD_MEMORY_##name(name, width, __VA_ARGS__)                                                                           \
    static inline vf vf_load_strided_##name(const uint##width##_t *p, int64_t stride, int64_t n)                           \
    {                                                                                                                      \
        uint##width##_t lanes[VL] = {0};                                                                                   \
        for (int64_t i = 0; i < n; i++)                                                                                    \
            lanes[i] = p[i * stride];                                                                                      \
        return vf_load_##name(lanes);                                                                                      \
    }                                                                                                                      \
    static inline vf vf_saturate_##name(vf v)                                                                              \
    {                                                                                                                      \
        return simd_decode(simd_encode(v, (st_float_format){__VA_ARGS__}, 1), (st_float_format){__VA_ARGS__});             \
    }
ST_FLOATS(SIMD_FLOAT)
#undef SIMD_FLOAT

/* Integers of 32 bits or fewer as floats.  Stores and rounding truncate as a scalar cast does, beyond int32 to its least number,
 * and keep the low bits; those of fewer than 8 take a byte. */
#define SIMD_INTEGER(name, width, sign, bits)                                                                              \
    static inline vi simd_low_##name(vi v) { return vi_s##sign(vi_shl(v, 32 - bits), 32 - bits); }                         \
    static inline vi simd_loaded_##name(vi v) { return width == bits && SIMD_UNSIGNED_##sign ? v : simd_low_##name(v); }   \
    static inline vi simd_stored_##name(vi v)                                                                              \
    {                                                                                                                      \
        return width == bits && SIMD_STORES_LOW ? v : vi_and(simd_low_##name(v), vi_set1((1 << width) - 1));               \
    }                                                                                                                      \
    static inline vf vf_round_##name(vf v) { return vf_from_i32(simd_low_##name(vi_from_vf(v))); }                         \
    static inline vf vf_load_##name(const ST_INTEGER_##sign(width) *p)                                                     \
    {                                                                                                                      \
        return vf_from_i32(simd_loaded_##name(vi_load_u##width((const uint##width##_t *)p)));                              \
    }                                                                                                                      \
    static inline vf vf_load_n_##name(const ST_INTEGER_##sign(width) *p, int64_t n)                                        \
    {                                                                                                                      \
        return vf_from_i32(simd_loaded_##name(vi_load_n_u##width((const uint##width##_t *)p, n)));                         \
    }                                                                                                                      \
    static inline void vf_store_##name(ST_INTEGER_##sign(width) *p, vf v)                                                  \
    {                                                                                                                      \
        vi_store_u##width((uint##width##_t *)p, simd_stored_##name(vi_from_vf(v)));                                        \
    }                                                                                                                      \
    static inline void vf_store_n_##name(ST_INTEGER_##sign(width) *p, vf v, int64_t n)                                     \
    {                                                                                                                      \
        vi_store_n_u##width((uint##width##_t *)p, simd_stored_##name(vi_from_vf(v)), n);                                   \
    }
#ifndef SIMD_STORES_LOW
#define SIMD_STORES_LOW 1 /* whether vi_store_u8 and vi_store_u16 keep the low bits of any number */
#endif
#define SIMD_UNSIGNED_ar 0
#define SIMD_UNSIGNED_hr 1
#define ST_INTEGER_ar(width) int##width##_t
#define ST_INTEGER_hr(width) uint##width##_t
SIMD_INTEGER(i16, 16, ar, 16)
SIMD_INTEGER(u16, 16, hr, 16)
SIMD_INTEGER(i8, 8, ar, 8)
SIMD_INTEGER(u8, 8, hr, 8)
SIMD_INTEGER(i4, 8, ar, 4)
SIMD_INTEGER(u4, 8, hr, 4)
SIMD_INTEGER(i2, 8, ar, 2)
SIMD_INTEGER(u2, 8, hr, 2)
#undef SIMD_INTEGER
#undef SIMD_UNSIGNED_ar
#undef SIMD_UNSIGNED_hr
#undef ST_INTEGER_ar
#undef ST_INTEGER_hr
static inline vf vf_load_i32(const int32_t *p) { return vf_from_i32(vi_load(p)); }
static inline vf vf_load_n_i32(const int32_t *p, int64_t n) { return vf_from_i32(vi_load_n(p, n)); }
static inline vf vf_round_i32(vf v) { return vf_from_i32(vi_from_vf(v)); }
static inline void vf_store_i32(int32_t *p, vf v) { vi_store(p, vi_from_vf(v)); }
static inline void vf_store_n_i32(int32_t *p, vf v, int64_t n) { vi_store_n(p, vi_from_vf(v), n); }

#endif
