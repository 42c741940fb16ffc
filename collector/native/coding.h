/* encode_cell and lane_rows, as __init__.py describes them. */
#ifndef BYOC_CODING_H
#define BYOC_CODING_H

#include "cells.h"

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

#endif
