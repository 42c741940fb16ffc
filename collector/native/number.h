/* Decimal numbers: exactly, or not at all.

A significand up to 2^53 and a power of ten up to 22 are doubles without an error, so that their product or quotient
is rounded once, as the correctly rounded reader does (Clinger 1990). Whatever else is spelled as a number is left to it.
*/
#ifndef BYOC_NUMBER_H
#define BYOC_NUMBER_H

#include <float.h>
#include <stdint.h>
#include <string.h>

enum { NOT_A_NUMBER, EXACT, NEEDS_ROUNDING };
enum { MOST_DIGITS = 19 }; /* fit in 64 bits */

static const double POWERS[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline double of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

/* NaN, Inf, +Inf or -Inf, as nearly every target spells them. */
static inline int spelled(const uint8_t **at, const uint8_t *end, double *value)
{
    const uint8_t *from = *at;
    size_t left = (size_t)(end - from);
    if (left >= 3 && memcmp(from, "NaN", 3) == 0) {
        *value = of_bits(0x7ff8000000000001ULL); /* the one that is stored */
        *at = from + 3;
        return EXACT;
    }
    int is_negative = left > 0 && *from == '-';
    if (left > 0 && (*from == '-' || *from == '+'))
        from++;
    if (end - from < 3 || memcmp(from, "Inf", 3) != 0)
        return NOT_A_NUMBER;
    *value = of_bits(is_negative ? 0xfff0000000000000ULL : 0x7ff0000000000000ULL);
    *at = from + 3;
    return EXACT;
}

/* The number at *at, which is moved behind it; what follows is for the caller to judge. */
static inline int read_number(const uint8_t **at, const uint8_t *end, double *value)
{
    const uint8_t *from = *at;
    uint64_t significand = 0;
    int digits = 0, power = 0, is_there = 0, is_long = 0, is_negative = 0;
    if (from < end && (*from == '-' || *from == '+'))
        is_negative = *from++ == '-';
    for (; from < end && (uint8_t)(*from - '0') <= 9; from++) {
        is_there = 1;
        if (digits < MOST_DIGITS) {
            significand = significand * 10 + (uint64_t)(*from - '0');
            digits += significand != 0;
        } else {
            is_long = 1;
        }
    }
    if (from < end && *from == '.') {
        for (from++; from < end && (uint8_t)(*from - '0') <= 9; from++) {
            is_there = 1;
            if (digits < MOST_DIGITS && power > -1000) {
                significand = significand * 10 + (uint64_t)(*from - '0');
                digits += significand != 0;
                power--;
            } else {
                is_long = 1;
            }
        }
    }
    if (!is_there)
        return spelled(at, end, value);
    if (from < end && (*from == 'e' || *from == 'E')) {
        int exponent = 0, falls = 0;
        from++;
        if (from < end && (*from == '-' || *from == '+'))
            falls = *from++ == '-';
        if (from == end || (uint8_t)(*from - '0') > 9)
            return NOT_A_NUMBER;
        for (; from < end && (uint8_t)(*from - '0') <= 9; from++)
            if (exponent < 100000)
                exponent = exponent * 10 + (*from - '0');
        power += falls ? -exponent : exponent;
    }
    *at = from;
    if (significand == 0 && !is_long) {
        *value = is_negative ? -0.0 : 0.0;
        return EXACT;
    }
#if FLT_EVAL_METHOD == 0
    if (!is_long && significand <= (1ULL << 53) && power >= -22 && power <= 22) {
        double size = (double)significand;
        size = power < 0 ? size / POWERS[-power] : size * POWERS[power];
        *value = is_negative ? -size : size;
        return EXACT;
    }
#endif
    return NEEDS_ROUNDING;
}

#endif
