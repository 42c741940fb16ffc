/* What a scan of a body finds: rows, and what someone else has to look at. */
#ifndef BYOC_SCAN_H
#define BYOC_SCAN_H

#include "known.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values and times are read as they lie in memory"
#endif

enum {
    FOUND,
    STRANGE, /* a body that is malformed or over a limit: who reads it field by field says how */
    NO_MEMORY,
    NEW, /* a series of usual form that has no number yet */
    ODD, /* any other series */
    OTHER /* a field that is no series */
};

typedef struct {
    int64_t kind, begin, start, stop; /* of its field, and of its content */
    int64_t row, rows;                /* NEW: its rows; ODD, OTHER: the rows before it */
    int64_t refs, refs_bytes, metadata, metadata_bytes; /* remote write 2.0, NEW: where they are; 0: none */
} Event;

typedef struct {
    uint32_t begin, end;
} Span;

typedef struct {
    uint64_t series, samples, symbols, labels; /* labels: of one series */
} Limits;

typedef struct {
    const uint8_t *body;
    size_t size;
    Limits limits;
    int32_t *numbers;
    int64_t *times, *starts; /* starts: 0, none */
    double *values;
    size_t rows, row_room;
    int has_starts;
    Event *events;
    size_t event_count, event_room;
    uint64_t series;
    Span *symbols;
    uint32_t *ids; /* of the symbols, the same in every body */
    size_t symbol_count, symbol_room;
    Span *frames; /* contents of series */
    uint32_t *begins;
    size_t frame_room;
    uint32_t *refs; /* ids of one series */
    size_t refs_room;
} Scan;

static void scan_end(Scan *s)
{
    free(s->numbers);
    free(s->times);
    free(s->starts);
    free(s->values);
    free(s->events);
    free(s->symbols);
    free(s->ids);
    free(s->frames);
    free(s->begins);
    free(s->refs);
}

static size_t more_room(size_t room) { return room + room / 2 + 1024; }

static int resize(void *column, size_t room, size_t item)
{
    void *items = realloc(*(void **)column, room * item);
    if (items == NULL)
        return -1;
    *(void **)column = items;
    return 0;
}

static int add_event(Scan *s, Event event)
{
    if (s->event_count == s->event_room) {
        size_t room = more_room(s->event_room);
        if (resize(&s->events, room, sizeof(Event)) < 0)
            return NO_MEMORY;
        s->event_room = room;
    }
    s->events[s->event_count++] = event;
    return FOUND;
}

static int add_row(Scan *s, int32_t number, int64_t time, int64_t start, double value)
{
    if (s->rows >= s->limits.samples)
        return STRANGE;
    if (s->rows == s->row_room) {
        size_t room = more_room(s->row_room);
        if (resize(&s->numbers, room, sizeof(int32_t)) < 0 || resize(&s->times, room, sizeof(int64_t)) < 0 ||
            resize(&s->starts, room, sizeof(int64_t)) < 0 || resize(&s->values, room, sizeof(double)) < 0)
            return NO_MEMORY;
        s->row_room = room;
    }
    s->numbers[s->rows] = number;
    s->times[s->rows] = time;
    s->starts[s->rows] = start;
    s->values[s->rows++] = value;
    return FOUND;
}

/* A varint of at most ten bytes in [*at, end). 0: there is none. */
static inline int read_varint(const uint8_t *body, size_t *at, size_t end, uint64_t *value)
{
    uint64_t found = 0;
    for (int shift = 0; shift < 70 && *at < end; shift += 7) {
        uint8_t byte = body[(*at)++];
        found |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = found;
            return 1;
        }
    }
    return 0;
}

/* A length and what it spans, within [*at, end); `*at` is then behind the length. 0: there is none. */
static inline int read_length(const uint8_t *body, size_t *at, size_t end, size_t *length)
{
    uint64_t value;
    if (!read_varint(body, at, end, &value) || value > end - *at)
        return 0;
    *length = (size_t)value;
    return 1;
}

/* Skip the field behind a tag. 0: it is malformed, or ends behind `end`. */
static inline int skip_field(const uint8_t *body, uint64_t tag, size_t *at, size_t end)
{
    uint64_t value;
    size_t length;
    if (tag >> 3 == 0)
        return 0;
    switch (tag & 7) {
    case 0:
        return read_varint(body, at, end, &value);
    case 1:
    case 5:
        length = (tag & 7) == 1 ? 8 : 4;
        break;
    case 2:
        if (!read_length(body, at, end, &length))
            return 0;
        break;
    default:
        return 0;
    }
    if (length > end - *at)
        return 0;
    *at += length;
    return 1;
}

/* Whether a varint of exactly six bytes stands in these six: a time between 2004 and 2109 in milliseconds. */
static inline int read_time(const uint8_t *six, int64_t *time)
{
    uint32_t four;
    memcpy(&four, six, 4);
    if ((four & 0x80808080u) != 0x80808080u || six[4] < 0x80 || six[5] >= 0x80)
        return 0;
    *time = (int64_t)((four & 0x7f) | (four >> 8 & 0x7f) << 7 | (four >> 16 & 0x7f) << 14 | (four >> 24 & 0x7f) << 21) |
            (int64_t)(six[4] & 0x7f) << 28 | (int64_t)six[5] << 35;
    return 1;
}

/* A sample of usual form whose field begins at `at`: the place behind it, 0: it is not usual. */
static inline size_t read_sample(const uint8_t *body, size_t at, size_t stop, double *value, int64_t *time, int64_t *start)
{
    if (stop - at < 9 || body[at] != 0x12)
        return 0;
    size_t size = body[at + 1], place = at + 2, end = place + size;
    if (end > stop || (size != 16 && size != 7 && size != 23 && size != 14))
        return 0;
    *value = 0.0;
    *start = 0;
    if (size >= 16) {
        if (body[place] != 0x09)
            return 0;
        memcpy(value, body + place + 1, 8);
        place += 9;
    }
    if (body[place] != 0x10 || !read_time(body + place + 1, time))
        return 0;
    if (end - place == 14 && (body[place + 7] != 0x18 || !read_time(body + place + 8, start)))
        return 0;
    return end;
}

#endif
