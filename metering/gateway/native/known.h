/* What was seen before, by its bytes: keys in an arena, a number for each, and which one came after which.

Senders repeat an order, so what a key is compared with first is what came after the one before it last time; only where
that fails it is hashed, under a secret, so that no sender can choose keys that collide. Keys are compared whole.
*/
#ifndef BYOC_KNOWN_H
#define BYOC_KNOWN_H

#include "../../../collector/native/siphash.h"

#include <stdlib.h>

#define NONE UINT32_MAX
#define MOST_ARENA 0xf0000000ull /* offsets have 32 bits */
#define MOST_ENTRIES 0x20000000u

typedef struct {
    uint32_t at, size; /* of the key in the arena */
    uint32_t hash;
    int32_t number;
    uint32_t next; /* the entry that followed last time, NONE */
} Entry;

typedef struct {
    uint8_t *arena;
    uint64_t used, room;
    Entry *entries;
    uint32_t count, entry_room;
    uint32_t *slots; /* entries, NONE: empty */
    uint32_t mask;
    uint64_t secret[2];
} Known;

/* -1: no memory. */
static int known_begin(Known *k, const uint8_t secret[16])
{
    memcpy(k->secret, secret, 16);
    k->mask = 63;
    k->slots = malloc(64 * sizeof(uint32_t));
    if (k->slots == NULL)
        return -1;
    memset(k->slots, 0xff, 64 * sizeof(uint32_t));
    return 0;
}

static void known_end(Known *k)
{
    free(k->arena);
    free(k->entries);
    free(k->slots);
}

static size_t known_bytes(const Known *k)
{
    return k->room + (size_t)k->entry_room * sizeof(Entry) + ((size_t)k->mask + 1) * sizeof(uint32_t);
}

static inline uint32_t known_hash(const Known *k, const uint8_t *key, size_t size)
{
    return (uint32_t)siphash(k->secret, key, size);
}

/* Whether `entry` has this key. */
static inline int known_is(const Known *k, uint32_t entry, const uint8_t *key, size_t size)
{
    const Entry *e = &k->entries[entry];
    return e->size == size && (size == 0 || memcmp(k->arena + e->at, key, size) == 0);
}

static uint32_t known_find(const Known *k, uint32_t hash, const uint8_t *key, size_t size)
{
    for (uint32_t slot = hash & k->mask;; slot = (slot + 1) & k->mask) {
        uint32_t entry = k->slots[slot];
        if (entry == NONE || (k->entries[entry].hash == hash && known_is(k, entry, key, size)))
            return entry;
    }
}

static int known_grow(Known *k, size_t size)
{
    if (k->used + size > MOST_ARENA || k->count >= MOST_ENTRIES)
        return -1;
    if (k->used + size > k->room) {
        uint64_t room = k->used + size + k->room / 2 + 4096;
        room = room > MOST_ARENA ? MOST_ARENA : room;
        uint8_t *arena = realloc(k->arena, room);
        if (arena == NULL)
            return -1;
        k->arena = arena;
        k->room = room;
    }
    if (k->count == k->entry_room) {
        uint32_t room = k->entry_room + k->entry_room / 2 + 64;
        Entry *entries = realloc(k->entries, room * sizeof(Entry));
        if (entries == NULL)
            return -1;
        k->entries = entries;
        k->entry_room = room;
    }
    if ((uint64_t)k->count * 2 > k->mask) {
        uint32_t mask = k->mask * 2 + 1;
        uint32_t *slots = malloc(((size_t)mask + 1) * sizeof(uint32_t));
        if (slots == NULL)
            return -1;
        memset(slots, 0xff, ((size_t)mask + 1) * sizeof(uint32_t));
        for (uint32_t entry = 0; entry < k->count; entry++) {
            uint32_t slot = k->entries[entry].hash & mask;
            while (slots[slot] != NONE)
                slot = (slot + 1) & mask;
            slots[slot] = entry;
        }
        free(k->slots);
        k->slots = slots;
        k->mask = mask;
    }
    return 0;
}

/* A key that is not there yet. NONE: no memory, or no room. */
static uint32_t known_add(Known *k, uint32_t hash, const uint8_t *key, size_t size, int32_t number)
{
    if (size >= MOST_ARENA || known_grow(k, size) < 0)
        return NONE;
    if (size)
        memcpy(k->arena + k->used, key, size);
    k->entries[k->count] = (Entry){(uint32_t)k->used, (uint32_t)size, hash, number, NONE};
    k->used += size;
    uint32_t slot = hash & k->mask;
    while (k->slots[slot] != NONE)
        slot = (slot + 1) & k->mask;
    k->slots[slot] = k->count;
    return k->count++;
}

/* What came after `last`, NONE. */
static inline uint32_t known_next(const Known *k, uint32_t last) { return last == NONE ? NONE : k->entries[last].next; }

static inline void known_follow(Known *k, uint32_t last, uint32_t entry)
{
    if (last != NONE)
        k->entries[last].next = entry;
}

#endif
