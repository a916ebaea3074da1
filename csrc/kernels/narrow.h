/* Elements that are narrower than what they are computed in, one at a time: floats of 16, 8 and 4 bits as their bits in an
 * unsigned integer, and integers of fewer than 8 bits, one in a byte.  ir/narrow.py is the same in numpy, csrc/simd/simd_narrow.h
 * in vectors; all agree bit for bit.
 *
 *   st_T_value(bits)    the number, exactly                st_T_of(x)         the nearest element, ties to even
 *   st_wrap_T(x)        an integer modulo 2^bits           st_T_saturated(x)  the same, never beyond the greatest finite number
 */
#ifndef STRATAC_NARROW_H
#define STRATAC_NARROW_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t st_bits_of_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float st_f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline uint64_t st_bits_of_f64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double st_f64_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A sign, exponent and mantissa.  `top` is the code of the greatest finite magnitude, `over` that of one beyond it. */
typedef struct {
    int bits, mantissa, bias;
    uint32_t top, over, nan;
    int unsigned_zero; /* neither zero nor NaN has a sign */
} st_float_format;

static inline float st_decode(uint32_t code, st_float_format f)
{
    const uint32_t sign = code >> (f.bits - 1) & 1, size = code & ((1u << (f.bits - 1)) - 1);
    if (f.unsigned_zero && code == f.nan)
        return NAN;
    /* the codes of a narrow float are those of a wide one, but for a power of two; denormals included */
    float x = st_f32_of_bits(size << (23 - f.mantissa)) * st_f32_of_bits((uint32_t)(254 - f.bias) << 23);
    if (size > f.top)
        x = size == f.over && f.over != f.nan ? INFINITY : NAN;
    return sign ? -x : x;
}

static inline uint32_t st_encode(float x, st_float_format f, int saturate)
{
    const uint32_t bits = st_bits_of_f32(x), size = bits & 0x7fffffffu, sign = bits >> 31 << (f.bits - 1);
    const int drop = 23 - f.mantissa;
    uint32_t code;
    if (size > 0x7f800000u)
        code = f.nan;
    else {
        if (size >= (uint32_t)(128 - f.bias) << 23)
            code = ((size + ((1u << (drop - 1)) - 1) + (size >> drop & 1)) >> drop) - ((uint32_t)(127 - f.bias) << f.mantissa);
        else { /* a number whose last place is the smallest step */
            const uint32_t magic = (uint32_t)(24 - f.bias - f.mantissa + 127) << 23;
            code = st_bits_of_f32(st_f32_of_bits(size) + st_f32_of_bits(magic)) - magic;
        }
        if (code > f.top)
            code = saturate ? f.top : f.over;
    }
    return f.unsigned_zero && (code == 0 || code == f.nan) ? code : code ^ sign;
}

/* X(name, bits of storage: bits, mantissa, bias, top, over, nan, unsigned zero) */
#define ST_FLOATS(X)                                                                                                       \
    X(f16, 16, 16, 10, 15, 0x7bff, 0x7c00, 0x7e00, 0)                                                                      \
    X(bf16, 16, 16, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, 0)                                                                     \
    X(f8e4m3, 8, 8, 3, 7, 0x7e, 0x7f, 0x7f, 0)                                                                             \
    X(f8e4m3fnuz, 8, 8, 3, 8, 0x7f, 0x80, 0x80, 1)                                                                         \
    X(f8e5m2, 8, 8, 2, 15, 0x7b, 0x7c, 0x7e, 0)                                                                            \
    X(f8e5m2fnuz, 8, 8, 2, 16, 0x7f, 0x80, 0x80, 1)                                                                        \
    X(f4e2m1, 8, 4, 1, 1, 7, 7, 8, 0)
#define ST_FLOAT(name, width, ...)                                                                                         \
    static inline float st_##name##_value(uint##width##_t bits) { return st_decode(bits, (st_float_format){__VA_ARGS__}); } \
    static inline uint##width##_t st_##name##_of(float x)                                                                  \
    {                                                                                                                      \
        return (uint##width##_t)st_encode(x, (st_float_format){__VA_ARGS__}, 0);                                           \
    }                                                                                                                      \
    static inline uint##width##_t st_##name##_saturated(float x)                                                           \
    {                                                                                                                      \
        return (uint##width##_t)st_encode(x, (st_float_format){__VA_ARGS__}, 1);                                           \
    }
ST_FLOATS(ST_FLOAT)
#undef ST_FLOAT

/* From double with one rounding: to float first, where what is lost is kept as an odd last bit. */
static inline uint16_t st_f16_of_f64(double x)
{
    const float near = (float)x;
    uint32_t bits = st_bits_of_f32(near);
    if ((double)near != x && x == x) {
        if (fabs((double)near) > fabs(x))
            bits--;
        bits |= 1;
    }
    return st_f16_of(st_f32_of_bits(bits));
}

/* f8e8m0 is a power of two, 2^(code - 127).  A sign is lost; what is not finite is NaN. */
static inline float st_f8e8m0_value(uint8_t code)
{
    return code == 255 ? NAN : st_f32_of_bits(code ? (uint32_t)code << 23 : 0x00400000u);
}
static inline uint8_t st_f8e8m0_stepped(uint32_t exponent, int up, int saturate)
{
    return (uint8_t)(exponent + (up && exponent < 255 && !(saturate && exponent == 254)));
}
static inline uint8_t st_f8e8m0_of(float x)
{
    const uint32_t bits = st_bits_of_f32(x);
    return st_f8e8m0_stepped(bits >> 23 & 0xff, (bits & 0x7fffff) != 0, 0);
}
static inline uint8_t st_f8e8m0_saturated(float x)
{
    const uint32_t bits = st_bits_of_f32(x);
    return st_f8e8m0_stepped(bits >> 23 & 0xff, (bits & 0x7fffff) != 0, 1);
}
static inline uint8_t st_f8e8m0_down(float x) { return (uint8_t)(st_bits_of_f32(x) >> 23 & 0xff); }
static inline int st_f8e8m0_rounds_up(uint32_t bits)
{
    const uint32_t rest = bits & 0x7fffff;
    return rest > 0x400000 || (rest == 0x400000 && (bits >> 23 & 0xff) > 0);
}
static inline uint8_t st_f8e8m0_nearest(float x)
{
    const uint32_t bits = st_bits_of_f32(x);
    return st_f8e8m0_stepped(bits >> 23 & 0xff, st_f8e8m0_rounds_up(bits), 0);
}
static inline uint8_t st_f8e8m0_nearest_saturated(float x)
{
    const uint32_t bits = st_bits_of_f32(x);
    return st_f8e8m0_stepped(bits >> 23 & 0xff, st_f8e8m0_rounds_up(bits), 1);
}

static inline int8_t st_wrap_i4(int64_t x) { return (int8_t)((int8_t)((uint8_t)x << 4) >> 4); }
static inline int8_t st_wrap_i2(int64_t x) { return (int8_t)((int8_t)((uint8_t)x << 6) >> 6); }
static inline uint8_t st_wrap_u4(int64_t x) { return (uint8_t)(x & 15); }
static inline uint8_t st_wrap_u2(int64_t x) { return (uint8_t)(x & 3); }

#endif
