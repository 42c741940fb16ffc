/* Arrays that grow. */
#ifndef BYOC_VECTOR_H
#define BYOC_VECTOR_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t *items;
    size_t count, room;
} Ints;

typedef struct {
    uint8_t *items;
    size_t count, room;
} Text;

/* Room for so many more. -1: no memory, nothing changed. */
static inline int ints_reserve(Ints *ints, size_t more)
{
    if (ints->room - ints->count >= more)
        return 0;
    size_t room = ints->count + more + ints->count / 4 + 64;
    int32_t *items = realloc(ints->items, room * sizeof(int32_t));
    if (items == NULL)
        return -1;
    ints->items = items;
    ints->room = room;
    return 0;
}

/* Less room, where far less is in it than there was. */
static inline void ints_shrink(Ints *ints)
{
    if (ints->room < 65536 || ints->room / 4 < ints->count)
        return;
    int32_t *items = realloc(ints->items, (ints->count + 64) * sizeof(int32_t));
    if (items == NULL)
        return;
    ints->items = items;
    ints->room = ints->count + 64;
}

static inline void ints_swap(Ints *one, Ints *other)
{
    Ints kept = *one;
    *one = *other;
    *other = kept;
}

/* There must be room. */
static inline void ints_push(Ints *ints, int32_t item) { ints->items[ints->count++] = item; }

/* Nothing is in it any more; of what it took little is kept. */
static inline void ints_clear(Ints *ints)
{
    ints->count = 0;
    if (ints->room > 16384) {
        free(ints->items);
        ints->items = NULL;
        ints->room = 0;
    }
}

/* -1: no memory, nothing changed. */
static inline int text_push(Text *text, const uint8_t *bytes, size_t size)
{
    if (text->room - text->count < size) {
        size_t room = text->count + size + text->count / 8 + 256;
        uint8_t *items = realloc(text->items, room);
        if (items == NULL)
            return -1;
        text->items = items;
        text->room = room;
    }
    if (size)
        memcpy(text->items + text->count, bytes, size);
    text->count += size;
    return 0;
}

/* Nothing is in it any more; of what it took little is kept. */
static inline void text_clear(Text *text)
{
    text->count = 0;
    if (text->room > 65536) {
        free(text->items);
        text->items = NULL;
        text->room = 0;
    }
}

#endif
