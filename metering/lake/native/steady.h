/* The columns of a row group into stretches of equal values, without a row of them in memory. Included by kernel.c. */
#include "columns.h"

/* --- what comes out --- */

typedef struct {
    int64_t *items;
    size_t count, room; /* of items */
} Growing;

static int64_t *more(Growing *into, size_t items, int *bad)
{
    if (into->count + items > into->room) {
        size_t room = into->room ? 2 * into->room : 4096;
        int64_t *moved = realloc(into->items, room * sizeof *moved);
        if (moved == NULL) {
            is_bad(bad);
            return NULL;
        }
        into->items = moved;
        into->room = room;
    }
    into->count += items;
    return into->items + into->count - items;
}

enum { SEGMENT = 5, RANGE = 4 };

typedef struct {
    Octets pages[BUFFERS];
    int64_t rows, start, end, limit, hour;
    Growing segments, ranges;
} Steady;

/* A stretch of rows of one series, and of one hour. */
typedef struct {
    int64_t series;
    Row last;
    int is_first, is_cut; /* the next row begins a segment; a range */
    int64_t hour_start, hour_end;
} Run;

static void note_range(Steady *job, Run *run, int64_t time, uint64_t row, int *bad)
{
    if (run->is_cut || time < run->hour_start || time >= run->hour_end) {
        int64_t *range = more(&job->ranges, RANGE, bad), hour = time / job->hour - (time % job->hour < 0);
        if (*bad)
            return;
        run->hour_start = hour * job->hour;
        run->hour_end = run->hour_start + job->hour;
        run->is_cut = 0;
        range[0] = run->series, range[1] = hour, range[2] = (int64_t)row, range[3] = 0;
    }
    job->ranges.items[job->ranges.count - 1]++;
}

static void note_segment(Steady *job, Run *run, Row row, int *bad)
{
    /* Both ends in one: a step below 1 is far above every limit when it is read without a sign. */
    uint64_t step = (uint64_t)row.time - (uint64_t)run->last.time - 1;
    int is_alone = row.kind < 0 && is_nan(row.value); /* a marker is a row of its own, and so is what follows */
    if (run->is_first || is_alone || step >= (uint64_t)job->limit || row.value != run->last.value ||
        row.kind != run->last.kind) {
        int64_t *segment = more(&job->segments, SEGMENT, bad);
        if (*bad)
            return;
        segment[0] = run->series, segment[1] = segment[2] = row.time;
        segment[3] = row.value, segment[4] = row.kind;
    } else
        job->segments.items[job->segments.count - 3] = row.time;
    run->is_first = is_alone;
    run->last = row;
}

static void walk(Steady *job, int *bad)
{
    Columns columns;
    uint64_t rows = (uint64_t)job->rows;
    open_columns(&columns, job->pages, rows, bad);
    while (!*bad && columns.row < rows) {
        next_run(&columns.ids, bad);
        if (*bad || columns.ids.left > rows - columns.row) {
            is_bad(bad);
            return;
        }
        int is_wanted = job->pages[WANTED].at[columns.ids.number];
        Run run = {(int64_t)columns.ids.number, {0, 0, 0}, 1, 1, 0, 0};
        for (uint64_t stop = columns.row + columns.ids.left; columns.row < stop;) {
            Row row = next_row(&columns, bad);
            if (*bad)
                return;
            if (!is_wanted || row.time < job->start || row.time >= job->end) {
                run.is_cut = 1;
                continue;
            }
            note_range(job, &run, row.time, columns.row - 1, bad);
            note_segment(job, &run, row, bad);
            if (*bad)
                return;
        }
    }
}

static PyObject *steady(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *objects[BUFFERS], *answer = NULL;
    Py_buffer views[BUFFERS];
    Steady job = {0};
    int taken = 0, bad = 0;
    long long rows, start, end, limit, hour;
    if (!PyArg_ParseTuple(arguments, "(OOOOOO)(OOO)LLLLL", &objects[IDS], &objects[REFERENCES], &objects[SCALES],
                          &objects[TIMES], &objects[DELTAS], &objects[DOUBLES], &objects[WANTED],
                          &objects[REFERENCE], &objects[SCALE], &rows, &start, &end, &limit, &hour))
        return NULL;
    for (; taken < BUFFERS; taken++) {
        if (PyObject_GetBuffer(objects[taken], &views[taken], PyBUF_SIMPLE) < 0)
            goto done;
        const uint8_t *at = views[taken].buf;
        job.pages[taken] = (Octets){at, at + views[taken].len};
    }
    job.rows = rows, job.start = start, job.end = end, job.limit = limit, job.hour = hour;
    if (rows < 0 || limit < 0 || hour < 1) {
        PyErr_SetString(PyExc_ValueError, "rows and limit are not negative, an hour is at least 1 ms");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS;
    walk(&job, &bad);
    Py_END_ALLOW_THREADS;
    if (bad)
        PyErr_SetString(PyExc_ValueError, "a row group that is not coded as the lake's writer codes them");
    else
        answer = Py_BuildValue("(y#y#)", job.segments.items ? (const char *)job.segments.items : "",
                               (Py_ssize_t)(job.segments.count * 8),
                               job.ranges.items ? (const char *)job.ranges.items : "",
                               (Py_ssize_t)(job.ranges.count * 8));
    free(job.segments.items);
    free(job.ranges.items);
done:
    while (taken > 0)
        PyBuffer_Release(&views[--taken]);
    return answer;
}
