/* Keys by number. Of a key its mark is kept, and its bytes only while it is new.

Numbers begin at 0; those of keys that are gone are used again. A scan is pending until it is kept or forgotten: what it
adds stands in `born`, so that forgetting it takes only that away.
*/
#ifndef BYOC_KEYS_H
#define BYOC_KEYS_H

#include "mark.h"
#include "pages.h"
#include "vector.h"

#define FREE UINT32_MAX     /* the size of a number that no key has */
#define FORMAT 0x80000000u  /* in a size: the key is spelled in OpenMetrics */
#define MOST_TEXT 0xf0000000ull /* offsets have 32 bits */
#define QUOTED 0u           /* the name of keys that begin with braces */

typedef struct {
    Mark mark;
    uint32_t size;  /* of the key, with the mark of its format; FREE */
    int32_t row;    /* its first in `order`, if that is indexed; below 0: it is born, -1 - row is its place there */
    uint32_t stamp; /* of the last scan that met it, or, and 1, found it to be gone */
    uint32_t name;  /* a hash of it, never QUOTED but for those */
} Entry;

typedef struct {
    Secrets secrets;
    Entry *entries;
    int32_t limit, entry_room;
    int32_t *slots; /* numbers by hash, -1: empty */
    uint32_t mask, hashed;
    uint32_t stamp;
    Ints free;
    Ints order; /* numbers of the plain rows that were kept */
    Ints odd;   /* of the odd ones */
    int is_indexed;
    int32_t live;
    /* what is pending */
    int is_pending;
    int32_t met; /* different keys of the last kept reading */
    Ints born, replaced; /* replaced[i]: the number that the key of born[i] had, -1: none */
    Ints ends;           /* where the text of born[i] ends */
    Ints gone;           /* that were found to be, and may have been met since */
    Text text;           /* of the born keys, one behind the other */
    size_t released;     /* so much of the text is not there any more */
    Ints renewed;        /* names, ascending, whose keys get other numbers than they had */
} Table;

static inline uint32_t length_of(const Entry *entry) { return entry->size & ~FORMAT; }

static inline int is_born(const Entry *entry) { return entry->row < 0; }

static inline int is_equal(const Entry *entry, Mark mark, uint32_t size)
{
    return entry->mark.first == mark.first && entry->mark.second == mark.second && entry->size == size;
}

static inline int is_name(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '0') < 10 || byte == '_' || byte == ':';
}

static uint32_t hash_of_name(const Table *t, const uint8_t *name, size_t size)
{
    uint32_t hash = (uint32_t)siphash(t->secrets.sip[2], name, size);
    return size == 0 ? QUOTED : hash == QUOTED ? 1 : hash;
}

static uint32_t name_of_key(const Table *t, const uint8_t *key, size_t size)
{
    size_t end = 0;
    while (end < size && is_name(key[end]))
        end++;
    return hash_of_name(t, key, end);
}

static int table_begin(Table *t, const uint8_t secret[16])
{
    draw_secrets(&t->secrets, secret);
    t->mask = 63;
    t->slots = malloc(64 * sizeof(int32_t));
    if (t->slots == NULL)
        return -1;
    memset(t->slots, 0xff, 64 * sizeof(int32_t));
    return 0;
}

static void table_end(Table *t)
{
    free(t->entries);
    free(t->slots);
    free(t->free.items);
    free(t->order.items);
    free(t->odd.items);
    free(t->gone.items);
    free(t->born.items);
    free(t->replaced.items);
    free(t->ends.items);
    free(t->text.items);
    free(t->renewed.items);
}

static inline uint32_t home_of(const Table *t, int32_t number) { return (uint32_t)t->entries[number].mark.first; }

/* The number of a key, -1 where it has none. `size` with the mark of the format. */
static int32_t find(const Table *t, Mark mark, uint32_t size)
{
    for (uint32_t place = (uint32_t)mark.first & t->mask;; place = (place + 1) & t->mask) {
        int32_t number = t->slots[place];
        if (number < 0 || is_equal(&t->entries[number], mark, size))
            return number;
    }
}

/* The place of a number in the hash table; UINT32_MAX: it has none, as another number replaced it. */
static uint32_t place_of(const Table *t, int32_t number)
{
    uint32_t place = home_of(t, number) & t->mask;
    while (t->slots[place] >= 0 && t->slots[place] != number)
        place = (place + 1) & t->mask;
    return t->slots[place] == number ? place : UINT32_MAX;
}

static int resize_slots(Table *t, uint32_t mask)
{
    int32_t *slots = malloc(((size_t)mask + 1) * sizeof(int32_t));
    if (slots == NULL)
        return -1;
    memset(slots, 0xff, ((size_t)mask + 1) * sizeof(int32_t));
    for (uint64_t from = 0; from <= t->mask; from++) {
        int32_t number = t->slots[from];
        if (number < 0)
            continue;
        uint32_t place = home_of(t, number) & mask;
        while (slots[place] >= 0)
            place = (place + 1) & mask;
        slots[place] = number;
    }
    free(t->slots);
    t->slots = slots;
    t->mask = mask;
    return 0;
}

static void remove_slot(Table *t, uint32_t place)
{
    uint32_t hole = place;
    for (uint32_t next = (hole + 1) & t->mask; t->slots[next] >= 0; next = (next + 1) & t->mask) {
        uint32_t home = home_of(t, t->slots[next]) & t->mask;
        if (((next - home) & t->mask) >= ((next - hole) & t->mask)) {
            t->slots[hole] = t->slots[next];
            hole = next;
        }
    }
    t->slots[hole] = -1;
    t->hashed--;
}

static int32_t take_number(Table *t)
{
    if (t->free.count)
        return t->free.items[--t->free.count];
    if (t->limit == t->entry_room) {
        if (t->limit > INT32_MAX / 2)
            return -1;
        int32_t room = t->limit + t->limit / 8 + 64;
        Entry *entries = realloc(t->entries, (size_t)room * sizeof(Entry));
        if (entries == NULL)
            return -1;
        t->entries = entries;
        t->entry_room = room;
    }
    return t->limit++;
}

/* A number for a key that has none, or, where `replaced` is no less than 0, for one that gets another than this.
-1: no memory. */
static int32_t insert(Table *t, Mark mark, const uint8_t *key, uint32_t size, int32_t replaced)
{
    if (((uint64_t)t->hashed + 1) * 2 > t->mask &&
        (t->mask >= UINT32_MAX / 2 || resize_slots(t, t->mask * 2 + 1) < 0))
        return -1;
    uint32_t length = size & ~FORMAT;
    if (t->text.count + length > MOST_TEXT || ints_reserve(&t->born, 1) < 0 || ints_reserve(&t->replaced, 1) < 0 ||
        ints_reserve(&t->ends, 1) < 0 || ints_reserve(&t->free, 1 + t->born.count) < 0 ||
        text_push(&t->text, key, length) < 0)
        return -1;
    int32_t number = take_number(t);
    if (number < 0) {
        t->text.count -= length;
        return -1;
    }
    uint32_t name = name_of_key(t, key, length);
    t->entries[number] = (Entry){mark, size, -1 - (int32_t)t->born.count, t->stamp, name};
    ints_push(&t->born, number);
    ints_push(&t->replaced, replaced);
    ints_push(&t->ends, (int32_t)(uint32_t)t->text.count);
    uint32_t place = replaced >= 0 ? place_of(t, replaced) : (uint32_t)mark.first & t->mask;
    while (replaced < 0 && t->slots[place] >= 0)
        place = (place + 1) & t->mask;
    t->slots[place] = number;
    t->hashed += replaced < 0;
    return number;
}

/* Where the text of a born key is. */
static const uint8_t *text_of(const Table *t, const Entry *entry)
{
    int32_t place = -1 - entry->row;
    return t->text.items + (place ? (uint32_t)t->ends.items[place - 1] : 0);
}

/* The text of this born key, and of those born before it, is not asked for again. */
static void release(Table *t, const Entry *entry)
{
    size_t end = (uint32_t)t->ends.items[-1 - entry->row];
    if (end <= t->released)
        return;
    give_back(t->text.items + t->released, t->text.items + end);
    t->released = end;
}

#endif
