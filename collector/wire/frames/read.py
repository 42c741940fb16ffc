"""The state of one group, read block by block: what the lake, the head and the uploader decode frames with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from collector.wire.errors import WireError
from collector.wire.frames.body import ABSENT, KEYFRAME, BlockView, Head, open_body
from collector.wire.frames.dictionary import digest_entries
from collector.wire.frames.elder import Assign, Elder, numbered
from collector.wire.frames.errors import UnknownState
from collector.wire.frames.extras import Bounds, Extras, parse_extras
from collector.wire.frames.further import Told
from collector.wire.frames.layout import Cursor, malformed, too_large
from collector.wire.frames.mapping import Mapping
from collector.wire.frames.model import CELL, FrameLimits, Integers, Rows
from collector.wire.frames.roots import Root, rebuild
from collector.wire.frames.rows import Columns, rows_of
from collector.wire.frames.sections import Patch, parse_present
from collector.wire.frames.state import StreamState
from collector.wire.frames.steps import Step, check_patch, step_of, unknown
from collector.wire.frames.values import Order, decode_bases, decode_values, grown, to_values

Release = Callable[[npt.NDArray[np.int64]], None]
Wants = Callable[[npt.NDArray[np.int64]], bool]


class _Stream(StreamState):
    """The state of a stream with its version, and the caller's numbers of its series."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.name = b""
        self.at_ms = 0
        self.is_wanted = True
        self.numbers: Integers = np.zeros(0, np.int64)  # by slot
        self.entries: dict[int, bytes] = {}  # empty unless the reader keeps them
        self._series: dict[int, tuple[Order, Integers]] = {}  # by cell, with the order they belong to

    def live_numbers(self) -> Integers:
        """The numbers of all live series."""
        return self.numbers[np.flatnonzero(self.live)]

    def series_of(self, cell: int, order: Order) -> Integers:
        """The series numbers of a whole cell; the same object while they stay the same."""
        known = self._series.get(cell)
        if known is not None and known[0] is order:
            return known[1]
        numbers = self.numbers[order.slots]
        if known is not None and np.array_equal(known[1], numbers):
            numbers = known[1]
        self._series[cell] = (order, numbers)
        return numbers


class GroupReader:
    """State of ONE group of one lane and epoch of one collector.

    `assign` gives the caller's series numbers for new entries (type byte and canonical labels), in their order.
    `keep_entries`: needed by `roots` alone; without, an entry is forgotten as soon as it has its number.
    `release` hears of the numbers of series that are gone; rows that were just read may still name them.
    `wants` is asked of the numbers of all live series of a stream when they change: no rows come of a stream that
    it does not want, and next to no work is done for its values.
    """

    def __init__(
        self,
        assign: Assign,
        *,
        release: Release | None = None,
        keep_entries: bool = True,
        wants: Wants | None = None,
        limits: FrameLimits | None = None,
    ) -> None:
        self._assign = assign
        self._wants = wants
        self._release = release
        self._keep_entries = keep_entries
        self._limits = limits or FrameLimits()
        self._streams: dict[int, _Stream] = {}
        self._group: int | None = None
        self._told = Told.of(self._limits)  # in the body that is read now
        self.slots = 0  # of all streams together, to bound what is kept

    def read(self, body: bytes, *, samples: bool = True, elder: GroupReader | None = None) -> list[Rows]:
        """Take a body in and give its samples; without `samples`, take in the state alone (cheaper).

        Raises UnknownState, WireError, BodyTooLarge, also for a body of another group. What of the body's state
        could be taken in was, also then. Without `samples`, what was applied long ago is skipped silently.
        `elder`: the reader of a group before; what comes in the same slot keeps its number. Not with `release`.
        """
        opened = open_body(body, self._limits, are_entries_checked=elder is None)
        if self._group is None:
            self._group = opened.group
        if opened.group != self._group:
            raise malformed("header", f"group {opened.group}", f"group {self._group}, which this reader reads")
        self._told = Told.of(self._limits)
        rows: list[Rows] = []
        failure: UnknownState | WireError | None = None
        for view in opened.blocks:
            try:
                rows += self._read(view, elder, samples=samples)
            except (UnknownState, WireError) as error:
                failure = failure or error
        if isinstance(failure, UnknownState):
            failure.rows = rows
        if failure is not None:
            raise failure
        return rows

    def is_wanted(self, stream: int) -> bool:
        """Whether rows come of a stream, as far as is known."""
        known = self._streams.get(stream)
        return known is None or known.is_wanted

    def elder_of(self, head: Head) -> Elder | None:
        """What is known here of the stream of a block of a later group."""
        return self._streams.get(head.stream)

    def close(self) -> None:
        """Forget everything; `release` hears of it."""
        for number in list(self._streams):
            self._drop(number)

    def roots(self) -> list[bytes]:
        """Bodies that rebuild this state elsewhere, without a sample. Needs `keep_entries`."""
        if not self._keep_entries:
            raise ValueError("a reader that doesn't keep entries can't rebuild a dictionary")
        if self._group is None:
            return []
        return rebuild(
            self._group,
            [
                Root(number, stream.at_ms, stream.version, stream, stream.entries)
                for number, stream in sorted(self._streams.items())
            ],
        )

    def _read(self, view: BlockView, elder: GroupReader | None, *, samples: bool) -> list[Rows]:
        head = view.head
        stream = self._streams.get(head.stream) or _Stream()
        step = step_of(head, stream.version, stream.name)
        if step is Step.OLD or (step is Step.SAME and view.patch is not None and view.extras and samples):
            # The stale markers of a patch that was applied before name slots that may have other series now.
            if samples and head.samples:
                raise unknown(head, stream.version)
            return []
        before, was_wanted = Mapping(stream.numbers, stream.live), stream.is_wanted
        if step is Step.NEXT and view.patch is not None:
            stream, before = self._patched(stream, head, view.patch, elder)
        samples = samples and (was_wanted or stream.is_wanted)  # markers are of what was there before
        columns = self._columns(stream, view, step, samples=samples)
        if step is Step.NEXT:
            stream.version, stream.at_ms = head.version, head.at_ms
        if not samples:
            return []
        rest = Extras() if view.extras is None else self._extras(stream, before, view)
        counted = rest.samples + (0 if columns is None else len(columns.values))
        if counted != head.samples:
            raise malformed("block", f"{counted} samples", f"the {head.samples} that its head announces")
        return list(rows_of(head, Mapping(stream.numbers, stream.live), before, columns, rest))

    def _patched(
        self, stream: _Stream, head: Head, patch: Patch, elder: GroupReader | None
    ) -> tuple[_Stream, Mapping]:
        """The stream after a patch, and the mapping before it. Raises WireError, and nothing has changed."""
        target = _Stream() if head.is_root else stream
        check_patch(patch, target.live)
        added = digest_entries(patch.born, patch.entries)
        total = target.dictionary.after(patch.freed, added)
        if total.name() != head.name:
            raise malformed("patch", "a dictionary of another name", "the name in the block's head")
        before = Mapping(target.numbers.copy(), target.live.copy())
        capacity = max(len(target.live), int(patch.born[-1]) + 1 if len(patch.born) else 0)
        known = len(self._streams[head.stream].live) if head.stream in self._streams else 0
        self._check_size(self.slots + capacity - known, head.stream)
        if elder is None:
            numbers = self._assign(patch.entries)
        else:  # then the entries were not checked yet
            numbers = numbered(patch, added, elder.elder_of(head), self._assign, self._limits)
        target.apply(patch, added, total)
        target.numbers = grown(target.numbers, len(target.live))
        target.numbers[patch.born] = numbers
        if self._keep_entries:
            for slot in patch.freed.tolist():
                del target.entries[slot]
            target.entries.update(zip(patch.born.tolist(), patch.entries, strict=True))
        target.name = head.name
        target.is_wanted = self._wants is None or self._wants(target.live_numbers())
        if self._release is not None:
            old = self._streams.get(head.stream) if head.is_root else None
            self._release(before.numbers[patch.freed] if old is None else old.live_numbers())
        self._streams[head.stream] = target
        self.slots += len(target.live) - known
        return target, before

    def _check_size(self, slots: int, stream: int) -> None:
        limits = self._limits
        streams = len(self._streams) + (stream not in self._streams)
        if slots > limits.max_slots or streams > limits.max_streams:
            allowed = f"at most {limits.max_slots} slots and {limits.max_streams} streams"
            raise too_large("group", f"{slots} slots, {streams} streams", allowed)

    def _columns(self, stream: _Stream, view: BlockView, step: Step, *, samples: bool) -> Columns | None:
        is_keyframe = bool(view.head.flags & KEYFRAME)
        if view.columns is None or not (samples or (is_keyframe and step is Step.NEXT)):
            return None
        try:
            return _read_columns(stream, view.columns.open(), view.head, step)
        except WireError:
            if is_keyframe and step is Step.NEXT:
                self._drop(view.head.stream)  # its bases are not what later blocks build on
            raise

    def _drop(self, number: int) -> None:
        stream = self._streams.pop(number)
        self.slots -= len(stream.live)
        if self._release is not None:
            self._release(stream.live_numbers())

    def _extras(self, stream: _Stream, before: Mapping, view: BlockView) -> Extras:
        if view.extras is None:
            return Extras()
        capacity = max(len(stream.live), len(before.live))
        bounds = Bounds(capacity, self._limits, self._told)
        extras = parse_extras(view.extras.open(), stream.bases, view.head, bounds)
        named = [row.slot for row in extras.histograms] + [row.slot for row in extras.exemplars]
        used = np.array(named, np.int64)
        if extras.starts is not None:
            used = np.concatenate([used, extras.starts.slots])
        if extras.dated is not None:
            used = np.concatenate([used, extras.dated.slots])
        if not before.has(extras.stale) or not Mapping(stream.numbers, stream.live).has(used):
            raise malformed("extras", "a slot that is free", "live slots")
        return extras


def _read_columns(stream: _Stream, cursor: Cursor, head: Head, step: Step) -> Columns:
    flags = head.flags
    cell = cursor.varint(len(stream.live) // CELL)
    whole = order = stream.order(cell)
    if flags & ABSENT:
        slots = np.sort(whole.slots)
        order = stream.order_of(slots[parse_present(cursor, len(slots))])
    if len(order) > head.samples:  # before work is done for them
        raise malformed("columns", f"{len(order)} values", f"at most the {head.samples} that the head announces")
    if not flags & KEYFRAME:
        values = decode_values(cursor, order)
        cursor.finish()
        numbers = stream.series_of(cell, whole) if order is whole else stream.numbers[order.slots]
        return Columns(numbers, values)
    slots = np.sort(order.slots) if flags & ABSENT else stream.slots(cell)
    classes, coded = decode_bases(cursor, len(slots))
    cursor.finish()
    if step is Step.NEXT:
        stream.set_bases(slots, classes, coded)
    order = stream.order(cell) if not flags & ABSENT else stream.order_of(slots)
    numbers = stream.series_of(cell, order) if not flags & ABSENT else stream.numbers[order.slots]
    return Columns(numbers, to_values(order, order.coded))
