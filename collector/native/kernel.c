/* The extension module: keys of a target by number, and the scan of its pages. See __init__.py for what it promises. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "cells.h"
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

static PyObject *bytes_of(const void *items, size_t size) { return PyBytes_FromStringAndSize(items, (Py_ssize_t)size); }

static void forget_all(Keys *self)
{
    text_clear(&self->rest);
    forget(&self->table);
    rows_clear(&self->rows);
    Py_CLEAR(self->pending_comments);
}

static PyObject *keys_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    const char *secret;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "y#", &secret, &size))
        return NULL;
    if (size != 16)
        return PyErr_Format(PyExc_ValueError, "a secret of %zd bytes: 16 are allowed", size);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Keys *self = (Keys *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    if (table_begin(&self->table, (const uint8_t *)secret) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    rows_clear(&self->rows);
    return (PyObject *)self;
}

static void keys_dealloc(Keys *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    table_end(&self->table);
    rows_end(&self->rows);
    free(self->rest.items);
    Py_CLEAR(self->comments);
    Py_CLEAR(self->pending_comments);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* The comment lines of the body, or None where they are those of the last kept reading. */
static PyObject *comments_of(Keys *self)
{
    const Text *found = &self->rows.comments;
    if (self->comments != NULL && self->comments_format == self->format &&
        (size_t)PyBytes_Size(self->comments) == found->count &&
        (found->count == 0 || memcmp(PyBytes_AsString(self->comments), found->items, found->count) == 0)) {
        self->pending_comments = Py_NewRef(self->comments);
        return Py_NewRef(Py_None);
    }
    PyObject *all = bytes_of(found->items, found->count);
    self->pending_comments = Py_XNewRef(all);
    return all;
}

static PyObject *odd_of(const Rows *rows)
{
    PyObject *odd = PyList_New((Py_ssize_t)rows->odd.count);
    for (size_t i = 0; odd != NULL && i < rows->odd.count; i++) {
        Span span = rows->odd.items[i];
        PyObject *one = Py_BuildValue("(y#i)", rows->odd_text.items + span.at, (Py_ssize_t)span.size, span.row);
        if (one == NULL || PyList_SetItem(odd, (Py_ssize_t)i, one) < 0)
            Py_CLEAR(odd);
    }
    return odd;
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

static PyObject *scanned(Keys *self)
{
    PyObject *values = bytes_of(self->rows.values, self->rows.count * sizeof(double));
    PyObject *odd = values == NULL ? NULL : odd_of(&self->rows);
    PyObject *comments = odd == NULL ? NULL : comments_of(self);
    PyObject *all = comments == NULL ? NULL : PyTuple_Pack(3, values, odd, comments);
    Py_XDECREF(values);
    Py_XDECREF(odd);
    Py_XDECREF(comments);
    return all;
}

static PyObject *keys_begin(Keys *self, PyObject *arguments)
{
    int is_openmetrics;
    PyObject *renewed = NULL;
    if (!PyArg_ParseTuple(arguments, "p|O!", &is_openmetrics, &PyTuple_Type, &renewed) ||
        begin_body(self, is_openmetrics, renewed) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

static PyObject *keys_feed(Keys *self, PyObject *argument)
{
    Py_buffer piece;
    if (check_pending(self) < 0 || PyObject_GetBuffer(argument, &piece, PyBUF_SIMPLE) < 0)
        return NULL;
    self->fed += (size_t)piece.len;
    int how = self->fed < MOST_BODY ? feed(self, piece.buf, (size_t)piece.len) : IRREGULAR;
    PyBuffer_Release(&piece);
    int is_good = settle_feed(self, how);
    return is_good < 0 ? NULL : PyBool_FromLong(is_good);
}

static PyObject *keys_scanned(Keys *self, PyObject *Py_UNUSED(nothing))
{
    if (check_pending(self) < 0)
        return NULL;
    int is_good = settle_feed(self, feed_end(self));
    if (is_good <= 0)
        return is_good < 0 ? NULL : Py_NewRef(Py_None);
    text_clear(&self->rest);
    return scanned(self);
}

static PyObject *keys_has_met(Keys *self, PyObject *names)
{
    Table *t = &self->table;
    if (check_pending(self) < 0)
        return NULL;
    if (!PyTuple_Check(names))
        return PyErr_Format(PyExc_TypeError, "a tuple of bytes is allowed");
    t->renewed.count = 0;
    int is_there = take_renewed(t, names);
    for (int32_t number = 0; is_there == 0 && number < t->limit; number++) {
        const Entry *entry = &t->entries[number];
        is_there = entry->size != FREE && entry->stamp == t->stamp && entry->row >= 0 && is_renewed(t, entry->name);
    }
    t->renewed.count = 0;
    return is_there < 0 ? NULL : PyBool_FromLong(is_there);
}

static PyObject *keys_add(Keys *self, PyObject *argument)
{
    char *key;
    Py_ssize_t size;
    if (check_pending(self) < 0 || PyBytes_AsStringAndSize(argument, &key, &size) < 0)
        return NULL;
    if (size >= MOST_BODY)
        return PyErr_Format(PyExc_ValueError, "a key of %zd bytes: fewer than %d are allowed", size, MOST_BODY);
    Table *t = &self->table;
    Rows *rows = &self->rows;
    if (ints_reserve(&rows->odd_numbers, 1) < 0)
        return PyErr_NoMemory();
    int32_t number = number_of_odd(t, (uint8_t *)key, (uint32_t)size | self->format);
    if (number < 0)
        return PyErr_NoMemory();
    ints_push(&rows->odd_numbers, number);
    return Py_NewRef(Py_None);
}

static PyObject *key_of(const Table *t, int32_t number)
{
    const Entry *entry = &t->entries[number];
    return bytes_of(text_of(t, entry), length_of(entry));
}

static PyObject *keys_unchecked(Keys *self, PyObject *arguments)
{
    Py_ssize_t first, last, count = (Py_ssize_t)self->rows.unchecked.count;
    if (!PyArg_ParseTuple(arguments, "nn", &first, &last) || check_pending(self) < 0)
        return NULL;
    first = first < 0 ? 0 : first > count ? count : first;
    last = last < first ? first : last > count ? count : last;
    PyObject *found = PyList_New(last - first);
    for (Py_ssize_t i = first; found != NULL && i < last; i++) {
        PyObject *key = key_of(&self->table, self->rows.unchecked.items[i]);
        if (key == NULL || PyList_SetItem(found, i - first, key) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* A key whose bytes are there, by its number. Sets KeyError. */
static const Entry *born_of(Keys *self, PyObject *argument)
{
    long number = PyLong_AsLong(argument);
    if ((number == -1 && PyErr_Occurred()) || check_idle(self) < 0)
        return NULL;
    const Table *t = &self->table;
    const Entry *entry = number < 0 || number >= t->limit ? NULL : &t->entries[number];
    if (entry != NULL && entry->size != FREE && entry->row < 0 &&
        (size_t)(text_of(t, entry) - t->text.items) >= t->released)
        return entry;
    PyErr_Format(PyExc_KeyError, "%ld", number);
    return NULL;
}

static PyObject *keys_key(Keys *self, PyObject *argument)
{
    const Entry *entry = born_of(self, argument);
    return entry == NULL ? NULL : bytes_of(text_of(&self->table, entry), length_of(entry));
}

static PyObject *keys_release(Keys *self, PyObject *argument)
{
    const Entry *entry = born_of(self, argument);
    if (entry == NULL)
        return NULL;
    release(&self->table, entry);
    return Py_NewRef(Py_None);
}

/* What is gone is known. -1: no memory. */
static int find_gone(Table *t, Rows *rows)
{
    if (t->met == t->live)
        return 0;
    int has_memory = pass_over(t, rows, t->order.count) == 0 && note_gone(t, &rows->skipped) == 0 &&
                     note_gone(t, &t->odd) == 0;
    return has_memory ? 0 : -1;
}

/* Numbers of the last kept reading that are not met. */
static PyObject *gone_of(Table *t, Rows *rows)
{
    if (find_gone(t, rows) < 0)
        return PyErr_NoMemory();
    Ints *gone = &t->gone;
    size_t count = 0;
    for (size_t i = 0; i < gone->count; i++)
        if (is_gone(t, gone->items[i]))
            gone->items[count++] = gone->items[i];
    gone->count = count;
    return bytes_of(gone->items, count * sizeof(int32_t));
}

/* Two lists, one behind the other, `more` added to what is in the second. */
static PyObject *both_of(const Ints *plain, const Ints *odd, int32_t more)
{
    PyObject *all = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((plain->count + odd->count) * sizeof(int32_t)));
    if (all == NULL)
        return NULL;
    char *to = PyBytes_AsString(all);
    if (plain->count)
        memcpy(to, plain->items, plain->count * sizeof(int32_t));
    to += plain->count * sizeof(int32_t);
    for (size_t i = 0; i < odd->count; i++, to += sizeof(int32_t)) {
        int32_t one = odd->items[i] + more;
        memcpy(to, &one, sizeof one);
    }
    return all;
}

/* Rows whose keys are new. */
static PyObject *fresh_of(const Table *t, const Rows *rows)
{
    Ints odd = {0};
    if (ints_reserve(&odd, rows->odd_numbers.count) < 0)
        return PyErr_NoMemory();
    for (size_t i = 0; i < rows->odd_numbers.count; i++)
        if (is_born(&t->entries[rows->odd_numbers.items[i]]))
            ints_push(&odd, (int32_t)i);
    PyObject *all = both_of(&rows->fresh, &odd, (int32_t)rows->count);
    free(odd.items);
    return all;
}

static PyObject *keys_rows(Keys *self, PyObject *odd_are_same)
{
    int is_same = PyObject_IsTrue(odd_are_same);
    if (is_same < 0 || check_pending(self) < 0)
        return NULL;
    Table *t = &self->table;
    Rows *rows = &self->rows;
    if (is_same && rows->is_same && rows->count == t->order.count && t->met == t->live && t->born.count == 0)
        return Py_NewRef(Py_None);
    PyObject *numbers = both_of(&rows->numbers, &rows->odd_numbers, 0), *fresh = fresh_of(t, rows);
    PyObject *born = bytes_of(t->born.items, t->born.count * sizeof(int32_t)), *gone = gone_of(t, rows), *all = NULL;
    if (numbers != NULL && fresh != NULL && born != NULL && gone != NULL)
        all = Py_BuildValue("(OOOOi)", numbers, fresh, born, gone, t->limit);
    Py_XDECREF(numbers);
    Py_XDECREF(fresh);
    Py_XDECREF(born);
    Py_XDECREF(gone);
    return all;
}

static PyObject *keys_keep(Keys *self, PyObject *Py_UNUSED(nothing))
{
    Table *t = &self->table;
    Rows *rows = &self->rows;
    if (check_pending(self) < 0)
        return NULL;
    if (find_gone(t, rows) < 0 || keep(t) < 0) {
        forget_all(self);
        return PyErr_NoMemory();
    }
    ints_swap(&t->order, &rows->numbers);
    ints_swap(&t->odd, &rows->odd_numbers);
    ints_shrink(&t->order);
    Py_XDECREF(self->comments);
    self->comments = self->pending_comments;
    self->pending_comments = NULL;
    self->comments_format = self->format;
    rows_shrink(rows);
    rows_clear(rows);
    return Py_NewRef(Py_None);
}

static PyObject *keys_forget(Keys *self, PyObject *Py_UNUSED(nothing))
{
    if (check_idle(self) < 0)
        return NULL;
    forget_all(self);
    return Py_NewRef(Py_None);
}

static PyObject *keys_sizeof(Keys *self, PyObject *Py_UNUSED(nothing))
{
    if (check_idle(self) < 0)
        return NULL;
    const Table *t = &self->table;
    const Rows *rows = &self->rows;
    size_t size = sizeof(Keys) + (size_t)t->entry_room * sizeof(Entry) + ((size_t)t->mask + 1) * 4;
    size += (t->free.room + t->order.room + t->born.room + t->replaced.room + t->ends.room + t->renewed.room) * 4;
    size += (t->odd.room + t->gone.room + rows->numbers.room + rows->skipped.room + rows->fresh.room) * 4;
    size += self->rest.room + t->text.room + rows->odd_text.room + rows->comments.room + rows->room * sizeof(double);
    size += (rows->odd.room + rows->unrounded.room) * sizeof(Span);
    size += (rows->odd_numbers.room + rows->unchecked.room) * 4;
    return PyLong_FromSize_t(size);
}

static PyMethodDef METHODS[] = {
    {"begin", (PyCFunction)keys_begin, METH_VARARGS, NULL},  {"feed", (PyCFunction)keys_feed, METH_O, NULL},
    {"scanned", (PyCFunction)keys_scanned, METH_NOARGS, NULL}, {"has_met", (PyCFunction)keys_has_met, METH_O, NULL},
    {"add", (PyCFunction)keys_add, METH_O, NULL},            {"unchecked", (PyCFunction)keys_unchecked, METH_VARARGS, NULL},
    {"rows", (PyCFunction)keys_rows, METH_O, NULL},          {"keep", (PyCFunction)keys_keep, METH_NOARGS, NULL},
    {"forget", (PyCFunction)keys_forget, METH_NOARGS, NULL}, {"key", (PyCFunction)keys_key, METH_O, NULL},
    {"release", (PyCFunction)keys_release, METH_O, NULL},
    {"__sizeof__", (PyCFunction)keys_sizeof, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, keys_new}, {Py_tp_dealloc, keys_dealloc}, {Py_tp_methods, METHODS}, {0, NULL}};

static PyType_Spec SPEC = {"collector.native._kernel.KeyTable", sizeof(Keys), 0, Py_TPFLAGS_DEFAULT, SLOTS};

/* All planes of the kinds that have values, one kind behind the other, each behind the number of its planes. */
static PyObject *coded_of(const Column *column)
{
    size_t size = 0;
    for (int kind = 0; kind < 3; kind++)
        if (column->kinds[kind].count)
            size += 1 + (size_t)column->kinds[kind].used * column->kinds[kind].count;
    PyObject *all = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (all == NULL)
        return NULL;
    char *to = PyBytes_AsString(all);
    for (int kind = 0; kind < 3; kind++) {
        const Planes *from = &column->kinds[kind];
        if (from->count == 0)
            continue;
        *to++ = (char)from->used;
        for (int plane = 0; plane < from->used; plane++, to += from->count)
            memcpy(to, from->planes + (size_t)plane * from->room, from->count);
    }
    return all;
}

/* Those of integers and then of decimals, `more` added to the latter, as int64. */
static PyObject *joined(const Ints both[2], size_t more)
{
    PyObject *all = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((both[0].count + both[1].count) * 8));
    if (all == NULL)
        return NULL;
    char *to = PyBytes_AsString(all);
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < both[kind].count; i++, to += 8) {
            int64_t one = (int64_t)both[kind].items[i] + (kind ? (int64_t)more : 0);
            memcpy(to, &one, 8);
        }
    return all;
}

static PyObject *told_of(const Column *column)
{
    size_t integers = column->kinds[0].count, samples = integers + column->kinds[1].count + column->kinds[2].count;
    PyObject *bitmap = column->absent ? bytes_of(column->bitmap.items, column->bitmap.count) : Py_NewRef(Py_None);
    PyObject *coded = coded_of(column), *places = joined(column->places, integers), *slots = joined(column->slots, 0);
    PyObject *all = NULL;
    if (bitmap != NULL && coded != NULL && places != NULL && slots != NULL)
        all = Py_BuildValue("(OOOOn)", bitmap, coded, places, slots, (Py_ssize_t)samples);
    Py_XDECREF(bitmap);
    Py_XDECREF(coded);
    Py_XDECREF(places);
    Py_XDECREF(slots);
    return all;
}

static PyObject *encoded(const Cell *cell)
{
    Column column = {0};
    int how = column_begin(&column, cell->stop - cell->start, cell->present != NULL);
    Py_BEGIN_ALLOW_THREADS
    if (how == 0)
        how = encode_column(cell, &column);
    Py_END_ALLOW_THREADS
    PyObject *all = how == 0    ? told_of(&column)
                    : how == -1 ? PyErr_NoMemory()
                                : PyErr_Format(PyExc_ValueError, "a class that there is not: 0 to 9 and 255 are allowed");
    column_end(&column);
    return all;
}

static PyObject *encode_cell(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer values, live, present, classes, coded;
    Py_ssize_t start, stop;
    if (!PyArg_ParseTuple(arguments, "y*y*z*y*y*nn", &values, &live, &present, &classes, &coded, &start, &stop))
        return NULL;
    PyObject *all = NULL;
    if (0 <= start && start <= stop && stop - start <= CELL_SLOTS && stop <= values.len / 8 && stop <= live.len &&
        (present.buf == NULL || stop <= present.len) && stop <= classes.len && stop <= coded.len / 8) {
        Cell cell = {values.buf, live.buf, present.buf, classes.buf, coded.buf, (size_t)start, (size_t)stop};
        all = encoded(&cell);
    } else {
        PyErr_Format(PyExc_ValueError, "slots %zd to %zd: at most %d, of which there are arrays, are allowed", start,
                     stop, CELL_SLOTS);
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&live);
    PyBuffer_Release(&present);
    PyBuffer_Release(&classes);
    PyBuffer_Release(&coded);
    return all;
}

/* The rows of a lane, as int64, where they are not all, and their slots. 0: there are more or fewer than `count`. */
static int fill_lane(const Py_buffer *codes, const Py_buffer *numbers, uint32_t lane, size_t count, int64_t *rows,
                     int32_t *slots)
{
    const int32_t *code = codes->buf, *number = numbers->buf;
    size_t most = (size_t)codes->len / 4, found = 0, all = (size_t)numbers->len / 4;
    for (size_t row = 0; row < all; row++) {
        if ((size_t)(uint32_t)number[row] >= most)
            return 0;
        int32_t one = code[number[row]];
        if (one < 0 || ((uint32_t)one & 1) != lane)
            continue;
        if (found == count)
            return 0;
        if (rows != NULL)
            rows[found] = (int64_t)row;
        slots[found++] = one >> 1;
    }
    return found == count;
}

static PyObject *lane_rows(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer codes, numbers;
    int lane;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(arguments, "y*y*in", &codes, &numbers, &lane, &count))
        return NULL;
    PyObject *all = NULL, *rows = NULL, *slots = NULL;
    if (count < 0 || count > numbers.len / 4)
        PyErr_Format(PyExc_ValueError, "%zd of %zd rows", count, numbers.len / 4);
    else if ((slots = PyBytes_FromStringAndSize(NULL, count * 4)) != NULL)
        rows = count == numbers.len / 4 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(NULL, count * 8);
    if (rows != NULL && fill_lane(&codes, &numbers, (uint32_t)lane, (size_t)count,
                                  rows == Py_None ? NULL : (int64_t *)(void *)PyBytes_AsString(rows),
                                  (int32_t *)(void *)PyBytes_AsString(slots)))
        all = PyTuple_Pack(2, rows, slots);
    else if (rows != NULL)
        PyErr_Format(PyExc_ValueError, "not %zd rows of lane %d, or a number without a code", count, lane);
    Py_XDECREF(rows);
    Py_XDECREF(slots);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&numbers);
    return all;
}

static PyMethodDef FUNCTIONS[] = {{"encode_cell", encode_cell, METH_VARARGS, NULL},
                                  {"lane_rows", lane_rows, METH_VARARGS, NULL},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, FUNCTIONS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&MODULE);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&SPEC);
    if (type == NULL || PyModule_AddObjectRef(module, "KeyTable", type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
