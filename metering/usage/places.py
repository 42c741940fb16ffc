"""Where the samples of a component's hour stand: of each file its hash, row group, and rows in it. Pure, numpy.

As text, one after the other: the first digits of the file's hash, the number of the row group, the first and the
last row, counted from 0 in the row group, and where not all rows from one to the other are meant, how many:
`hash:group:first-last/count`. The file's whole name and hash are among the sources of the hour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernel.window import HOUR_MS
from metering.lake.positions import file_sha256
from metering.lake.steady import RowRanges
from metering.usage.array_hours import HourTable, Views
from metering.usage.levels import Int64
from metering.usage.model import MeterRow
from metering.usage.rows import RowRange, UsageRow

_DIGITS = 12


def places_of(ranges: RowRanges, table: HourTable, views: Views, edges_ms: Int64) -> dict[int, str]:
    """By number of the table's row, for those of which rows are known; `ranges` are by series.

    Rows with a time in the hour, of all series of the view that counts. What holds at the start of the hour is the
    row before the first one, here or in the hour before.
    """
    hours = ranges.hours - edges_ms[0] // HOUR_MS
    view = views.of_series[ranges.slots]
    known = np.flatnonzero((hours >= 0) & (hours < len(edges_ms) - 1) & (view >= 0))
    if not len(known):
        return {}
    row_of = np.full((views.count, len(edges_ms) - 1), -1, np.int64)
    row_of[table.components, table.hours] = np.arange(len(table.hours))
    rows = row_of[views.components[view[known]], hours[known]]
    counts = (rows >= 0) & (table.views[rows] == view[known])
    rows, known = rows[counts], known[counts]
    order = np.lexsort((ranges.firsts[known], ranges.row_groups[known], ranges.of_file[known], rows))
    rows, known = rows[order], known[order]
    firsts = ranges.firsts[known]
    columns = ranges.of_file[known], ranges.row_groups[known], firsts, firsts + ranges.counts[known] - 1
    files = [file_digits(name) for name in ranges.files]
    found: dict[int, str] = {}
    for row, file, group, first, last in zip(rows.tolist(), *(each.tolist() for each in columns), strict=True):
        text = render_place(files[file], group, first, last, last - first + 1)
        found[row] = f"{found[row]} {text}" if row in found else text
    return found


def ranges_of(row: UsageRow | MeterRow) -> Iterator[RowRange]:
    """The places of a row with their files. Of hours sealed before they were kept there are none."""
    for place in row.places.split():
        digits, group, rows = place.split(":")
        ends, _, told = rows.partition("/")
        first, last = map(int, ends.split("-"))
        for source in row.sources:
            if source.rpartition(" ")[2].startswith(digits):
                yield RowRange(source, int(group), first, last, int(told) if told else last - first + 1)


def file_digits(location: str) -> str:
    """By which places name a file of the lake."""
    return (file_sha256(location) or "")[:_DIGITS]


def render_place(digits: str, row_group: int, first: int, last: int, count: int) -> str:
    """One place: of `count` rows, from `first` to `last`."""
    scattered = "" if count == last - first + 1 else f"/{count}"
    return f"{digits}:{row_group}:{first}-{last}{scattered}"
