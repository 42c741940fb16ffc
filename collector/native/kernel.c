/* The extension module: keys of a target by number, and the scan of its pages. See __init__.py for what it promises. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lines.h"

#define MOST_BODY (1 << 30)

typedef struct {
    PyObject_HEAD
    Table table;
    Rows rows;
    PyObject *comments, *pending_comments; /* bytes, NULL: unknown */
    uint32_t comments_format, format;
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
    Py_CLEAR(self->comments);
    Py_CLEAR(self->pending_comments);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* 1: these are the comments of the last kept reading. */
static int has_kept_comments(Keys *self, const char *body, Py_ssize_t size)
{
    if (self->comments == NULL || self->comments_format != self->format || PyBytes_Size(self->comments) != size)
        return 0;
    const char *kept = PyBytes_AsString(self->comments);
    for (size_t i = 0; i < self->rows.comments.count; i++) {
        Span span = self->rows.comments.items[i];
        if (memcmp(kept, body + span.at, span.size) != 0)
            return 0;
        kept += span.size;
        if (i + 1 < self->rows.comments.count && *kept++ != '\n')
            return 0;
    }
    return 1;
}

/* The comment lines of the body, or None where they are those of the last kept reading. */
static PyObject *comments_of(Keys *self, const char *body)
{
    Py_ssize_t size = 0;
    for (size_t i = 0; i < self->rows.comments.count; i++)
        size += self->rows.comments.items[i].size + (i > 0);
    if (has_kept_comments(self, body, size)) {
        self->pending_comments = Py_NewRef(self->comments);
        return Py_NewRef(Py_None);
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, size);
    if (joined == NULL)
        return NULL;
    char *to = PyBytes_AsString(joined);
    for (size_t i = 0; i < self->rows.comments.count; i++) {
        Span span = self->rows.comments.items[i];
        if (i > 0)
            *to++ = '\n';
        memcpy(to, body + span.at, span.size);
        to += span.size;
    }
    self->pending_comments = Py_NewRef(joined);
    return joined;
}

static PyObject *odd_of(const Rows *rows)
{
    PyObject *odd = PyList_New((Py_ssize_t)rows->odd.count);
    for (size_t i = 0; odd != NULL && i < rows->odd.count; i++) {
        Span span = rows->odd.items[i];
        PyObject *one = Py_BuildValue("(IIi)", span.at, span.size, span.row);
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

static PyObject *scanned(Keys *self, const char *body)
{
    int found = round_values(&self->rows, body);
    if (found < 0)
        return NULL;
    if (found > 0)
        return Py_NewRef(Py_None);
    PyObject *values = bytes_of(self->rows.values, self->rows.count * sizeof(double));
    PyObject *odd = values == NULL ? NULL : odd_of(&self->rows);
    PyObject *comments = odd == NULL ? NULL : comments_of(self, body);
    PyObject *all = comments == NULL ? NULL : PyTuple_Pack(3, values, odd, comments);
    Py_XDECREF(values);
    Py_XDECREF(odd);
    Py_XDECREF(comments);
    return all;
}

static PyObject *keys_scan(Keys *self, PyObject *arguments)
{
    Py_buffer body;
    Py_ssize_t size;
    int is_openmetrics;
    if (!PyArg_ParseTuple(arguments, "y*np", &body, &size, &is_openmetrics))
        return NULL;
    PyObject *result = NULL;
    if (check_idle(self) < 0)
        goto done;
    forget_all(self);
    if (size < 0 || size > body.len) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of a body of %zd", size, body.len);
        goto done;
    }
    if (size >= MOST_BODY) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    begin(&self->table);
    self->format = is_openmetrics ? FORMAT : 0;
    self->is_busy = 1;
    int how;
    Py_BEGIN_ALLOW_THREADS
    how = scan_lines(&self->table, &self->rows, body.buf, (size_t)size, self->format);
    Py_END_ALLOW_THREADS
    self->is_busy = 0;
    if (how == SCANNED)
        result = scanned(self, body.buf);
    else
        result = how == IRREGULAR ? Py_NewRef(Py_None) : PyErr_NoMemory();
    if (result == NULL || result == Py_None)
        forget_all(self);
done:
    PyBuffer_Release(&body);
    return result;
}

static PyObject *keys_begin(Keys *self, PyObject *is_openmetrics)
{
    int format = PyObject_IsTrue(is_openmetrics);
    if (format < 0 || check_idle(self) < 0)
        return NULL;
    forget_all(self);
    begin(&self->table);
    self->format = format ? FORMAT : 0;
    return Py_NewRef(Py_None);
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
    if (ints_reserve(&rows->odd_numbers, 1) < 0 || ints_reserve(&rows->odd_previous, 1) < 0)
        return PyErr_NoMemory();
    uint32_t hash = hash_of(t, (uint8_t *)key, (uint32_t)size), marked = (uint32_t)size | self->format;
    int32_t number = find(t, hash, (uint8_t *)key, marked);
    if (number >= 0)
        meet(t, number);
    else if ((number = insert(t, hash, (uint8_t *)key, marked)) < 0)
        return PyErr_NoMemory();
    ints_push(&rows->odd_numbers, number);
    ints_push(&rows->odd_previous, t->entries[number].row);
    return Py_NewRef(Py_None);
}

static PyObject *key_of(const Table *t, int32_t number)
{
    uint32_t at = t->entries[number].at;
    return bytes_of(t->arena + at, length_of(t, at));
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

static PyObject *keys_key(Keys *self, PyObject *argument)
{
    long number = PyLong_AsLong(argument);
    if ((number == -1 && PyErr_Occurred()) || check_idle(self) < 0)
        return NULL;
    if (number < 0 || number >= self->table.limit || self->table.entries[number].at == NOWHERE)
        return PyErr_Format(PyExc_KeyError, "%ld", number);
    return key_of(&self->table, (int32_t)number);
}

/* Whether a key begins with one of some texts. */
static int begins_with(const Table *t, uint32_t at, PyObject *starts)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(starts); i++) {
        PyObject *start = PyTuple_GetItem(starts, i);
        size_t size = (size_t)PyBytes_Size(start);
        if (size <= length_of(t, at) && memcmp(t->arena + at, PyBytes_AsString(start), size) == 0)
            return 1;
    }
    return 0;
}

static void renumber(int32_t *numbers, int32_t *previous, size_t count, const int32_t *renewed, int32_t limit)
{
    for (size_t i = 0; i < count; i++)
        if (numbers[i] < limit && renewed[numbers[i]] >= 0) {
            numbers[i] = renewed[numbers[i]];
            previous[i] = -1;
        }
}

static PyObject *keys_renew(Keys *self, PyObject *starts)
{
    Table *t = &self->table;
    Rows *rows = &self->rows;
    if (check_pending(self) < 0)
        return NULL;
    if (!PyTuple_Check(starts)) {
        PyErr_SetString(PyExc_TypeError, "a tuple of bytes is allowed");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(starts); i++)
        if (!PyBytes_Check(PyTuple_GetItem(starts, i))) {
            PyErr_SetString(PyExc_TypeError, "a tuple of bytes is allowed");
            return NULL;
        }
    int32_t limit = t->limit;
    int32_t *renewed = malloc(((size_t)limit + 1) * sizeof(int32_t));
    if (renewed == NULL)
        return PyErr_NoMemory();
    int has_memory = 1;
    for (int32_t number = 0; number < limit && has_memory; number++) {
        Entry entry = t->entries[number];
        renewed[number] = -1;
        if (entry.at == NOWHERE || entry.stamp != t->stamp || entry.row < 0)
            continue;
        if (begins_with(t, entry.at, starts))
            has_memory = (renewed[number] = renew(t, number)) >= 0;
    }
    if (has_memory) {
        renumber(rows->numbers, rows->previous, rows->count, renewed, limit);
        renumber(rows->odd_numbers.items, rows->odd_previous.items, rows->odd_numbers.count, renewed, limit);
    }
    free(renewed);
    if (!has_memory) {
        forget_all(self);
        return PyErr_NoMemory();
    }
    return Py_NewRef(Py_None);
}

/* Numbers of the last kept reading that are not met. */
static PyObject *gone_of(const Table *t)
{
    PyObject *gone = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(t->live - t->met) * 4);
    if (gone == NULL || t->live == t->met)
        return gone;
    char *to = PyBytes_AsString(gone);
    for (int32_t number = 0; number < t->limit; number++)
        if (t->entries[number].at != NOWHERE && t->entries[number].stamp != t->stamp) {
            memcpy(to, &number, 4);
            to += 4;
        }
    return gone;
}

static PyObject *with_odd(const int32_t *plain, size_t count, const Ints *odd)
{
    PyObject *all = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((count + odd->count) * 4));
    if (all == NULL)
        return NULL;
    char *to = PyBytes_AsString(all);
    if (count)
        memcpy(to, plain, count * 4);
    if (odd->count)
        memcpy(to + count * 4, odd->items, odd->count * 4);
    return all;
}

static PyObject *keys_rows(Keys *self, PyObject *odd_are_same)
{
    int is_same = PyObject_IsTrue(odd_are_same);
    if (is_same < 0 || check_pending(self) < 0)
        return NULL;
    const Table *t = &self->table;
    const Rows *rows = &self->rows;
    if (is_same && rows->is_same && rows->count == t->order.count && t->met == t->live && t->born.count == 0)
        return Py_NewRef(Py_None);
    PyObject *numbers = with_odd(rows->numbers, rows->count, &rows->odd_numbers);
    PyObject *previous = with_odd(rows->previous, rows->count, &rows->odd_previous);
    PyObject *born = bytes_of(t->born.items, t->born.count * 4), *gone = gone_of(t), *all = NULL;
    if (numbers != NULL && previous != NULL && born != NULL && gone != NULL)
        all = Py_BuildValue("(OOOOi)", numbers, previous, born, gone, t->limit);
    Py_XDECREF(numbers);
    Py_XDECREF(previous);
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
    t->order.count = 0; /* it is written anew, whether there is memory or not */
    if (ints_reserve(&t->order, rows->count) < 0 || keep(t) < 0) {
        forget_all(self);
        return PyErr_NoMemory();
    }
    for (size_t i = rows->odd_numbers.count; i-- > 0;)
        t->entries[rows->odd_numbers.items[i]].row = (int32_t)(rows->count + i);
    for (size_t i = rows->count; i-- > 0;)
        t->entries[rows->numbers[i]].row = (int32_t)i;
    if (rows->count)
        memcpy(t->order.items, rows->numbers, rows->count * sizeof(int32_t));
    t->order.count = rows->count;
    Py_XDECREF(self->comments);
    self->comments = self->pending_comments;
    self->pending_comments = NULL;
    self->comments_format = self->format;
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
    size_t size = sizeof(Keys) + t->room + (size_t)t->entry_room * sizeof(Entry) + ((size_t)t->mask + 1) * sizeof(Slot);
    size += (t->free.room + t->order.room + t->born.room + t->replaced.room) * 4 + rows->room * 16;
    size += (rows->odd.room + rows->comments.room + rows->unrounded.room) * sizeof(Span);
    size += (rows->odd_numbers.room + rows->odd_previous.room + rows->unchecked.room) * 4;
    return PyLong_FromSize_t(size);
}

static PyMethodDef METHODS[] = {
    {"scan", (PyCFunction)keys_scan, METH_VARARGS, NULL},    {"begin", (PyCFunction)keys_begin, METH_O, NULL},
    {"add", (PyCFunction)keys_add, METH_O, NULL},            {"unchecked", (PyCFunction)keys_unchecked, METH_VARARGS, NULL},
    {"renew", (PyCFunction)keys_renew, METH_O, NULL},        {"rows", (PyCFunction)keys_rows, METH_O, NULL},
    {"keep", (PyCFunction)keys_keep, METH_NOARGS, NULL},     {"forget", (PyCFunction)keys_forget, METH_NOARGS, NULL},
    {"key", (PyCFunction)keys_key, METH_O, NULL},            {"__sizeof__", (PyCFunction)keys_sizeof, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, keys_new}, {Py_tp_dealloc, keys_dealloc}, {Py_tp_methods, METHODS}, {0, NULL}};

static PyType_Spec SPEC = {"collector.native._kernel.KeyTable", sizeof(Keys), 0, Py_TPFLAGS_DEFAULT, SLOTS};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&MODULE);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&SPEC);
    if (type == NULL || PyModule_AddObjectRef(module, "KeyTable", type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
