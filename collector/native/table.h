/* What a scan adds to the keys is pending until it is kept or forgotten. */
#ifndef BYOC_TABLE_H
#define BYOC_TABLE_H

#include "keys.h"

static int compare_names(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void sort_names(Ints *names)
{
    if (names->count)
        qsort(names->items, names->count, sizeof(int32_t), compare_names);
}

static int is_renewed(const Table *t, uint32_t name)
{
    size_t low = 0, high = t->renewed.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        uint32_t one = (uint32_t)t->renewed.items[middle];
        if (one == name)
            return 1;
        if (one < name)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static void begin(Table *t)
{
    t->is_pending = 1;
    t->met = 0;
    t->stamp += 2;
}

/* A key was met; whether it was one of the last kept reading or is new. */
static inline void meet(Table *t, Entry *entry)
{
    t->met += entry->stamp != t->stamp;
    entry->stamp = t->stamp;
}

/* Nothing is pending any more. */
static void settle(Table *t)
{
    ints_clear(&t->born);
    ints_clear(&t->replaced);
    ints_clear(&t->ends);
    ints_clear(&t->renewed);
    ints_clear(&t->gone);
    if (t->free.count == 0)
        ints_clear(&t->free);
    text_clear(&t->text);
    t->released = 0;
    t->is_pending = 0;
}

/* Take back what the pending scan added. */
static void forget(Table *t)
{
    for (int64_t i = (int64_t)t->born.count - 1; t->is_pending && i >= 0; i--) {
        int32_t number = t->born.items[i], old = t->replaced.items[i];
        uint32_t place = place_of(t, number);
        if (old >= 0)
            t->slots[place] = old;
        else
            remove_slot(t, place);
        t->entries[number].size = FREE;
        if (number == t->limit - 1)
            t->limit--;
        else
            ints_push(&t->free, number); /* insert made room for it */
    }
    settle(t);
}

/* Numbers at the end that are free are none any more; of the rest the lowest is used next. */
static void trim(Table *t)
{
    int32_t limit = t->limit;
    while (limit > 0 && t->entries[limit - 1].size == FREE)
        limit--;
    t->free.count = 0;
    for (int32_t number = limit - 1; number >= 0; number--)
        if (t->entries[number].size == FREE)
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

/* Of these numbers of the last kept reading, those that were not met are gone. -1: no memory. */
static int note_gone(Table *t, const Ints *some)
{
    for (size_t i = 0; i < some->count; i++) {
        Entry *entry = &t->entries[some->items[i]];
        if (entry->stamp == t->stamp || entry->stamp == t->stamp + 1)
            continue;
        if (ints_reserve(&t->gone, 1) < 0)
            return -1;
        entry->stamp = t->stamp + 1;
        ints_push(&t->gone, some->items[i]);
    }
    return 0;
}

static inline int is_gone(const Table *t, int32_t number) { return t->entries[number].stamp == t->stamp + 1; }

/* The pending scan is the last one from now on: keys that are gone are free. -1: no memory, nothing changed. */
static int keep(Table *t)
{
    if (ints_reserve(&t->free, t->gone.count) < 0)
        return -1;
    t->live = t->met + (int32_t)t->born.count;
    for (size_t i = 0; i < t->gone.count; i++) {
        int32_t number = t->gone.items[i];
        if (!is_gone(t, number))
            continue;
        uint32_t place = place_of(t, number);
        if (place != UINT32_MAX)
            remove_slot(t, place);
        t->entries[number].size = FREE;
        ints_push(&t->free, number);
    }
    for (size_t i = 0; i < t->born.count; i++)
        t->entries[t->born.items[i]].row = 0;
    t->is_indexed = 0;
    settle(t);
    if (t->free.count > 4096 && (int32_t)t->free.count > t->limit / 2)
        trim(t);
    return 0;
}

#endif
