/* The values of one cell against their bases, coded as collector/wire/frames/values.py does it (docs/wire.md). */
#ifndef BYOC_CELLS_H
#define BYOC_CELLS_H

#include <math.h>

#include "number.h"
#include "vector.h"

#define CELL_SLOTS 65536
#define AT_A_TIME 512 /* coded values before they are cut into planes */
#define MOST_PLANES 8
#define BITS 255
#define MOST_DECIMALS 9
#define EXACT_BELOW 9007199254740992.0 /* 2^53 */

/* Coded values of one kind in byte planes, of which only those that are used are written. */
typedef struct {
    uint8_t *planes; /* MOST_PLANES of `room` bytes */
    size_t room, count;
    int used;
    size_t waiting;
    uint64_t any, block[AT_A_TIME];
} Planes;

typedef struct {
    const double *values;
    const uint8_t *live, *present; /* by slot, 0 or 1; present NULL: all that are live */
    const uint8_t *classes;
    const int64_t *coded;
    size_t start, stop;
} Cell;

typedef struct {
    Planes kinds[3];       /* integers, decimals, bits */
    Text bitmap;           /* of the live slots, those that have a value */
    size_t live, absent;
    Ints places[2], slots[2]; /* of values that their class does not hold: integers, decimals */
} Column;

static void planes_flush(Planes *to)
{
    int used = 0;
    while (used < MOST_PLANES && to->any >> (8 * used))
        if (++used == MOST_PLANES)
            break;
    for (; to->used < used; to->used++)
        memset(to->planes + (size_t)to->used * to->room, 0, to->count);
    for (int plane = 0; plane < to->used; plane++) {
        uint8_t *at = to->planes + (size_t)plane * to->room + to->count;
        for (size_t i = 0; i < to->waiting; i++)
            at[i] = (uint8_t)(to->block[i] >> (8 * plane));
    }
    to->count += to->waiting;
    to->waiting = 0;
    to->any = 0;
}

static inline void planes_push(Planes *to, uint64_t coded)
{
    to->block[to->waiting++] = coded;
    to->any |= coded;
    if (to->waiting == AT_A_TIME)
        planes_flush(to);
}

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

/* The value as an integer by its class, which is a power of ten. 0: that would not be exact. */
static inline int scale(double value, int power, int64_t *scaled)
{
    double wide = power ? rint(value * POWERS[power]) : value;
    if (!(wide >= -EXACT_BELOW && wide < EXACT_BELOW))
        return 0;
    *scaled = (int64_t)wide;
    double back = power ? (double)*scaled / POWERS[power] : (double)*scaled;
    return bits_of(back) == bits_of(value);
}

static inline uint64_t zigzag(int64_t delta) { return (uint64_t)delta << 1 ^ (uint64_t)(delta >> 63); }

/* -1: no memory. */
static int column_begin(Column *column, size_t slots, int has_bitmap)
{
    for (int kind = 0; kind < 3; kind++) {
        column->kinds[kind].room = slots;
        if ((column->kinds[kind].planes = malloc(slots * MOST_PLANES + 1)) == NULL)
            return -1;
    }
    if (!has_bitmap)
        return 0;
    column->bitmap.room = slots / 8 + 1;
    column->bitmap.items = calloc(column->bitmap.room, 1);
    return column->bitmap.items == NULL ? -1 : 0;
}

static void column_end(Column *column)
{
    for (int kind = 0; kind < 3; kind++)
        free(column->kinds[kind].planes);
    for (int kind = 0; kind < 2; kind++) {
        free(column->places[kind].items);
        free(column->slots[kind].items);
    }
    free(column->bitmap.items);
}

/* -1: no memory. */
static int push_exception(Column *column, int kind, size_t slot)
{
    Ints *places = &column->places[kind], *slots = &column->slots[kind];
    const Planes *of = &column->kinds[kind];
    if (ints_reserve(places, 1) < 0 || ints_reserve(slots, 1) < 0)
        return -1;
    ints_push(places, (int32_t)(of->count + of->waiting));
    ints_push(slots, (int32_t)slot);
    return 0;
}

/* -1: no memory; -2: a class that there is not. Runs without the interpreter's lock. */
static int encode_column(const Cell *cell, Column *column)
{
    for (size_t slot = cell->start; slot < cell->stop; slot++) {
        if (!cell->live[slot])
            continue;
        size_t place = column->live++;
        if (cell->present != NULL) {
            if (!cell->present[slot]) {
                column->absent++;
                continue;
            }
            column->bitmap.items[place / 8] |= (uint8_t)(1 << place % 8);
        }
        int class = cell->classes[slot];
        double value = cell->values[slot];
        if (class == BITS) {
            planes_push(&column->kinds[2], bits_of(value) ^ (uint64_t)cell->coded[slot]);
            continue;
        }
        if (class > MOST_DECIMALS)
            return -2;
        int kind = class > 0;
        int64_t scaled;
        if (scale(value, class, &scaled)) {
            planes_push(&column->kinds[kind], zigzag((int64_t)((uint64_t)scaled - (uint64_t)cell->coded[slot])));
            continue;
        }
        if (push_exception(column, kind, slot) < 0)
            return -1;
        planes_push(&column->kinds[kind], 0);
    }
    for (int kind = 0; kind < 3; kind++)
        planes_flush(&column->kinds[kind]);
    column->bitmap.count = column->absent ? (column->live + 7) / 8 : 0;
    return 0;
}

#endif
