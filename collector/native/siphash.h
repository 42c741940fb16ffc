/* SipHash-1-3 (Aumasson, Bernstein 2012) of a byte string under a secret key of 16 bytes. */
#ifndef BYOC_SIPHASH_H
#define BYOC_SIPHASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t rotated(uint64_t word, int bits) { return (word << bits) | (word >> (64 - bits)); }

static inline uint64_t little_endian(const uint8_t *bytes, size_t count)
{
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++)
        word |= (uint64_t)bytes[i] << (8 * i);
    return word;
}

#define SIP_ROUND                                                                                                  \
    do {                                                                                                           \
        a += b; b = rotated(b, 13); b ^= a; a = rotated(a, 32);                                                    \
        c += d; d = rotated(d, 16); d ^= c;                                                                        \
        a += d; d = rotated(d, 21); d ^= a;                                                                        \
        c += b; b = rotated(b, 17); b ^= c; c = rotated(c, 32);                                                    \
    } while (0)

static uint64_t siphash(const uint64_t key[2], const uint8_t *bytes, size_t size)
{
    uint64_t a = key[0] ^ 0x736f6d6570736575ULL, b = key[1] ^ 0x646f72616e646f6dULL;
    uint64_t c = key[0] ^ 0x6c7967656e657261ULL, d = key[1] ^ 0x7465646279746573ULL;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word = little_endian(bytes + at, 8);
        d ^= word;
        SIP_ROUND;
        a ^= word;
    }
    uint64_t last = little_endian(bytes + at, size - at) | (uint64_t)size << 56;
    d ^= last;
    SIP_ROUND;
    a ^= last;
    c ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return a ^ b ^ c ^ d;
}

#endif
