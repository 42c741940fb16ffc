/* What the lake's writer does to every sample: columns turned into runs, and integers coded by their differences.
 * See __init__.py for what the functions promise. Source of the coding: Encodings.md of apache/parquet-format.
 */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3") /* vectors in pack: a third of its time */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BLOCK 256
#define MINIS 4
#define MOST_VARINT 10
#ifdef __GNUC__
#define INLINED static inline __attribute__((always_inline)) /* so that each shape has code of its own */
#else
#define INLINED static inline
#endif
#define TILE_ROWS 32
#define TILE_TIMES 16

/* A C-contiguous buffer of items of 8 bytes; -1 with an exception set if it is none. */
static int take(PyObject *object, Py_buffer *view, int flags, const char *what)
{
    if (PyObject_GetBuffer(object, view, flags) < 0)
        return -1;
    if (view->len % 8 == 0 && (uintptr_t)view->buf % 8 == 0)
        return 0;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "%s: a buffer that is not of items of 8 bytes", what);
    return -1;
}

/* --- turn ------------------------------------------------------------------------------------------------------- */

static void turn_all(const double *const *columns, Py_ssize_t times, const int64_t *places, Py_ssize_t rows,
                     double *table)
{
    for (Py_ssize_t row = 0; row < rows; row += TILE_ROWS) {
        Py_ssize_t last_row = row + TILE_ROWS < rows ? row + TILE_ROWS : rows;
        for (Py_ssize_t time = 0; time < times; time += TILE_TIMES) {
            Py_ssize_t last_time = time + TILE_TIMES < times ? time + TILE_TIMES : times;
            for (Py_ssize_t r = row; r < last_row; r++) {
                double *out = table + places[r] * times;
                for (Py_ssize_t t = time; t < last_time; t++)
                    out[t] = columns[t][r];
            }
        }
    }
}

/* Whether each place is a row of a table of so many values. */
static int are_within(const int64_t *places, Py_ssize_t rows, Py_ssize_t table_rows)
{
    for (Py_ssize_t row = 0; row < rows; row++)
        if (places[row] < 0 || places[row] >= table_rows)
            return 0;
    return 1;
}

static PyObject *turn(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *listed, *places_object, *table_object, *answer = NULL;
    Py_buffer places, table, *views = NULL;
    const double **columns = NULL;
    Py_ssize_t taken = 0;
    if (!PyArg_ParseTuple(arguments, "O!OO", &PyTuple_Type, &listed, &places_object, &table_object))
        return NULL;
    if (take(places_object, &places, PyBUF_SIMPLE, "places") < 0)
        return NULL;
    if (take(table_object, &table, PyBUF_WRITABLE, "table") < 0) {
        PyBuffer_Release(&places);
        return NULL;
    }
    Py_ssize_t times = PyTuple_Size(listed), rows = places.len / 8;
    views = PyMem_Calloc((size_t)times + 1, sizeof *views);
    columns = PyMem_Calloc((size_t)times + 1, sizeof *columns);
    if (views == NULL || columns == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (; taken < times; taken++) {
        if (take(PyTuple_GetItem(listed, taken), &views[taken], PyBUF_SIMPLE, "a column") < 0)
            goto done;
        columns[taken] = views[taken].buf;
        if (views[taken].len != places.len) {
            taken++;
            PyErr_SetString(PyExc_ValueError, "a column of another length than places");
            goto done;
        }
    }
    if (times && !are_within(places.buf, rows, table.len / 8 / times)) {
        PyErr_SetString(PyExc_ValueError, "a place beyond the table");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS;
    turn_all(columns, times, places.buf, rows, table.buf);
    Py_END_ALLOW_THREADS;
    answer = Py_NewRef(Py_None);
done:
    while (taken > 0)
        PyBuffer_Release(&views[--taken]);
    PyMem_Free(views);
    PyMem_Free(columns);
    PyBuffer_Release(&places);
    PyBuffer_Release(&table);
    return answer;
}

/* --- delta_packed ----------------------------------------------------------------------------------------------- */

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    for (; value > 127; value >>= 7)
        *out++ = (uint8_t)(value | 128);
    *out++ = (uint8_t)value;
    return out;
}

static uint64_t zigzag(int64_t value) { return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63); }

static int width_of(uint64_t bits) { return bits ? 64 - __builtin_clzll(bits) : 0; }

/* How differences are laid out. Tight: as Arrow has it for 64 bits. Aligned: in small blocks of whole octets and
 * simple fractions of them, counted from the same places, so that what compresses afterwards sees equal octets. */
typedef struct {
    int block;
    int mini;
    int is_aligned;
} Shape;

static const Shape TIGHT = {256, 64, 0}, ALIGNED = {128, 32, 1};
#define STEP 128 /* aligned offsets count from a multiple of this, where an octet holds them then */

INLINED int width_in(const Shape *shape, uint64_t bits)
{
    int width = width_of(bits);
    if (!shape->is_aligned || width <= 2)
        return width;
    return width <= 4 ? 4 : (width + 7) & ~7;
}

/* What offsets of a block are counted from; at most the least difference. */
INLINED int64_t base_of(const Shape *shape, int64_t least, int64_t most)
{
    int64_t anchor = least & ~(int64_t)(STEP - 1);
    if (shape->is_aligned && least != most && (uint64_t)most - (uint64_t)anchor < 256)
        return anchor;
    return least;
}

/* `count` values, a multiple of 32, of `width` bits each, the lowest bit first. Up to 7 bytes beyond are touched. */
INLINED uint8_t *put_mini(uint8_t *out, const uint64_t *values, int count, int width)
{
    uint64_t held = 0;
    int bits = 0;
    if (width == 0)
        return out;
    for (int i = 0; i < count; i++) {
        held |= values[i] << bits; /* bits < 64 */
        if (bits + width >= 64) {
            memcpy(out, &held, 8);
            out += 8;
            held = bits ? values[i] >> (64 - bits) : 0;
            bits += width - 64;
        } else
            bits += width;
    }
    memcpy(out, &held, 8);
    return out + bits / 8;
}

/* A block of at most `shape->block` differences; what is missing of it is not stored. */
INLINED uint8_t *put_block(const Shape *shape, uint8_t *out, int64_t *steps, int count)
{
    uint64_t offsets[MOST_BLOCK], any[MINIS] = {0};
    int64_t least = steps[0], most = steps[0];
    for (int i = 1; i < count; i++) {
        least = steps[i] < least ? steps[i] : least;
        most = steps[i] > most ? steps[i] : most;
    }
    int64_t base = base_of(shape, least, most);
    for (int i = 0; i < shape->block; i++)
        offsets[i] = i < count ? (uint64_t)steps[i] - (uint64_t)base : 0;
    out = put_varint(out, zigzag(base));
    uint8_t *widths = out;
    out += MINIS;
    for (int mini = 0; mini < MINIS; mini++) {
        for (int i = 0; i < shape->mini; i++)
            any[mini] |= offsets[mini * shape->mini + i];
        widths[mini] = (uint8_t)width_in(shape, any[mini]);
    }
    for (int mini = 0; mini * shape->mini < count; mini++)
        out = put_mini(out, offsets + mini * shape->mini, shape->mini, widths[mini]);
    return out;
}

static size_t most_packed(const Shape *shape, size_t count)
{
    size_t block = (size_t)shape->block;
    return 4 * MOST_VARINT + (count / block + 1) * (MOST_VARINT + MINIS + block * 8) + 8;
}

INLINED size_t pack(const Shape *shape, const int64_t *values, size_t count, uint8_t *start)
{
    int64_t steps[MOST_BLOCK];
    size_t block = (size_t)shape->block;
    uint8_t *out = put_varint(start, block);
    out = put_varint(out, MINIS);
    out = put_varint(out, count);
    out = put_varint(out, zigzag(count ? values[0] : 0));
    for (size_t first = 1; first < count; first += block) {
        size_t some = count - first < block ? count - first : block;
        for (size_t i = 0; i < some; i++) /* may wrap around, as the reader's sum does */
            steps[i] = (int64_t)((uint64_t)values[first + i] - (uint64_t)values[first + i - 1]);
        out = put_block(shape, out, steps, (int)some);
    }
    return (size_t)(out - start);
}

static PyObject *packed(const Shape *shape, PyObject *object)
{
    Py_buffer values;
    if (take(object, &values, PyBUF_SIMPLE, "values") < 0)
        return NULL;
    size_t count = (size_t)values.len / 8, size = 0;
    PyObject *answer = NULL;
    uint8_t *room = PyMem_Malloc(most_packed(shape, count));
    if (room == NULL)
        PyErr_NoMemory();
    else {
        Py_BEGIN_ALLOW_THREADS;
        size = shape->is_aligned ? pack(&ALIGNED, values.buf, count, room) : pack(&TIGHT, values.buf, count, room);
        Py_END_ALLOW_THREADS;
        answer = PyBytes_FromStringAndSize((const char *)room, (Py_ssize_t)size);
    }
    PyMem_Free(room);
    PyBuffer_Release(&values);
    return answer;
}

static PyObject *delta_packed(PyObject *Py_UNUSED(module), PyObject *object) { return packed(&TIGHT, object); }

static PyObject *delta_aligned(PyObject *Py_UNUSED(module), PyObject *object) { return packed(&ALIGNED, object); }

#include "steady.h"

/* --- the module ------------------------------------------------------------------------------------------------- */

static PyMethodDef METHODS[] = {{"turn", turn, METH_VARARGS, NULL},
                                {"delta_packed", delta_packed, METH_O, NULL},
                                {"delta_aligned", delta_aligned, METH_O, NULL},
                                {"steady", steady, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&MODULE); }
