/* Arrays that grow. */
#ifndef BYOC_VECTOR_H
#define BYOC_VECTOR_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int32_t *items;
    size_t count, room;
} Ints;

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

/* There must be room. */
static inline void ints_push(Ints *ints, int32_t item) { ints->items[ints->count++] = item; }

#endif
