/* Numbers as text. A number is an array of decimal digits that is multiplied and divided by powers of two, so that every step is exact;
 * digits that do not fit are remembered as one bit, which is all that rounding asks of them. Slow next to table-driven methods, but
 * without tables, without memory of its own, and the same in every locale.
 */
#include "decimal.h"

#include <math.h>
#include <string.h>

/* 10^-19 * 2^STEP stays below 1. */
enum {
    DIGITS = 800, /* more than the longest exact number has that lies between two neighbours (768) */
    STEP = 60,    /* bits that one multiplication or division takes: 10 << STEP fits 64 bits */
    GROWN = 19    /* digits that STEP bits make */
};

typedef struct number {
    int count, point; /* 0.d0 d1 d2 ... * 10^point */
    int more;         /* whether anything but zeros lies behind the digits */
    uint8_t digit[DIGITS];
} number;

static void trim(number *n) {
    while (n->count > 0 && !n->digit[n->count - 1])
        n->count--;
    if (!n->count)
        n->point = 0;
}

/* Multiplied by 2^bits, bits <= STEP. */
static void multiply(number *n, int bits) {
    uint8_t grown[DIGITS + GROWN];
    int at = DIGITS + GROWN;
    uint64_t carry = 0;
    for (int i = n->count - 1; i >= 0; i--) {
        carry += (uint64_t)n->digit[i] << bits;
        grown[--at] = (uint8_t)(carry % 10);
        carry /= 10;
    }
    for (; carry; carry /= 10)
        grown[--at] = (uint8_t)(carry % 10);
    const int count = DIGITS + GROWN - at, kept = count < DIGITS ? count : DIGITS;
    for (int i = kept; i < count; i++)
        n->more |= grown[at + i] != 0;
    n->point += count - n->count;
    memcpy(n->digit, grown + at, (size_t)kept);
    n->count = kept;
    trim(n);
}

/* Divided by 2^bits, bits <= STEP. */
static void divide(number *n, int bits) {
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    uint64_t rest = 0;
    int read = 0, written = 0;
    if (!n->count)
        return;
    while (!(rest >> bits)) /* up to the first digit of the quotient; behind the digits come zeros */
        rest = rest * 10 + (read < n->count ? n->digit[read] : 0), read++;
    n->point -= read - 1;
    for (;; read++) {
        const uint8_t digit = (uint8_t)(rest >> bits);
        if (written < DIGITS)
            n->digit[written++] = digit;
        else
            n->more |= digit != 0;
        rest &= mask;
        if (read >= n->count && !rest)
            break;
        rest = rest * 10 + (read < n->count ? n->digit[read] : 0);
    }
    n->count = written;
    trim(n);
}

/* Times 2^bits, however many. */
static void scale(number *n, int bits) {
    while (bits > 0) {
        const int some = bits < STEP ? bits : STEP;
        multiply(n, some), bits -= some;
    }
    while (bits < 0) {
        const int some = -bits < STEP ? -bits : STEP;
        divide(n, some), bits += some;
    }
}

/* Whether the nearest number of so many digits, fewer than there are, is greater; ties go to the even one. */
static int goes_up(const number *n, int digits) {
    if (n->digit[digits] == 5 && digits + 1 == n->count && !n->more)
        return digits > 0 && n->digit[digits - 1] % 2;
    return n->digit[digits] >= 5;
}

/* So many digits, the number below or above. */
static void cut(number *n, int digits, int up) {
    if (digits >= n->count)
        return;
    n->count = digits;
    n->more = 0;
    while (up && n->count > 0 && n->digit[n->count - 1] == 9)
        n->count--;
    if (up && n->count > 0)
        n->digit[n->count - 1]++;
    else if (up)
        n->digit[0] = 1, n->count = 1, n->point++;
    trim(n);
}

/* The nearest double of a number that is not negative; changes it. */
static double nearest(number *n) {
    if (!n->count || n->point < -400)
        return 0.0;
    if (n->point > 400)
        return INFINITY;
    int exponent = 0; /* the number times 2^exponent is what was given */
    while (n->point > 0) { /* below 1 */
        const int bits = n->point > 17 ? STEP : 3 * n->point;
        scale(n, -bits), exponent += bits;
    }
    while (n->point < 0 || n->digit[0] < 5) { /* and from 1/2 on */
        const int bits = n->point < -18 ? STEP : n->point < 0 ? -3 * n->point : 1;
        scale(n, bits), exponent -= bits;
    }
    /* as a whole number of 53 bits, or fewer where its last bit would lie below that of the least number */
    const int bits = exponent < -1021 ? 53 - (-1021 - exponent) : 53;
    if (bits < 0)
        return 0.0;
    scale(n, bits);
    const int digits = n->point > 0 ? n->point : 0;
    if (digits < n->count)
        cut(n, digits, goes_up(n, digits));
    double whole = 0.0;
    for (int i = 0; i < n->point; i++)
        whole = whole * 10 + (i < n->count ? n->digit[i] : 0);
    return ldexp(whole, exponent - bits);
}

static int is_space(uint8_t c) { return c == ' ' || (c >= 9 && c <= 13); }
static int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static int spells(const uint8_t *text, const uint8_t *end, const char *word) {
    for (; *word && text < end; word++, text++)
        if ((*text | 32) != *word)
            return 0;
    return !*word && text == end;
}

double st_decimal_read(const uint8_t *text, int64_t length) {
    const uint8_t *end = text + length;
    while (text < end && is_space(*text))
        text++;
    while (end > text && is_space(end[-1]))
        end--;
    const double sign = text < end && *text == '-' ? -1.0 : 1.0;
    if (text < end && (*text == '-' || *text == '+'))
        text++;
    if (spells(text, end, "inf") || spells(text, end, "infinity"))
        return sign * INFINITY;
    number n = {0};
    int any = 0, behind = 0;
    int64_t point = 0;
    for (; text < end && (is_digit(*text) || (*text == '.' && !behind)); text++) {
        if (*text == '.') {
            behind = 1;
            continue;
        }
        any = 1;
        point += !behind;
        if (*text == '0' && !n.count)
            point--; /* a zero in front */
        else if (n.count < DIGITS)
            n.digit[n.count++] = (uint8_t)(*text - '0');
        else
            n.more |= *text != '0';
    }
    if (!any)
        return NAN;
    if (text < end && (*text | 32) == 'e') {
        const int negative = ++text < end && *text == '-';
        int64_t exponent = 0;
        if (text < end && (*text == '-' || *text == '+'))
            text++;
        if (text == end)
            return NAN;
        for (; text < end && is_digit(*text); text++)
            exponent = exponent < 100000 ? exponent * 10 + (*text - '0') : exponent;
        point += negative ? -exponent : exponent;
    }
    if (text != end)
        return NAN;
    n.point = (int)(point > 1000 ? 1000 : point < -1000 ? -1000 : point);
    trim(&n);
    return sign * nearest(&n);
}

int64_t st_decimal_read_whole(const uint8_t *text, int64_t length) {
    const uint8_t *at = text, *end = text + length;
    while (at < end && is_space(*at))
        at++;
    while (end > at && is_space(end[-1]))
        end--;
    const int negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+'))
        at++;
    const uint64_t most = (uint64_t)INT64_MAX + (uint64_t)negative;
    uint64_t magnitude = 0;
    const uint8_t *const first = at;
    for (; at < end && is_digit(*at); at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        magnitude = magnitude > (most - digit) / 10 ? most : magnitude * 10 + digit;
    }
    if (at == first || at != end) {
        const double value = st_decimal_read(text, length);
        return value != value ? 0 : value >= 0x1p63 ? INT64_MAX : value < -0x1p63 ? INT64_MIN : (int64_t)value;
    }
    return (int64_t)(negative ? ~magnitude + 1 : magnitude);
}

int st_decimal_write_whole(uint64_t magnitude, int negative, uint8_t *text) {
    uint8_t back[GROWN + 1];
    int count = 0, length = 0;
    do
        back[count++] = (uint8_t)('0' + magnitude % 10);
    while (magnitude /= 10);
    if (negative)
        text[length++] = '-';
    while (count)
        text[length++] = back[--count];
    return length;
}

int st_decimal_write(double value, int single, uint8_t *text) {
    int length = 0;
    if (value != value) {
        memcpy(text, "nan", 3);
        return 3;
    }
    if (signbit(value))
        text[length++] = '-', value = -value;
    if (value == INFINITY) {
        memcpy(text + length, "inf", 3);
        return length + 3;
    }
    number exact = {0}, few = {0};
    if (value != 0.0) {
        int exponent;
        uint64_t whole = (uint64_t)ldexp(frexp(value, &exponent), 53);
        uint8_t digits[ST_DECIMAL_TEXT];
        exact.count = exact.point = st_decimal_write_whole(whole, 0, digits);
        for (int i = 0; i < exact.count; i++)
            exact.digit[i] = (uint8_t)(digits[i] - '0');
        trim(&exact);
        scale(&exact, exponent - 53);
        /* the nearest of so many digits, or, since below a power of two neighbours are nearer, the other one; all digits do */
        for (int tried = 2, same = 0; !same && tried < 2 * 18; tried++) {
            const int kept = tried / 2;
            few = exact;
            if (kept < exact.count)
                cut(&few, kept, goes_up(&exact, kept) ^ tried % 2);
            number copy = few;
            const double back = nearest(&copy);
            same = single ? (float)back == (float)value : back == value;
        }
    } else {
        few.point = 1;
    }
    if (few.point > -4 && few.point <= 16) {
        if (few.point <= 0)
            text[length++] = '0';
        for (int at = 0; at < few.point; at++)
            text[length++] = (uint8_t)('0' + (at < few.count ? few.digit[at] : 0));
        text[length++] = '.';
        for (int zero = few.point; zero < 0; zero++)
            text[length++] = '0';
        if (few.point >= few.count)
            text[length++] = '0';
        for (int at = few.point > 0 ? few.point : 0; at < few.count; at++)
            text[length++] = (uint8_t)('0' + few.digit[at]);
        return length;
    }
    text[length++] = (uint8_t)('0' + few.digit[0]);
    if (few.count > 1)
        text[length++] = '.';
    for (int at = 1; at < few.count; at++)
        text[length++] = (uint8_t)('0' + few.digit[at]);
    const int exponent = few.point - 1, size = exponent < 0 ? -exponent : exponent;
    text[length++] = 'e';
    text[length++] = exponent < 0 ? '-' : '+';
    if (size < 10)
        text[length++] = '0';
    return length + st_decimal_write_whole((uint64_t)size, 0, text + length);
}
