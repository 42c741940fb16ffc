/* The columns of a row group that the lake's writer coded, row by row. Included by steady.h.
 * Sources of the codings: Encodings.md of apache/parquet-format, and run_pages.py for what the writer uses of them.
 * Whatever is coded otherwise, or damaged, sets `bad`; nothing is read beyond a page.
 */
#define MOST_TURNS 10 /* octets of a number */

/* What was coded otherwise than the writer does it, or is damaged. */
static int is_bad(int *bad)
{
    *bad = 1;
    return 0;
}

typedef struct {
    const uint8_t *at, *end;
} Octets;

static uint64_t take_varint(Octets *from, int *bad)
{
    uint64_t value = 0;
    for (int turn = 0; turn < MOST_TURNS; turn++) {
        if (from->at >= from->end)
            break;
        uint8_t octet = *from->at++;
        value |= (uint64_t)(octet & 127) << (7 * turn);
        if (octet < 128)
            return value;
    }
    return (uint64_t)is_bad(bad);
}

static int64_t take_zigzag(Octets *from, int *bad)
{
    uint64_t coded = take_varint(from, bad);
    return (int64_t)((coded >> 1) ^ (0 - (coded & 1)));
}

/* --- which rows are null: one run, of equal levels or of bits --- */

typedef struct {
    const uint8_t *bits; /* NULL: `all` says it of every row */
    int all;
} Levels;

static Levels take_levels(Octets *page, uint64_t rows, int *bad)
{
    Levels found = {NULL, 0};
    uint32_t length = 0;
    if (page->end - page->at >= 4)
        memcpy(&length, page->at, 4);
    if (page->end - page->at < 4 || (uint64_t)(page->end - page->at - 4) < length) {
        is_bad(bad);
        return found;
    }
    page->at += 4;
    Octets levels = {page->at, page->at + length};
    page->at += length;
    uint64_t head = take_varint(&levels, bad), octets = (uint64_t)(levels.end - levels.at);
    if (head & 1 && head >> 1 == (rows + 7) / 8 && octets == (rows + 7) / 8)
        found.bits = levels.at;
    else if (!(head & 1) && head >> 1 == rows && octets == 1 && *levels.at <= 1)
        found.all = *levels.at;
    else
        is_bad(bad);
    return found;
}

static inline int is_present(const Levels *levels, uint64_t row)
{
    return levels->bits ? levels->bits[row >> 3] >> (row & 7) & 1 : levels->all;
}

/* --- numbers by run --- */

typedef struct {
    Octets from;
    int width; /* octets of a number */
    uint64_t left, number, numbers;
} NumberRuns;

static void next_run(NumberRuns *runs, int *bad)
{
    uint64_t head = take_varint(&runs->from, bad);
    if (*bad || head & 1 || head == 0 || runs->from.end - runs->from.at < runs->width) {
        is_bad(bad);
        return;
    }
    runs->left = head >> 1;
    runs->number = 0;
    for (int place = 0; place < runs->width; place++)
        runs->number |= (uint64_t)*runs->from.at++ << (8 * place);
    if (runs->number >= runs->numbers)
        is_bad(bad);
}

static NumberRuns take_runs(Octets page, uint64_t rows, uint64_t numbers, int *bad)
{
    NumberRuns found = {{NULL, NULL}, 0, 0, 0, numbers};
    Levels levels = take_levels(&page, rows, bad);
    if (*bad || levels.bits || !levels.all || page.at >= page.end || *page.at == 0 || *page.at > 32)
        is_bad(bad);
    else
        found = (NumberRuns){{page.at + 1, page.end}, (*page.at + 7) / 8, 0, 0, numbers};
    return found;
}

/* --- DELTA_BINARY_PACKED, in blocks of 128 or 256 of MINIS parts --- */

typedef struct {
    Octets from;
    uint64_t left; /* values that are not yet in `values` */
    int64_t last, values[MOST_BLOCK];
    int next, have, block;
} Unpacker;

static void start_unpacking(Unpacker *into, Octets page, int *bad)
{
    into->from = page;
    into->next = into->have = 0;
    uint64_t block = take_varint(&into->from, bad), minis = take_varint(&into->from, bad);
    into->block = (int)block;
    into->left = take_varint(&into->from, bad);
    into->last = take_zigzag(&into->from, bad);
    if ((block != 128 && block != MOST_BLOCK) || minis != MINIS)
        is_bad(bad);
    if (into->left) {
        into->values[0] = into->last;
        into->have = 1;
        into->left--;
    }
}

/* `count` of `width` bits, the lowest bit first. */
static void unpack_mini(Octets from, int width, int count, uint64_t *steps)
{
    uint64_t mask = width == 64 ? ~(uint64_t)0 : ((uint64_t)1 << width) - 1, held = 0;
    int bits = 0;
    for (int i = 0; i < count; i++) {
        uint64_t step = held;
        if (bits < width) {
            held = 0;
            memcpy(&held, from.at, from.end - from.at < 8 ? (size_t)(from.end - from.at) : 8);
            from.at += 8;
            step |= bits < 64 ? held << bits : 0;
            held = width - bits < 64 ? held >> (width - bits) : 0;
            bits += 64 - width;
        } else {
            held = width < 64 ? held >> width : 0;
            bits -= width;
        }
        steps[i] = step & mask;
    }
}

static void unpack_block(Unpacker *into, int *bad)
{
    int count = into->left < (uint64_t)into->block ? (int)into->left : into->block, mini = into->block / MINIS;
    uint64_t least = (uint64_t)take_zigzag(&into->from, bad), last = (uint64_t)into->last;
    uint64_t steps[MOST_BLOCK / MINIS];
    const uint8_t *widths = into->from.at;
    if (*bad || count == 0 || into->from.end - into->from.at < MINIS) {
        is_bad(bad);
        return;
    }
    into->from.at += MINIS;
    for (int first = 0; first < count; first += mini) {
        int width = widths[first / mini], some = count - first < mini ? count - first : mini;
        int octets = mini / 8 * width;
        if (width > 64 || into->from.end - into->from.at < octets) {
            is_bad(bad);
            return;
        }
        if (width == 0)
            for (int i = 0; i < some; i++)
                into->values[first + i] = (int64_t)(last += least);
        else {
            unpack_mini((Octets){into->from.at, into->from.at + octets}, width, some, steps);
            for (int i = 0; i < some; i++)
                into->values[first + i] = (int64_t)(last += least + steps[i]);
        }
        into->from.at += octets;
    }
    into->last = (int64_t)last;
    into->left -= (uint64_t)count;
    into->next = 0;
    into->have = count;
}

static inline int64_t pull(Unpacker *from, int *bad)
{
    if (from->next == from->have) {
        unpack_block(from, bad);
        if (*bad)
            return 0;
    }
    return from->values[from->next++];
}

/* --- doubles, split by octet --- */

static int64_t pull_double(const Octets *split, uint64_t *next, int *bad)
{
    uint64_t count = (uint64_t)(split->end - split->at) / 8, bits = 0, at = (*next)++;
    if (at >= count)
        return is_bad(bad);
    for (int place = 0; place < 8; place++)
        bits |= (uint64_t)split->at[(uint64_t)place * count + at] << (8 * place);
    return (int64_t)bits;
}

static int is_nan(int64_t bits) { return ((uint64_t)bits << 1) > (uint64_t)0x7FF << 53; }

/* --- all of them --- */

enum { IDS, REFERENCES, SCALES, TIMES, DELTAS, DOUBLES, WANTED, REFERENCE, SCALE, BUFFERS };

typedef struct {
    const uint8_t *reference, *scale; /* what their numbers stand for */
    NumberRuns ids, references, scales;
    Levels exact, rest;
    Unpacker times, deltas;
    Octets doubles;
    uint64_t row, next_double;
    int64_t last_reference, last_scale;
} Columns;

static void open_columns(Columns *into, const Octets *pages, uint64_t rows, int *bad)
{
    Octets times = pages[TIMES], deltas = pages[DELTAS];
    memset(into, 0, sizeof *into);
    into->ids = take_runs(pages[IDS], rows, (uint64_t)(pages[WANTED].end - pages[WANTED].at), bad);
    into->references =
        take_runs(pages[REFERENCES], rows, (uint64_t)(pages[REFERENCE].end - pages[REFERENCE].at) / 8, bad);
    into->scales = take_runs(pages[SCALES], rows, (uint64_t)(pages[SCALE].end - pages[SCALE].at) / 4, bad);
    into->reference = pages[REFERENCE].at;
    into->scale = pages[SCALE].at;
    into->doubles = pages[DOUBLES];
    Levels timed = take_levels(&times, rows, bad);
    into->exact = take_levels(&deltas, rows, bad);
    into->rest = take_levels(&into->doubles, rows, bad);
    start_unpacking(&into->times, times, bad);
    start_unpacking(&into->deltas, deltas, bad);
    if (timed.bits || !timed.all)
        is_bad(bad);
}

typedef struct {
    int64_t time, value, kind; /* the scale; -1: the value is a double's bits */
} Row;

/* The next row; the caller sees to it that there is one. */
static inline Row next_row(Columns *from, int *bad)
{
    Row found = {0, 0, -1};
    if (from->references.left == 0) {
        next_run(&from->references, bad);
        if (*bad)
            return found;
        memcpy(&from->last_reference, from->reference + 8 * from->references.number, 8);
    }
    if (from->scales.left == 0) {
        int32_t scale;
        next_run(&from->scales, bad);
        if (*bad)
            return found;
        memcpy(&scale, from->scale + 4 * from->scales.number, 4);
        from->last_scale = scale;
    }
    from->references.left--;
    from->scales.left--;
    int is_exact = is_present(&from->exact, from->row);
    if (is_exact == is_present(&from->rest, from->row))
        is_bad(bad); /* a value, and one alone */
    found.time = pull(&from->times, bad);
    if (is_exact) {
        found.value = (int64_t)((uint64_t)from->last_reference + (uint64_t)pull(&from->deltas, bad));
        found.kind = from->last_scale;
    } else
        found.value = pull_double(&from->doubles, &from->next_double, bad);
    from->row++;
    return found;
}
