/* A page line by line: known keys by comparing memory, numbers exactly, whatever else is put aside. */
#ifndef BYOC_LINES_H
#define BYOC_LINES_H

#include "number.h"
#include "rows.h"
#include "spelling.h"

#define AHEAD 12  /* marks that are fetched before they are compared */

enum { SCANNED, IRREGULAR, NO_MEMORY };

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
