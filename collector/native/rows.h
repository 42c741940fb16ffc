/* The rows of the pending body, and how far they are those of the last kept reading. */
#ifndef BYOC_ROWS_H
#define BYOC_ROWS_H

#include "table.h"

#define NEAR 1024 /* rows in which a key is looked for before all are indexed */

typedef struct {
    uint32_t at, size;
    int32_t row; /* rows of the body before it; of a number: its row */
} Span;

typedef struct {
    Span *items;
    size_t count, room;
} Spans;

typedef struct {
    double *values;
    Ints numbers;
    size_t count, room;
    size_t next;     /* the row of the last kept reading whose key is expected */
    size_t reach;    /* keys of all its rows before this one, or before `next`, were met, or are in `skipped` */
    Ints skipped;    /* numbers */
    Ints fresh;      /* rows whose keys are new */
    Spans odd;       /* lines, in odd_text */
    Spans unrounded; /* numbers, in the piece that was scanned last */
    Text odd_text, comments;
    size_t comment_lines;
    Ints odd_numbers;
    Ints unchecked; /* numbers of new keys that the strict parser has to see */
    int is_same; /* up to here the rows are those of the last kept reading */
} Rows;

static int push_span(Spans *spans, size_t at, size_t size, size_t row)
{
    if (spans->count == spans->room) {
        size_t room = spans->room + spans->room / 2 + 64;
        Span *items = realloc(spans->items, room * sizeof(Span));
        if (items == NULL)
            return -1;
        spans->items = items;
        spans->room = room;
    }
    spans->items[spans->count++] = (Span){(uint32_t)at, (uint32_t)size, (int32_t)row};
    return 0;
}

static int rows_reserve(Rows *rows, size_t room)
{
    if (room <= rows->room)
        return 0;
    double *values = realloc(rows->values, room * sizeof(double));
    if (values == NULL)
        return -1;
    rows->values = values;
    rows->room = room;
    return 0;
}

static void rows_clear(Rows *rows)
{
    rows->count = rows->next = rows->reach = rows->odd.count = rows->unrounded.count = rows->comment_lines = 0;
    rows->numbers.count = rows->odd_numbers.count = rows->unchecked.count = 0;
    ints_clear(&rows->skipped);
    ints_clear(&rows->fresh);
    text_clear(&rows->odd_text);
    text_clear(&rows->comments);
    rows->is_same = 1;
}

/* Less room, where far fewer rows came than before. */
static void rows_shrink(Rows *rows)
{
    if (rows->room < 65536 || rows->room / 4 < rows->count)
        return;
    free(rows->values);
    rows->values = NULL;
    rows->count = rows->room = rows->numbers.count = 0;
    ints_shrink(&rows->numbers);
}

static void rows_end(Rows *rows)
{
    free(rows->values);
    free(rows->numbers.items);
    free(rows->skipped.items);
    free(rows->fresh.items);
    free(rows->odd.items);
    free(rows->odd_text.items);
    free(rows->comments.items);
    free(rows->unrounded.items);
    free(rows->odd_numbers.items);
    free(rows->unchecked.items);
}

/* Rows of the last kept reading before this one are not expected any more. -1: no memory. */
static int pass_over(const Table *t, Rows *rows, size_t row)
{
    if (rows->next > rows->reach)
        rows->reach = rows->next;
    if (row <= rows->reach)
        return 0;
    size_t more = row - rows->reach;
    if (ints_reserve(&rows->skipped, more) < 0)
        return -1;
    memcpy(rows->skipped.items + rows->skipped.count, t->order.items + rows->reach, more * sizeof(int32_t));
    rows->skipped.count += more;
    rows->reach = row;
    return 0;
}

/* The key of this row of the last kept reading was met; the one behind it is expected next. -1: no memory. */
static int go_on_behind(const Table *t, Rows *rows, size_t row)
{
    if (pass_over(t, rows, row) < 0)
        return -1;
    rows->next = row + 1;
    return 0;
}

/* The first row of the last kept reading that has this key, or one that is expected soon; its end: none has. */
static size_t row_with(Table *t, const Rows *rows, int32_t number)
{
    const Ints *order = &t->order;
    if (!t->is_indexed) {
        for (size_t row = rows->next; row < order->count && row < rows->next + NEAR; row++)
            if (order->items[row] == number)
                return row;
        for (size_t row = order->count; row-- > 0;)
            t->entries[order->items[row]].row = (int32_t)row;
        t->is_indexed = 1;
    }
    size_t row = (size_t)t->entries[number].row;
    return row < order->count && order->items[row] == number ? row : order->count;
}

#endif
