/* The extension module: what `Reader` promises is in __init__.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "rw1.h"
#include "rw2.h"

#define MOST_BODY (1 << 30)

typedef struct {
    PyObject_HEAD
    Known series, symbols;
    int is_busy;
} Reader;

static PyObject *reader_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    const char *secret;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "y#", &secret, &size))
        return NULL;
    if (size != 16)
        return PyErr_Format(PyExc_ValueError, "a secret of %zd bytes: 16 are allowed", size);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Reader *self = (Reader *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    if (known_begin(&self->series, (const uint8_t *)secret) < 0 ||
        known_begin(&self->symbols, (const uint8_t *)secret) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void reader_dealloc(Reader *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    known_end(&self->series);
    known_end(&self->symbols);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* -1, with an exception set, while another thread scans: then nothing may be looked at. */
static int check_idle(Reader *self)
{
    if (!self->is_busy)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a scan of this reader is under way in another thread");
    return -1;
}

static PyObject *bytes_of(const void *items, size_t size) { return PyBytes_FromStringAndSize(items, (Py_ssize_t)size); }

/* Puts new bytes into a tuple. -1: an exception is set. */
static int set_bytes(PyObject *tuple, Py_ssize_t place, const void *items, size_t size)
{
    PyObject *bytes = bytes_of(items, size);
    return bytes == NULL ? -1 : PyTuple_SetItem(tuple, place, bytes);
}

static PyObject *found_of(const Scan *s)
{
    PyObject *found = PyTuple_New(7);
    size_t symbols = s->event_count ? s->symbol_count : 0;
    if (found == NULL)
        return NULL;
    if (set_bytes(found, 0, s->numbers, s->rows * sizeof(int32_t)) < 0 ||
        set_bytes(found, 1, s->times, s->rows * sizeof(int64_t)) < 0 ||
        set_bytes(found, 2, s->values, s->rows * sizeof(double)) < 0 ||
        set_bytes(found, 3, s->starts, s->has_starts ? s->rows * sizeof(int64_t) : 0) < 0 ||
        set_bytes(found, 4, s->events, s->event_count * sizeof(Event)) < 0 ||
        set_bytes(found, 5, s->symbols, symbols * sizeof(Span)) < 0 ||
        set_bytes(found, 6, s->ids, symbols * sizeof(uint32_t)) < 0)
        Py_CLEAR(found);
    return found;
}

static PyObject *scan_body(Reader *self, PyObject *arguments, int version)
{
    Py_buffer body;
    unsigned long long series, samples, symbols, labels;
    if (!PyArg_ParseTuple(arguments, "y*KKKK", &body, &series, &samples, &symbols, &labels))
        return NULL;
    PyObject *result = NULL;
    if (check_idle(self) < 0)
        goto done;
    if (body.len >= MOST_BODY) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    Scan scan = {0};
    scan.body = body.buf;
    scan.size = (size_t)body.len;
    scan.limits = (Limits){series, samples, symbols, labels};
    int how;
    self->is_busy = 1;
    Py_BEGIN_ALLOW_THREADS
    how = version == 1 ? scan_rw1(&self->series, &scan) : scan_rw2(&self->series, &self->symbols, &scan);
    Py_END_ALLOW_THREADS
    self->is_busy = 0;
    if (how == FOUND)
        result = found_of(&scan);
    else
        result = how == NO_MEMORY ? PyErr_NoMemory() : Py_NewRef(Py_None);
    scan_end(&scan);
done:
    PyBuffer_Release(&body);
    return result;
}

static PyObject *reader_rw1(Reader *self, PyObject *arguments) { return scan_body(self, arguments, 1); }

static PyObject *reader_rw2(Reader *self, PyObject *arguments) { return scan_body(self, arguments, 2); }

static PyObject *reader_find(Reader *self, PyObject *argument)
{
    char *key;
    Py_ssize_t size;
    if (check_idle(self) < 0 || PyBytes_AsStringAndSize(argument, &key, &size) < 0)
        return NULL;
    uint32_t hash = known_hash(&self->series, (uint8_t *)key, (size_t)size);
    uint32_t entry = known_find(&self->series, hash, (uint8_t *)key, (size_t)size);
    return entry == NONE ? Py_NewRef(Py_None) : PyLong_FromLong(self->series.entries[entry].number);
}

static PyObject *reader_learn(Reader *self, PyObject *arguments)
{
    const char *key;
    Py_ssize_t size;
    int number;
    if (!PyArg_ParseTuple(arguments, "y#i", &key, &size, &number) || check_idle(self) < 0)
        return NULL;
    uint32_t hash = known_hash(&self->series, (const uint8_t *)key, (size_t)size);
    uint32_t entry = known_find(&self->series, hash, (const uint8_t *)key, (size_t)size);
    if (entry != NONE)
        self->series.entries[entry].number = number;
    else
        known_add(&self->series, hash, (const uint8_t *)key, (size_t)size, number);
    return Py_NewRef(Py_None);
}

static PyObject *reader_sizeof(Reader *self, PyObject *Py_UNUSED(nothing))
{
    if (check_idle(self) < 0)
        return NULL;
    return PyLong_FromSize_t(sizeof(Reader) + known_bytes(&self->series) + known_bytes(&self->symbols));
}

static PyMethodDef METHODS[] = {
    {"rw1", (PyCFunction)reader_rw1, METH_VARARGS, NULL},
    {"rw2", (PyCFunction)reader_rw2, METH_VARARGS, NULL},
    {"find", (PyCFunction)reader_find, METH_O, NULL},
    {"learn", (PyCFunction)reader_learn, METH_VARARGS, NULL},
    {"__sizeof__", (PyCFunction)reader_sizeof, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, reader_new}, {Py_tp_dealloc, reader_dealloc}, {Py_tp_methods, METHODS}, {0, NULL}};

static PyType_Spec SPEC = {"metering.gateway.native._kernel.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, SLOTS};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&MODULE);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&SPEC);
    if (type == NULL || PyModule_AddObjectRef(module, "Reader", type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}
