/* A page line by line: known keys by comparing memory, numbers exactly, whatever else is put aside. */
#ifndef BYOC_LINES_H
#define BYOC_LINES_H

#include "number.h"
#include "table.h"

#define MOST_LABELS 64
#define AHEAD 12  /* marks that are fetched before they are compared */
#define NEAR 1024 /* rows in which a key is looked for before all are indexed */

typedef struct {
    const uint8_t *name;
    size_t size;
} Label;

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

enum { SCANNED, IRREGULAR, NO_MEMORY };

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

/* Where a key ends that begins at `at`: behind its name, or its braces. NULL: not before the line does. Whether it is a
key at all is for the strict parser to say, once. */
static const uint8_t *end_of_key(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *start = at;
    while (at < end && is_name(*at))
        at++;
    if (at == end || *at != '{')
        return at == start ? NULL : at;
    for (at++; at < end && *at != '\n'; at++) {
        if (*at == '}')
            return at + 1;
        if (*at != '"')
            continue;
        for (at++; at < end && *at != '"' && *at != '\n'; at++)
            at += *at == '\\' && at + 1 < end && at[1] != '\n';
        if (at >= end || *at == '\n')
            return NULL;
    }
    return NULL;
}

/* Behind a name of letters, digits and _, which begins with no digit; NULL: there is none. */
static const uint8_t *end_of_label(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *start = at;
    while (at < end && is_name(*at) && *at != ':')
        at++;
    return at == start || (uint8_t)(*start - '0') < 10 ? NULL : at;
}

static int is_there(const Label *labels, int count, Label label)
{
    for (int i = 0; i < count; i++)
        if (labels[i].size == label.size && memcmp(labels[i].name, label.name, label.size) == 0)
            return 1;
    return label.size == 8 && memcmp(label.name, "__name__", 8) == 0;
}

/* Whether both formats take a key and mean the same by it: `name` or `name{a="b",c="d"}` of ASCII without escapes, and
no label twice. (`parse_simple_key` of the strict parser, which sees all others.) */
static int is_simple(const uint8_t *at, const uint8_t *end)
{
    Label labels[MOST_LABELS];
    if ((uint8_t)(*at - '0') < 10 || !is_name(*at))
        return 0;
    while (at < end && is_name(*at))
        at++;
    if (at == end)
        return 1;
    for (int count = 0; *at == (count ? ',' : '{') && count < MOST_LABELS; count++) {
        const uint8_t *name = at + 1, *behind = end_of_label(name, end);
        if (behind == NULL || end - behind < 3 || behind[0] != '=' || behind[1] != '"')
            return 0;
        labels[count] = (Label){name, (size_t)(behind - name)};
        if (is_there(labels, count, labels[count]))
            return 0;
        for (at = behind + 2; at < end && *at != '"'; at++)
            if (*at == '\\' || *at >= 0x80 || *at == '\n')
                return 0;
        if (end - at < 2)
            return 0;
        at++;
        if (*at == '}')
            return at + 1 == end;
    }
    return 0;
}

static const uint8_t *end_of_line(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *found = memchr(at, '\n', (size_t)(end - at));
    return found == NULL ? end : found;
}

/* Fetch what the comparisons of some rows ahead will look at. */
static inline void fetch_ahead(const Table *t, size_t next)
{
    if (next + AHEAD < t->order.count)
        __builtin_prefetch(&t->entries[t->order.items[next + AHEAD]]);
}

/* The number of a key that is not the one that was expected. -1: no memory. */
static int32_t number_of_other(Table *t, Rows *rows, Mark mark, const uint8_t *line, uint32_t size)
{
    int32_t number = find(t, mark, size), replaced = -1;
    if (number >= 0 && !is_born(&t->entries[number]) && t->renewed.count && is_renewed(t, t->entries[number].name)) {
        replaced = number;
        number = -1;
    }
    if (number < 0) {
        int needs_check = !is_simple(line, line + (size & ~FORMAT));
        if (needs_check && ints_reserve(&rows->unchecked, 1) < 0)
            return -1;
        number = insert(t, mark, line, size, replaced);
        if (needs_check && number >= 0)
            ints_push(&rows->unchecked, number);
        return number;
    }
    Entry *entry = &t->entries[number];
    if (!is_born(entry)) {
        size_t row = row_with(t, rows, number);
        if (row < t->order.count && go_on_behind(t, rows, row) < 0)
            return -1;
    }
    meet(t, entry);
    return number;
}

/* The number of an odd row's key. -1: no memory. */
static int32_t number_of_odd(Table *t, const uint8_t *key, uint32_t size)
{
    Mark mark = mark_of(&t->secrets, key, size & ~FORMAT);
    int32_t number = find(t, mark, size);
    if (number >= 0 && !is_born(&t->entries[number]) && t->renewed.count && is_renewed(t, t->entries[number].name))
        return insert(t, mark, key, size, number);
    if (number < 0)
        return insert(t, mark, key, size, -1);
    meet(t, &t->entries[number]);
    return number;
}

/* The next row's number, given what its line begins with; *behind: what follows the number. -1: no memory; -2: odd. */
static int32_t number_of(Table *t, Rows *rows, const uint8_t *line, const uint8_t *end, uint32_t format, double *value,
                         const uint8_t **behind, int *how)
{
    const Mark none = {0, 0};
    Mark mark = none;
    uint32_t length = 0;
    int32_t number = -1;
    if (rows->next < t->order.count && !t->renewed.count) {
        Entry *entry = &t->entries[number = t->order.items[rows->next]];
        length = length_of(entry);
        if ((size_t)(end - line) <= length || line[length] != ' ') {
            length = 0;
        } else {
            mark = mark_of(&t->secrets, line, length);
            if (is_equal(entry, mark, length | format)) {
                *behind = line + length + 1;
                *how = read_number(behind, end, value);
                if (*how == NOT_A_NUMBER || (*behind < end && **behind != '\n'))
                    return -2;
                rows->next++;
                meet(t, entry);
                return number;
            }
        }
    }
    const uint8_t *stop = end_of_key(line, end);
    if (stop == NULL || stop == end || *stop != ' ')
        return -2;
    *behind = stop + 1;
    *how = read_number(behind, end, value);
    if (*how == NOT_A_NUMBER || (*behind < end && **behind != '\n'))
        return -2;
    if (length == 0 || length != (size_t)(stop - line)) {
        length = (uint32_t)(stop - line);
        mark = mark_of(&t->secrets, line, length);
    }
    if (number >= 0 && rows->next + 1 < t->order.count) { /* the one that was expected is often gone */
        Entry *entry = &t->entries[number = t->order.items[rows->next + 1]];
        if (is_equal(entry, mark, length | format)) {
            meet(t, entry);
            return go_on_behind(t, rows, rows->next + 1) < 0 ? -1 : number;
        }
    }
    return number_of_other(t, rows, mark, line, length | format);
}

static int put_aside(Rows *rows, const uint8_t *line, size_t size)
{
    size_t at = rows->odd_text.count;
    if (text_push(&rows->odd_text, line, size) < 0)
        return -1;
    return push_span(&rows->odd, at, size, rows->count + rows->odd.count);
}

/* Comments are kept as one text. */
static int add_comment(Rows *rows, const uint8_t *line, size_t size)
{
    if (rows->comment_lines++ && text_push(&rows->comments, (const uint8_t *)"\n", 1) < 0)
        return -1;
    return text_push(&rows->comments, line, size);
}

/* The rows of a piece of a body, which ends where a line does. Runs without the interpreter's lock. */
static int scan_lines(Table *t, Rows *rows, const uint8_t *piece, size_t size, uint32_t format)
{
    const uint8_t *at = piece, *end = piece + size;
    rows->unrounded.count = 0;
    while (at < end) {
        const uint8_t *line = at, *behind = NULL;
        if (*line == '\n') {
            if (format)
                return IRREGULAR;
            at++;
            continue;
        }
        if (*line == '#') {
            at = end_of_line(line, end);
            if (add_comment(rows, line, (size_t)(at - line)) < 0)
                return NO_MEMORY;
            at += at < end;
            continue;
        }
        if (rows->count == rows->room && rows_reserve(rows, rows->count + rows->count / 8 + 1024) < 0)
            return NO_MEMORY;
        if (ints_reserve(&rows->numbers, 1) < 0)
            return NO_MEMORY;
        fetch_ahead(t, rows->next);
        double value = 0;
        int how = EXACT;
        int32_t number = number_of(t, rows, line, end, format, &value, &behind, &how);
        if (number == -1)
            return NO_MEMORY;
        if (number == -2) {
            at = end_of_line(line, end);
            if (put_aside(rows, line, (size_t)(at - line)) < 0)
                return NO_MEMORY;
            at += at < end;
            continue;
        }
        size_t start = rows->count;
        if (how == NEEDS_ROUNDING) {
            size_t from = (size_t)(behind - line);
            while (line[from - 1] != ' ')
                from--;
            if (push_span(&rows->unrounded, (size_t)(line - piece) + from, (size_t)(behind - line) - from, start) < 0)
                return NO_MEMORY;
        }
        rows->is_same &= start < t->order.count && t->order.items[start] == number;
        rows->values[start] = value;
        ints_push(&rows->numbers, number);
        rows->count++;
        if (is_born(&t->entries[number])) {
            if (ints_reserve(&rows->fresh, 1) < 0)
                return NO_MEMORY;
            ints_push(&rows->fresh, (int32_t)start);
        }
        at = behind + (behind < end);
    }
    return SCANNED;
}

#endif
