/* How the keys of a page are spelled. */
#ifndef BYOC_SPELLING_H
#define BYOC_SPELLING_H

#include "keys.h"

#define MOST_LABELS 64

typedef struct {
    const uint8_t *name;
    size_t size;
} Label;

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

#endif
