/* Keys by number. A key's bytes stand in an arena behind its number and its length; a hash table finds the number.

Numbers begin at 0; those of keys that are gone are used again. A scan is pending until it is kept or forgotten: what it
adds stands at the end of the arena and in `born`, so that forgetting it takes only that away.
*/
#ifndef BYOC_TABLE_H
#define BYOC_TABLE_H

#include "siphash.h"
#include "vector.h"

#define NOWHERE UINT32_MAX
#define HEAD 8u                   /* bytes in front of a key: its number, and its length with the mark of its format */
#define FORMAT 0x80000000u        /* in a length: the key is spelled in OpenMetrics */
#define MOST_ARENA 0xf0000000ull  /* offsets have 32 bits */

typedef struct {
    uint32_t at;    /* of the key's bytes in the arena; NOWHERE: the number is free */
    int32_t row;    /* in the last kept reading; -1: none */
    uint32_t stamp; /* of the last scan that met it */
} Entry;

typedef struct {
    uint32_t hash;
    int32_t number; /* -1: empty */
} Slot;

typedef struct {
    uint8_t *arena;
    uint64_t used, room, dead;
    Entry *entries;
    int32_t limit, entry_room;
    Slot *slots;
    uint32_t mask, hashed;
    uint64_t secret[2];
    uint32_t stamp;
    Ints free;
    Ints order; /* numbers of the plain rows that were kept */
    int32_t live;
    /* what is pending */
    int is_pending;
    int32_t met; /* different keys of the last kept reading */
    uint64_t used_before;
    Ints born, replaced; /* replaced[i]: the number that the key of born[i] had, -1: none */
} Table;

static inline uint32_t head_of(const Table *t, uint32_t at, int which)
{
    uint32_t word;
    memcpy(&word, t->arena + at - HEAD + 4 * which, 4);
    return word;
}

static inline uint32_t length_of(const Table *t, uint32_t at) { return head_of(t, at, 1) & ~FORMAT; }

static inline uint32_t hash_of(const Table *t, const uint8_t *key, uint32_t size)
{
    return (uint32_t)siphash(t->secret, key, size);
}

static int table_begin(Table *t, const uint8_t secret[16])
{
    memcpy(t->secret, secret, 16);
    t->mask = 63;
    t->slots = malloc(64 * sizeof(Slot));
    if (t->slots == NULL)
        return -1;
    memset(t->slots, 0xff, 64 * sizeof(Slot));
    return 0;
}

static void table_end(Table *t)
{
    free(t->arena);
    free(t->entries);
    free(t->slots);
    free(t->free.items);
    free(t->order.items);
    free(t->born.items);
    free(t->replaced.items);
}

/* The number of a key, -1 where it is none. `size` with the mark of the format. */
static int32_t find(const Table *t, uint32_t hash, const uint8_t *key, uint32_t size)
{
    for (uint32_t place = hash & t->mask;; place = (place + 1) & t->mask) {
        Slot slot = t->slots[place];
        if (slot.number < 0)
            return -1;
        if (slot.hash == hash) {
            uint32_t at = t->entries[slot.number].at;
            if (head_of(t, at, 1) == size && memcmp(t->arena + at, key, size & ~FORMAT) == 0)
                return slot.number;
        }
    }
}

/* The place of a number in the hash table; UINT32_MAX: it has none, as another number replaced it. */
static uint32_t place_of(const Table *t, int32_t number)
{
    uint32_t at = t->entries[number].at;
    uint32_t place = hash_of(t, t->arena + at, length_of(t, at)) & t->mask;
    while (t->slots[place].number >= 0 && t->slots[place].number != number)
        place = (place + 1) & t->mask;
    return t->slots[place].number == number ? place : UINT32_MAX;
}

static void put_slot(Slot *slots, uint32_t mask, Slot slot)
{
    uint32_t place = slot.hash & mask;
    while (slots[place].number >= 0)
        place = (place + 1) & mask;
    slots[place] = slot;
}

static int resize_slots(Table *t, uint32_t mask)
{
    Slot *slots = malloc(((size_t)mask + 1) * sizeof(Slot));
    if (slots == NULL)
        return -1;
    memset(slots, 0xff, ((size_t)mask + 1) * sizeof(Slot));
    for (uint64_t place = 0; place <= t->mask; place++)
        if (t->slots[place].number >= 0)
            put_slot(slots, mask, t->slots[place]);
    free(t->slots);
    t->slots = slots;
    t->mask = mask;
    return 0;
}

static void remove_slot(Table *t, uint32_t place)
{
    uint32_t hole = place;
    for (uint32_t next = (hole + 1) & t->mask; t->slots[next].number >= 0; next = (next + 1) & t->mask) {
        uint32_t home = t->slots[next].hash & t->mask;
        if (((next - home) & t->mask) >= ((next - hole) & t->mask)) {
            t->slots[hole] = t->slots[next];
            hole = next;
        }
    }
    t->slots[hole].number = -1;
    t->hashed--;
}

static int reserve_arena(Table *t, uint64_t more)
{
    uint64_t wanted = t->used + more;
    if (wanted <= t->room)
        return 0;
    if (wanted > MOST_ARENA)
        return -1;
    uint64_t room = wanted + wanted / 8 + 4096;
    uint8_t *arena = realloc(t->arena, room);
    if (arena == NULL)
        return -1;
    t->arena = arena;
    t->room = room;
    return 0;
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

/* A number for a key that has none, or for one that gets another. -1: no memory, nothing changed. */
static int32_t add_key(Table *t, const uint8_t *key, uint32_t size, int32_t replaced)
{
    uint32_t length = size & ~FORMAT;
    if (reserve_arena(t, HEAD + (uint64_t)length) < 0 || ints_reserve(&t->born, 1) < 0 ||
        ints_reserve(&t->replaced, 1) < 0 || ints_reserve(&t->free, 1 + t->born.count) < 0)
        return -1;
    int32_t number = take_number(t);
    if (number < 0)
        return -1;
    uint32_t at = (uint32_t)t->used + HEAD;
    memcpy(t->arena + at - HEAD, &number, 4);
    memcpy(t->arena + at - 4, &size, 4);
    memcpy(t->arena + at, key, length);
    t->used = at + (uint64_t)length;
    t->entries[number] = (Entry){at, -1, t->stamp};
    ints_push(&t->born, number);
    ints_push(&t->replaced, replaced);
    return number;
}

/* A number for a key that has none. -1: no memory. */
static int32_t insert(Table *t, uint32_t hash, const uint8_t *key, uint32_t size)
{
    if (((uint64_t)t->hashed + 1) * 2 > t->mask &&
        (t->mask >= UINT32_MAX / 2 || resize_slots(t, t->mask * 2 + 1) < 0))
        return -1;
    int32_t number = add_key(t, key, size, -1);
    if (number < 0)
        return -1;
    put_slot(t->slots, t->mask, (Slot){hash, number});
    t->hashed++;
    return number;
}

/* Another number for a key; the old one goes when the scan is kept. -1: no memory. */
static int32_t renew(Table *t, int32_t old)
{
    uint32_t at = t->entries[old].at, size = head_of(t, at, 1), place = place_of(t, old);
    if (reserve_arena(t, HEAD + (uint64_t)(size & ~FORMAT)) < 0) /* before the key's address is taken */
        return -1;
    int32_t number = add_key(t, t->arena + at, size, old);
    if (number < 0)
        return -1;
    t->slots[place].number = number;
    t->entries[old].stamp = t->stamp - 1;
    t->met--;
    return number;
}

static void begin(Table *t)
{
    t->is_pending = 1;
    t->met = 0;
    t->used_before = t->used;
    t->stamp++;
}

/* A key was met; whether it was one of the last kept reading or is new. */
static inline void meet(Table *t, int32_t number)
{
    Entry *entry = &t->entries[number];
    t->met += entry->stamp != t->stamp;
    entry->stamp = t->stamp;
}

/* Take back what the pending scan added. */
static void forget(Table *t)
{
    for (int64_t i = t->born.count - 1; t->is_pending && i >= 0; i--) {
        int32_t number = t->born.items[i], old = t->replaced.items[i];
        uint32_t place = place_of(t, number);
        if (old >= 0)
            t->slots[place].number = old;
        else
            remove_slot(t, place);
        t->entries[number].at = NOWHERE;
        if (number == t->limit - 1)
            t->limit--;
        else
            ints_push(&t->free, number); /* add_key made room for it */
    }
    if (t->is_pending)
        t->used = t->used_before;
    t->born.count = t->replaced.count = 0;
    t->is_pending = 0;
}

/* Close the gaps of the arena, where it stands. */
static void compact(Table *t)
{
    uint64_t to = 0;
    for (uint64_t from = 0; from < t->used;) {
        uint32_t at = (uint32_t)from + HEAD, whole = HEAD + length_of(t, at);
        int32_t number = (int32_t)head_of(t, at, 0);
        if (number < t->limit && t->entries[number].at == at) {
            memmove(t->arena + to, t->arena + from, whole);
            t->entries[number].at = (uint32_t)to + HEAD;
            to += whole;
        }
        from += whole;
    }
    t->used = to;
    t->dead = 0;
    uint64_t room = to + to / 8 + 4096;
    if (t->room > room + room / 4) {
        uint8_t *arena = realloc(t->arena, room);
        if (arena != NULL) {
            t->arena = arena;
            t->room = room;
        }
    }
}

/* Numbers at the end that are free are none any more; of the rest the lowest is used next. */
static void trim(Table *t)
{
    int32_t limit = t->limit;
    while (limit > 0 && t->entries[limit - 1].at == NOWHERE)
        limit--;
    t->free.count = 0;
    for (int32_t number = limit - 1; number >= 0; number--)
        if (t->entries[number].at == NOWHERE)
            t->free.items[t->free.count++] = number;
    t->limit = limit;
    Entry *entries = realloc(t->entries, ((size_t)limit + 64) * sizeof(Entry));
    if (entries != NULL) {
        t->entries = entries;
        t->entry_room = limit + 64;
    }
    uint32_t mask = 63;
    while ((uint64_t)mask < (uint64_t)t->hashed * 3)
        mask = mask * 2 + 1;
    if (mask < t->mask)
        resize_slots(t, mask);
}

/* The pending scan is the last one from now on: keys that it did not meet are gone. -1: no memory, nothing changed. */
static int keep(Table *t)
{
    int32_t before = t->limit;
    if (ints_reserve(&t->free, (size_t)(t->live - t->met)) < 0)
        return -1;
    int32_t live = t->met + (int32_t)t->born.count;
    if (t->met != t->live)
        for (int32_t number = 0; number < before; number++) {
            Entry *entry = &t->entries[number];
            if (entry->at == NOWHERE || entry->stamp == t->stamp)
                continue;
            uint32_t place = place_of(t, number);
            if (place != UINT32_MAX)
                remove_slot(t, place);
            t->dead += HEAD + length_of(t, entry->at);
            entry->at = NOWHERE;
            t->free.items[t->free.count++] = number;
        }
    t->live = live;
    t->born.count = t->replaced.count = 0;
    t->is_pending = 0;
    if (t->dead > t->used / 4 + 65536)
        compact(t);
    if (t->free.count > 4096 && (int32_t)t->free.count > t->limit / 2)
        trim(t);
    return 0;
}

#endif
