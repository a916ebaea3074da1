/* Scalar arithmetic with defined results everywhere: what generated scalar code calls where plain C would be undefined.
 *
 * Integer division by zero gives 0 and never traps; MIN / -1 wraps.  Conversions of floats out of the range of int32 (for narrower
 * integers) or int64, and of NaN, give its least number, narrowed.  Build with -fwrapv.
 */
#ifndef STRATAC_SCALAR_OPS_H
#define STRATAC_SCALAR_OPS_H

#include <math.h>
#include <stdint.h>

static inline int64_t st_div_signed(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? -a : a / b; }
static inline uint64_t st_div_unsigned(uint64_t a, uint64_t b) { return b == 0 ? 0 : a / b; }

/* Remainder with the sign of the divisor (ONNX Mod, Python %) and of the dividend (fmod, C %). */
static inline int64_t st_mod_signed(int64_t a, int64_t b)
{
    if (b == 0 || b == -1)
        return 0;
    int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static inline uint64_t st_mod_unsigned(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }
static inline int64_t st_fmod_signed(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
static inline uint64_t st_fmod_unsigned(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }

static inline int64_t st_pow_signed(int64_t base, int64_t exponent)
{
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    int64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}
static inline uint64_t st_pow_unsigned(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

/* Shifts of integers of some bits: a distance outside of [0, bits) leaves no bit but those of the sign. */
static inline int64_t st_shift_left_signed(int64_t a, int64_t by, int bits)
{
    return by < 0 || by >= bits ? 0 : (int64_t)((uint64_t)a << by);
}
static inline uint64_t st_shift_left_unsigned(uint64_t a, uint64_t by, int bits)
{
    return by >= (uint64_t)bits ? 0 : a << by;
}
static inline int64_t st_shift_right_signed(int64_t a, int64_t by, int bits)
{
    return a >> (by < 0 || by >= bits ? 63 : by);
}
static inline uint64_t st_shift_right_unsigned(uint64_t a, uint64_t by, int bits)
{
    return by >= (uint64_t)bits ? 0 : a >> by;
}

/* Floats as integers: towards zero, beyond the range the least number. */
static inline int32_t st_to_i32(double x) { return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN; }
static inline int64_t st_to_int(double x)
{
    return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (int64_t)x : INT64_MIN;
}

static inline uint64_t st_to_u64(double x)
{
    return x >= 9223372036854775808.0 && x < 18446744073709551616.0 ? (uint64_t)x : (uint64_t)st_to_int(x);
}

/* Minimum and maximum that hand NaN on, as numpy's do. */
static inline double st_min_f64(double a, double b) { return a != a || a < b ? a : b; }
static inline double st_max_f64(double a, double b) { return a != a || a > b ? a : b; }
static inline double st_sigmoid_f64(double x) { return 1.0 / (1.0 + exp(-x)); }

/* A position outside of low..high thrown back at its ends until it is inside. */
static inline double st_reflect(double at, double low, double high)
{
    if (at >= low && at <= high)
        return at;
    const double span = high - low, beyond = at < low ? low - at : at - high;
    if (!(span > 0))
        return low;
    const double times = floor(beyond / span), rest = beyond - times * span;
    return (at < low) == (fmod(times, 2.0) == 0.0) ? low + rest : high - rest;
}

#endif
