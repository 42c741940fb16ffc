/* A body of one target that comes piece by piece, scanned line by line as it does. */
#ifndef BYOC_FEED_H
#define BYOC_FEED_H

#include "lines.h"

#define MOST_BODY (1 << 30)
#define AT_ONCE (1 << 19) /* bytes that are scanned without giving the interpreter's lock away */
#define SMALL_PIECE 4096
#define EOF_BYTES 6 /* of # EOF and its line end */

typedef struct {
    PyObject_HEAD
    Table table;
    Rows rows;
    PyObject *comments, *pending_comments; /* bytes, NULL: unknown */
    uint32_t comments_format, format;
    Text rest;  /* of the pending body, as it was fed so far: what is not scanned yet */
    size_t fed; /* bytes of it */
    int is_busy;
} Keys;

/* -1, with an exception set, while another thread scans: then nothing may be looked at. */
static int check_idle(Keys *self)
{
    if (!self->is_busy)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a scan of these keys is under way in another thread");
    return -1;
}

static int check_pending(Keys *self)
{
    if (check_idle(self) < 0)
        return -1;
    if (self->table.is_pending)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "nothing is pending: scan or begin comes first");
    return -1;
}

static void forget_all(Keys *self)
{
    text_clear(&self->rest);
    forget(&self->table);
    rows_clear(&self->rows);
    Py_CLEAR(self->pending_comments);
}

/* Round the numbers that need it. 0: done; 1: one does not fit into a double; -1: an exception is set. */
static int round_values(Rows *rows, const char *body)
{
    for (size_t i = 0; i < rows->unrounded.count; i++) {
        Span span = rows->unrounded.items[i];
        char short_text[64], *text = short_text, *end;
        if (span.size >= sizeof short_text && (text = malloc((size_t)span.size + 1)) == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(text, body + span.at, span.size);
        text[span.size] = 0;
        double value = PyOS_string_to_double(text, &end, NULL);
        int is_whole = end == text + span.size;
        if (text != short_text)
            free(text);
        if (value == -1.0 && PyErr_Occurred())
            return -1;
        if (!is_whole || value > DBL_MAX || value < -DBL_MAX)
            return 1;
        rows->values[span.row] = value;
    }
    return 0;
}

/* A tuple of names whose keys get other numbers. -1: an exception is set. */
static int take_renewed(Table *t, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(names); i++) {
        char *name;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(names, i), &name, &size) < 0)
            return -1;
        if (ints_reserve(&t->renewed, 1) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        ints_push(&t->renewed, (int32_t)hash_of_name(t, (uint8_t *)name, (size_t)size));
    }
    sort_names(&t->renewed);
    return 0;
}

static int begin_body(Keys *self, int is_openmetrics, PyObject *renewed)
{
    if (check_idle(self) < 0)
        return -1;
    forget_all(self);
    begin(&self->table);
    self->format = is_openmetrics ? FORMAT : 0;
    self->fed = 0;
    if (renewed != NULL && take_renewed(&self->table, renewed) < 0) {
        forget_all(self);
        return -1;
    }
    return 0;
}

/* Scan whole lines. SCANNED; IRREGULAR; -1: an exception is set. */
static int scan_piece(Keys *self, const uint8_t *piece, size_t size)
{
    int how;
    if (size > AT_ONCE) {
        self->is_busy = 1;
        Py_BEGIN_ALLOW_THREADS
        how = scan_lines(&self->table, &self->rows, piece, size, self->format);
        Py_END_ALLOW_THREADS
        self->is_busy = 0;
    } else {
        how = scan_lines(&self->table, &self->rows, piece, size, self->format);
    }
    if (how == NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    return how == SCANNED ? round_values(&self->rows, (const char *)piece) : how;
}

/* Scan what there is up to the last line end that is at least `held` bytes from the end of the body so far. */
static int feed(Keys *self, const uint8_t *piece, size_t size)
{
    Text *rest = &self->rest;
    size_t held = self->format ? EOF_BYTES : 0, before = rest->count > held ? rest->count - held : 0;
    const uint8_t *first = size > held + SMALL_PIECE ? memchr(piece, '\n', size - held) : NULL;
    if (first != NULL) {
        size_t start = (size_t)(first - piece) + 1, end = size - held;
        while (piece[end - 1] != '\n')
            end--;
        if (rest->count) {
            if (text_push(rest, piece, start) < 0)
                goto no_memory;
            int how = scan_piece(self, rest->items, rest->count);
            if (how != SCANNED)
                return how;
            rest->count = 0;
        } else {
            start = 0;
        }
        int how = end > start ? scan_piece(self, piece + start, end - start) : SCANNED;
        if (how != SCANNED)
            return how;
        end = end > start ? end : start;
        if (text_push(rest, piece + end, size - end) < 0)
            goto no_memory;
        return SCANNED;
    }
    if (text_push(rest, piece, size) < 0)
        goto no_memory;
    size_t end = rest->count > held ? rest->count - held : 0;
    while (end > before && rest->items[end - 1] != '\n')
        end--;
    if (end <= before)
        return SCANNED;
    int how = scan_piece(self, rest->items, end);
    memmove(rest->items, rest->items + end, rest->count - end);
    rest->count -= end;
    return how;
no_memory:
    PyErr_NoMemory();
    return -1;
}

/* The rest of the body, which ends here. */
static int feed_end(Keys *self)
{
    Text *rest = &self->rest;
    size_t size = rest->count, end = size;
    if (self->format) {
        end -= end > 0 && rest->items[end - 1] == '\n';
        if (end < 5 || memcmp(rest->items + end - 5, "# EOF", 5) != 0)
            return IRREGULAR;
        end -= 5;
        if (end > 0 && rest->items[end - 1] != '\n')
            return IRREGULAR;
    }
    return scan_piece(self, rest->items, end);
}

/* 1: go on; 0: irregular, and nothing is pending any more; -1: an exception is set, as above. */
static int settle_feed(Keys *self, int how)
{
    if (how == SCANNED)
        return 1;
    forget_all(self);
    return how == IRREGULAR ? 0 : -1;
}

#endif
