/* Remote write 2.0. Symbols have numbers that outlast a body; a series is known by those of its labels. */
#ifndef BYOC_RW2_H
#define BYOC_RW2_H

#include "scan.h"

/* Whether this is UTF-8 (RFC 3629): neither overlong nor a surrogate nor above 0x10ffff. */
static int is_utf8(const uint8_t *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint8_t lead = text[at++];
        if (lead < 0x80)
            continue;
        size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || more > size - at)
            return 0;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (text[at] < low || text[at] > high)
            return 0;
        for (size_t i = 1; i < more; i++)
            if ((text[at + i] & 0xc0) != 0x80)
                return 0;
        at += more;
    }
    return 1;
}

static int add_symbol(Known *symbols, Scan *s, uint32_t *last, size_t begin, size_t size)
{
    if (s->symbol_count >= s->limits.symbols)
        return STRANGE;
    if (s->symbol_count == s->symbol_room) {
        size_t room = more_room(s->symbol_room);
        if (resize(&s->symbols, room, sizeof(Span)) < 0 || resize(&s->ids, room, sizeof(uint32_t)) < 0)
            return NO_MEMORY;
        s->symbol_room = room;
    }
    const uint8_t *text = s->body + begin;
    uint32_t entry = known_next(symbols, *last);
    if (entry == NONE || !known_is(symbols, entry, text, size)) {
        uint32_t hash = known_hash(symbols, text, size);
        entry = known_find(symbols, hash, text, size);
        if (entry == NONE) {
            if (!is_utf8(text, size))
                return STRANGE;
            entry = known_add(symbols, hash, text, size, 0);
            if (entry == NONE)
                return STRANGE;
        }
        known_follow(symbols, *last, entry);
    }
    *last = entry;
    s->symbols[s->symbol_count] = (Span){(uint32_t)begin, (uint32_t)(begin + size)};
    s->ids[s->symbol_count++] = entry;
    return FOUND;
}

static int add_frame(Scan *s, size_t begin, size_t start, size_t stop)
{
    if (s->series >= s->limits.series)
        return STRANGE;
    if (s->series == s->frame_room) {
        size_t room = more_room(s->frame_room);
        if (resize(&s->frames, room, sizeof(Span)) < 0 || resize(&s->begins, room, sizeof(uint32_t)) < 0)
            return NO_MEMORY;
        s->frame_room = room;
    }
    s->frames[s->series] = (Span){(uint32_t)start, (uint32_t)stop};
    s->begins[s->series++] = (uint32_t)begin;
    return FOUND;
}

/* Symbols, and where the series are: the fields may stand in any order. */
static int scan_fields(Known *symbols, Scan *s)
{
    uint32_t last = NONE;
    for (size_t at = 0; at < s->size;) {
        size_t begin = at, length;
        uint64_t tag;
        int how;
        if (!read_varint(s->body, &at, s->size, &tag))
            return STRANGE;
        if (tag == 0x22 || tag == 0x2A) {
            if (at != begin + 1 || !read_length(s->body, &at, s->size, &length))
                return STRANGE;
            how = tag == 0x22 ? add_symbol(symbols, s, &last, at, length) : add_frame(s, begin, at, at + length);
            at += length;
        } else {
            if ((tag >> 3 >= 1 && tag >> 3 <= 5) || !skip_field(s->body, tag, &at, s->size))
                return STRANGE;
            if (s->event_count > 10000)
                return STRANGE;
            how = add_event(s, (Event){OTHER, (int64_t)begin, (int64_t)begin, (int64_t)at, 0, 0, 0, 0, 0, 0});
        }
        if (how != FOUND)
            return how;
    }
    return FOUND;
}

/* The ids of packed references into `s->refs`; how many. -1: strange; -2: no memory. */
static inline long read_refs(Scan *s, size_t at, size_t end)
{
    if ((end - at) / 20 > s->limits.labels) /* a reference takes ten bytes at most */
        return -1;
    if (s->refs_room < end - at) {
        if (resize(&s->refs, end - at + 64, sizeof(uint32_t)) < 0)
            return -2;
        s->refs_room = end - at + 64;
    }
    long count = 0;
    while (at < end) {
        uint64_t ref = s->body[at];
        if (ref < 0x80)
            at++;
        else if (!read_varint(s->body, &at, end, &ref))
            return -1;
        if (ref >= s->symbol_count)
            return -1;
        s->refs[count++] = s->ids[ref];
    }
    return count % 2 || (uint64_t)count / 2 > s->limits.labels ? -1 : count;
}

/* Metadata, also where nobody reads it again. FOUND: its references are to symbols; ODD: it has other fields; STRANGE. */
static int scan_metadata(const Scan *s, size_t at, size_t end)
{
    uint64_t refs[2] = {0, 0}; /* of the last help and the last unit: those count */
    int how = FOUND;
    while (at < end) {
        uint64_t tag, value;
        if (!read_varint(s->body, &at, end, &tag))
            return STRANGE;
        if (tag != 0x08 && tag != 0x18 && tag != 0x20) {
            if (!skip_field(s->body, tag, &at, end))
                return STRANGE;
            how = ODD; /* a body may have only so many fields that nobody reads: they are counted where series are read */
            continue;
        }
        if (!read_varint(s->body, &at, end, &value))
            return STRANGE;
        if (tag != 0x08)
            refs[tag == 0x20] = value;
    }
    return refs[0] < s->symbol_count && refs[1] < s->symbol_count ? how : STRANGE;
}

/* What one series holds beside its references. FOUND: all of it is usual; ODD; STRANGE. */
static int scan_contents(Scan *s, Event *event, size_t at, size_t stop)
{
    size_t first = s->rows;
    int64_t created = 0;
    while (at < stop) {
        uint8_t tag = s->body[at];
        if (tag == 0x12) {
            double value;
            int64_t time, from;
            at = read_sample(s->body, at, stop, &value, &time, &from);
            if (at == 0)
                return ODD;
            int how = add_row(s, -1, time, from, value);
            if (how != FOUND)
                return how;
            s->has_starts |= from != 0;
        } else if (tag == 0x2A) {
            size_t length;
            at++;
            if (event->metadata || !read_length(s->body, &at, stop, &length))
                return ODD;
            int how = scan_metadata(s, at, at + length);
            if (how != FOUND)
                return how;
            event->metadata = (int64_t)at;
            event->metadata_bytes = (int64_t)length;
            at += length;
        } else if (tag == 0x30 && created == 0 && stop - at >= 7 && read_time(s->body + at + 1, &created)) {
            at += 7;
        } else {
            return ODD;
        }
    }
    for (size_t row = first; created && row < s->rows; row++)
        if (s->starts[row] == 0) {
            s->starts[row] = created;
            s->has_starts = 1;
        }
    return FOUND;
}

static uint32_t find_refs(const Known *known, uint32_t last, const uint8_t *key, size_t size)
{
    uint32_t guess = known_next(known, last);
    if (guess != NONE && known_is(known, guess, key, size))
        return guess;
    return known_find(known, known_hash(known, key, size), key, size);
}

static int scan_rw2_series(Known *known, Scan *s, uint32_t *last, size_t which)
{
    size_t start = s->frames[which].begin, stop = s->frames[which].end, first = s->rows, length, at = start + 1;
    Event event = {ODD, s->begins[which], (int64_t)start, (int64_t)stop, (int64_t)first, 0, 0, 0, 0, 0};
    if (start == stop || s->body[start] != 0x0A || !read_length(s->body, &at, stop, &length) || length == 0)
        return add_event(s, event);
    long count = read_refs(s, at, at + length);
    if (count < 0)
        return count == -2 ? NO_MEMORY : STRANGE;
    event.refs = (int64_t)at;
    event.refs_bytes = (int64_t)length;
    int how = scan_contents(s, &event, at + length, stop);
    if (how == NO_MEMORY || how == STRANGE)
        return how;
    if (how == ODD) {
        s->rows = first;
        return add_event(s, event);
    }
    uint32_t entry = find_refs(known, *last, (uint8_t *)s->refs, (size_t)count * sizeof(uint32_t));
    if (entry == NONE) {
        event.kind = NEW;
        event.rows = (int64_t)(s->rows - first);
        return add_event(s, event);
    }
    known_follow(known, *last, entry);
    *last = entry;
    for (size_t row = first; row < s->rows; row++)
        s->numbers[row] = known->entries[entry].number;
    return FOUND;
}

static int scan_rw2(Known *known, Known *symbols, Scan *s)
{
    int how = scan_fields(symbols, s);
    if (how != FOUND)
        return how;
    if (s->series && (s->symbol_count == 0 || s->symbols[0].begin != s->symbols[0].end))
        return STRANGE;
    uint32_t last = NONE;
    for (size_t which = 0; which < s->series; which++)
        if ((how = scan_rw2_series(known, s, &last, which)) != FOUND)
            return how;
    return FOUND;
}

#endif
