/* KeyTable, as __init__.py describes it. */
#ifndef BYOC_KEY_TABLE_H
#define BYOC_KEY_TABLE_H

#include "told.h"

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

#endif
