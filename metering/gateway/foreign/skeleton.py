"""Bodies that were read before, as templates: everything but the values and the times must be equal, byte by byte.

Senders send the same series in the same order again and again, but cut the order into requests at ever other
places, and interleave several of them. So a template is not matched as a whole: a run of series may begin and end
anywhere in it. Where a run breaks, one series is read by its bytes, which says where the next run may begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

_FIRST_STEP, _LAST_STEP = 1 << 12, 1 << 18
_UNLIKE = 0xFF  # the first byte of a series that may not be matched; no series begins with it


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples by where their bytes are: the value's eight (-1: the sample has none, it is zero), the time's six.

    `starts` are the places of six bytes of a start timestamp, -1 where there is none; None when there are none.
    """

    numbers: npt.NDArray[np.int32]
    values: Places
    times: Places
    starts: Places | None

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Places | slice, by: Places | int) -> Rows:
        """These rows, their places moved by so many bytes."""
        values = self.values[rows]
        starts = self.starts[rows] if self.starts is not None else None
        return Rows(
            self.numbers[rows],
            np.where(values < 0, values, values + by),
            self.times[rows] + by,
            np.where(starts < 0, starts, starts + by) if starts is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Series:
    """The series of a body in their order: where each begins, and how many rows it has."""

    begins: Places
    row_counts: Places
    rows: Rows


class Skeleton:
    """One body that was read: where its series begin and end, and what in them may differ."""

    def __init__(self, body: bytes, series: Series) -> None:
        """Series without rows are never matched: what they hold has to be read. They reach to the body's end."""
        self.rows = series.rows
        self.row_counts = series.row_counts
        self.bounds = np.append(series.begins, len(body))
        self.row_bounds = np.concatenate([[0], np.cumsum(series.row_counts)])
        self._mask = _mask(len(body), series.rows)
        self._content = np.frombuffer(body, np.uint8) & self._mask
        self._content[series.begins[series.row_counts == 0]] = _UNLIKE
        self.used = 0  # when, by the count of bodies read

    def __len__(self) -> int:
        return len(self.row_counts)

    @property
    def size_bytes(self) -> int:
        return 2 * len(self._mask) + 24 * len(self.bounds) + 28 * len(self.rows)

    def head(self, series: int) -> bytes:
        """The bytes of a series in front of its first number: those that a body has where it may be matched."""
        row = self.row_bounds.item(series)
        if row == self.row_bounds.item(series + 1):
            return bytes([_UNLIKE])
        place = self.rows.values.item(row)
        return self._content[
            self.bounds.item(series) : place if place >= 0 else self.rows.times.item(row)
        ].tobytes()

    def match(self, body: Bytes, position: int, series: int) -> int:
        """The series up to which `body` is like this from `position` on, beginning with `series`."""
        start = int(self.bounds[series])
        length = min(int(self.bounds[-1]) - start, len(body) - position)
        done, step = 0, _FIRST_STEP
        while done < length:
            stop = min(done + step, length)
            found = body[position + done : position + stop] & self._mask[start + done : start + stop]
            unlike = found != self._content[start + done : start + stop]
            first = int(unlike.argmax())
            if unlike[first]:
                length = done + first
                break
            done, step = stop, min(4 * step, _LAST_STEP)
        return int(self.bounds.searchsorted(start + length, "right")) - 1

    def named(self) -> tuple[npt.NDArray[np.int32], Places]:
        """The numbers of the series that may be matched, and their places among the series here."""
        places = np.flatnonzero(self.row_counts)
        numbers = self.rows.numbers[self.row_bounds[places]]
        accepted = numbers >= 0
        return numbers[accepted], places[accepted]


def _mask(length: int, rows: Rows) -> Bytes:
    """The bits of a body that have to be equal: of a time only those that say how long its varint is."""
    padded = np.full(length + 8, 0xFF, np.uint8)
    eight = np.ndarray(length + 1, "<u8", padded.data, strides=(1,))
    eight[rows.values[rows.values >= 0]] = 0
    four, two = (np.ndarray(length + 1, kind, padded.data, strides=(1,)) for kind in ("<u4", "<u2"))
    times = rows.times if rows.starts is None else np.concatenate([rows.times, rows.starts[rows.starts >= 0]])
    four[times] = 0x80808080
    two[times + 4] = 0x8080
    return padded[:length]


def join_rows(parts: list[Rows]) -> Rows:
    """The rows of all parts in the order in which they stand in the body."""
    if not parts:
        none = np.empty(0, np.int64)
        return Rows(np.empty(0, np.int32), none, none, None)
    if len(parts) == 1:
        return parts[0]
    times = np.concatenate([part.times for part in parts])
    order = times.argsort(kind="stable")
    starts = None
    if any(part.starts is not None for part in parts):
        none_of = [np.full(len(part), -1) if part.starts is None else part.starts for part in parts]
        starts = np.concatenate(none_of)[order]
    return Rows(
        np.concatenate([part.numbers for part in parts])[order],
        np.concatenate([part.values for part in parts])[order],
        times[order],
        starts,
    )


def read_values(body: bytes, places: Places) -> npt.NDArray[np.float64]:
    """The doubles at these places, 0 at those that are negative. `body` has at least eight bytes if any is not."""
    if not len(places) or len(body) < 8:
        return np.zeros(len(places))
    words = np.ndarray(len(body) - 7, "<f8", body, strides=(1,))
    if int(places.min()) >= 0:
        return words[places].astype(np.float64, copy=False)
    return np.where(places < 0, 0.0, words[np.maximum(places, 0)])


def read_times(body: bytes, places: Places) -> Places:
    """The varints of six bytes at these places, 0 at those that are negative. Two bytes or more stand in front."""
    if not len(places) or len(body) < 8:
        return np.zeros(len(places), np.int64)
    words = np.ndarray(len(body) - 7, "<u8", body, strides=(1,))[np.maximum(places - 2, 0)] >> np.uint64(16)
    first = words[:1]
    distinct = first if bool((words == first).all()) else words
    times = np.zeros(len(distinct), np.uint64)
    for byte in range(6):
        times |= (distinct >> np.uint64(8 * byte) & np.uint64(0x7F)) << np.uint64(7 * byte)
    read = np.broadcast_to(times, len(words)).astype(np.int64)
    return np.where(places < 0, 0, read) if int(places.min()) < 0 else read
