"""What of the extras can be checked without a stream's state: by a gateway, which keeps no bases.

It refuses only what every reader would refuse. A reader refuses the whole record, so what is sane in it is lost; a
sender that is told at once cuts its body until the bad part stands alone. What takes the state stays the readers':
the values of dated rows and all behind them, whether slots are live, and how many samples there are.
"""

from __future__ import annotations

import numpy as np

from collector.wire.errors import WireError
from collector.wire.frames.body import BlockView, Body
from collector.wire.frames.extras import DATED_ROWS, Bounds, parse_rest
from collector.wire.frames.further import Told
from collector.wire.frames.layout import Cursor, malformed, unzigzag_array
from collector.wire.frames.model import MAX_DATE_MS, MAX_SLOT, FrameLimits
from collector.wire.protobuf import check_within, read_int64, read_varint, skip_field

_HISTOGRAM_TIME = 0x78  # io.prometheus.write.v2.Histogram.timestamp = 15


def check_extras(body: Body, limits: FrameLimits) -> int:
    """Look into the extras of all blocks; how many bytes that were. Raises WireError, BodyTooLarge."""
    bounds = Bounds(MAX_SLOT + 1, limits, Told.of(limits))
    for view in body.blocks:
        if view.extras is not None:
            _check(view, view.extras.open(), bounds)
    return sum(view.extras.size for view in body.blocks if view.extras is not None)


def _check(view: BlockView, cursor: Cursor, bounds: Bounds) -> None:
    head = view.head
    cursor.slot_list(head.samples, bounds.capacity)
    dated = cursor.varint(min(head.samples, DATED_ROWS))
    if dated:
        _check_dated(cursor, dated, head.at_ms)
        return
    for row in parse_rest(cursor, head, bounds).histograms:
        _check_histogram(row.message)


def _check_dated(cursor: Cursor, count: int, at_ms: int) -> None:
    """Slots and times; the length of the values hangs on the classes of the slots."""
    slots = np.cumsum(unzigzag_array(cursor.planes(count)))
    if (slots.view(np.uint64) > MAX_SLOT).any():
        raise cursor.wrong("a slot out of range", f"at most {MAX_SLOT}")
    times = unzigzag_array(cursor.planes(count)) + at_ms
    first, last = int(times.min()), int(times.max())
    if first < 0 or last > MAX_DATE_MS:
        raise cursor.wrong(f"times from {first} to {last} ms", f"0 to {MAX_DATE_MS}")


def _check_histogram(message: bytes) -> None:
    """Whether it is a message, and its time a date; what it says is not looked at."""
    at_ms, position, end = 0, 0, len(message)
    try:
        while position < end:
            tag, position = read_varint(message, position)
            if tag == _HISTOGRAM_TIME:
                at_ms, position = read_int64(message, position)
                check_within(position, end)
            else:
                position = skip_field(message, tag, position, end)
    except (IndexError, WireError) as error:
        raise malformed("a histogram", "no message", "io.prometheus.write.v2.Histogram") from error
    if not 0 <= at_ms <= MAX_DATE_MS:
        raise malformed("a histogram", f"the time {at_ms} ms", f"0 to {MAX_DATE_MS}")
