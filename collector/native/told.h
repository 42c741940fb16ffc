/* What a table tells of the rows of a body. */
#ifndef BYOC_TOLD_H
#define BYOC_TOLD_H

#include "feed.h"

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

#endif
