/* 128 bits that stand for a key, whose bytes are then not kept: two keys of one length have the same mark with a chance
of about 2^-125, whoever chose them, as long as he does not know the table's secret, of which nothing can be seen outside.

Up to 512 bytes: NH with 64-bit words (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999: UMAC), twice with a key that is
shifted by a pair (Toeplitz), each sum of 128 bits brought to 64 by multilinear hashing (Dietzfelbinger 1996). Longer
ones: SipHash under two keys. */
#ifndef BYOC_MARK_H
#define BYOC_MARK_H

#include "siphash.h"

#define MOST_SUMMED 512u /* bytes */

__extension__ typedef unsigned __int128 Wide;

typedef struct {
    uint64_t first, second;
} Mark;

typedef struct {
    uint64_t pairs[MOST_SUMMED / 8 + 2];
    Wide low[2], high[2], added[2];
    uint64_t sip[3][2]; /* the third: of names */
} Secrets;

static uint64_t drawn(const uint64_t secret[2], uint64_t *count)
{
    uint64_t number = (*count)++;
    return siphash(secret, (const uint8_t *)&number, 8);
}

static Wide drawn_wide(const uint64_t secret[2], uint64_t *count)
{
    Wide high = drawn(secret, count);
    return high << 64 | drawn(secret, count);
}

static void draw_secrets(Secrets *all, const uint8_t bytes[16])
{
    uint64_t secret[2], count = 0;
    memcpy(secret, bytes, 16);
    for (size_t i = 0; i < sizeof all->pairs / 8; i++)
        all->pairs[i] = drawn(secret, &count);
    for (int i = 0; i < 2; i++) {
        all->low[i] = drawn_wide(secret, &count);
        all->high[i] = drawn_wide(secret, &count);
        all->added[i] = drawn_wide(secret, &count);
    }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++)
            all->sip[i][j] = drawn(secret, &count);
}

static inline uint64_t brought_to_64(const Secrets *all, int which, Wide sum)
{
    Wide mixed = all->added[which] + all->low[which] * (uint64_t)sum + all->high[which] * (uint64_t)(sum >> 64);
    return (uint64_t)(mixed >> 64);
}

static inline uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

static inline void add_pair(const uint64_t *key, uint64_t left, uint64_t right, Wide *first, Wide *second)
{
    *first += (Wide)(left + key[0]) * (right + key[1]);
    *second += (Wide)(left + key[2]) * (right + key[3]);
}

static Mark mark_of(const Secrets *all, const uint8_t *bytes, size_t size)
{
    if (size > MOST_SUMMED)
        return (Mark){siphash(all->sip[0], bytes, size), siphash(all->sip[1], bytes, size)};
    const uint64_t *key = all->pairs;
    Wide first = 0, second = 0;
    size_t at = 0;
    for (; at + 16 <= size; at += 16, key += 2)
        add_pair(key, word_at(bytes + at), word_at(bytes + at + 8), &first, &second);
    if (at < size) {
        uint8_t rest[16] = {0};
        memcpy(rest, bytes + at, size - at);
        add_pair(key, word_at(rest), word_at(rest + 8), &first, &second);
    }
    return (Mark){brought_to_64(all, 0, first), brought_to_64(all, 1, second)};
}

#endif
