/* Remote write 1.0. A series is known by the bytes of its labels. */
#ifndef BYOC_RW1_H
#define BYOC_RW1_H

#include "scan.h"

/* The place behind the labels in front of a series; 0: they are spelled in a strange way. */
static size_t behind_labels(const uint8_t *body, size_t at, size_t stop)
{
    while (at < stop && body[at] == 0x0A) {
        size_t length;
        at++;
        if (!read_length(body, &at, stop, &length))
            return 0;
        at += length;
    }
    return at;
}

/* The entry of the series whose content begins at `start`, NONE: unknown; `*rest` is behind its labels, 0: strange. */
static inline uint32_t find_labels(const Known *known, const Scan *s, uint32_t last, size_t start, size_t stop, size_t *rest)
{
    const uint8_t *body = s->body;
    uint32_t guess = known_next(known, last);
    if (guess != NONE) {
        size_t size = known->entries[guess].size;
        /* These bytes were read as labels once; they are all of them where no other label follows. */
        if (size <= stop - start && (size == stop - start || body[start + size] != 0x0A) &&
            known_is(known, guess, body + start, size)) {
            *rest = start + size;
            return guess;
        }
    }
    *rest = behind_labels(body, start, stop);
    if (*rest == 0)
        return NONE;
    size_t size = *rest - start;
    return known_find(known, known_hash(known, body + start, size), body + start, size);
}

static int scan_rw1_series(Known *known, Scan *s, uint32_t *last, size_t begin, size_t start, size_t stop)
{
    size_t rest, first = s->rows;
    uint32_t entry = find_labels(known, s, *last, start, stop, &rest);
    int is_usual = rest != 0, how;
    int32_t number = entry == NONE ? -1 : known->entries[entry].number;
    for (size_t at = rest; is_usual && at < stop;) {
        double value;
        int64_t time, from;
        at = read_sample(s->body, at, stop, &value, &time, &from);
        is_usual = at != 0;
        if (is_usual && (how = add_row(s, number, time, from, value)) != FOUND)
            return how;
        s->has_starts |= is_usual && from;
    }
    if (!is_usual)
        s->rows = first;
    if (entry != NONE) {
        known_follow(known, *last, entry);
        *last = entry;
    }
    if (is_usual && entry != NONE)
        return FOUND;
    Event event = {is_usual ? NEW : ODD, (int64_t)begin, (int64_t)start, (int64_t)stop, (int64_t)first,
                   (int64_t)(s->rows - first), 0, 0, 0, 0};
    return add_event(s, event);
}

static int scan_rw1_other(Scan *s, size_t *at)
{
    size_t begin = *at;
    uint64_t tag;
    if (!read_varint(s->body, at, s->size, &tag))
        return STRANGE;
    uint64_t field = tag >> 3;
    if (tag != 0x1A && (field == 1 || (field >= 3 && field <= 5)))
        return STRANGE;
    if (!skip_field(s->body, tag, at, s->size) || s->event_count > s->limits.series + 20000)
        return STRANGE;
    Event event = {OTHER, (int64_t)begin, (int64_t)begin, (int64_t)*at, (int64_t)s->rows, 0, 0, 0, 0, 0};
    return add_event(s, event);
}

static int scan_rw1(Known *known, Scan *s)
{
    uint32_t last = NONE;
    for (size_t at = 0; at < s->size;) {
        int how;
        if (s->body[at] == 0x0A) {
            size_t begin = at++, length;
            if (!read_length(s->body, &at, s->size, &length) || ++s->series > s->limits.series)
                return STRANGE;
            how = scan_rw1_series(known, s, &last, begin, at, at + length);
            at += length;
        } else {
            how = scan_rw1_other(s, &at);
        }
        if (how != FOUND)
            return how;
    }
    return FOUND;
}

#endif
