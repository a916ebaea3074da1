/* Numbers as text: decimal digits to and from binary floating point, rounded correctly. */
#ifndef STRATAC_DECIMAL_H
#define STRATAC_DECIMAL_H

#include <stdint.h>

enum { ST_DECIMAL_TEXT = 32 }; /* bytes that any number's text fits into */

/* The number that `length` bytes of text spell, white space around it left out: digits with a point and an exponent, inf, infinity
 * or nan, in any case, after a sign. NaN for any other text. */
double st_decimal_read(const uint8_t *text, int64_t length);

/* The same as a whole number: digits exactly, anything else rounded towards zero; 0 for what is no number, the nearest for what is
 * too large. */
int64_t st_decimal_read_whole(const uint8_t *text, int64_t length);

/* The fewest digits that read back as `value`, as a number of f32 where `single`: plain from 1e-4 up to 1e16, else with an exponent.
 * Returns the bytes written, at most ST_DECIMAL_TEXT. */
int st_decimal_write(double value, int single, uint8_t *text);

/* A whole number. Returns the bytes written. */
int st_decimal_write_whole(uint64_t magnitude, int negative, uint8_t *text);

#endif
