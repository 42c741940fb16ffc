"""What a collector kept of what it sent, read again to prove an invoice: receipts, and frames as samples.

Reads alone; the collector may run meanwhile. Of a segment (a group of frames) that has no series of the wanted
metric next to no work is done per sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from collector.push.groups import GroupDecoder, Undecodable
from collector.spool.frame import Frame, PayloadKind
from collector.spool.gaps import GapReason, GapRecords
from collector.spool.kept_group import KeptGroup
from collector.spool.kept_parts import FIRST_RESYNC, KeptParts
from collector.spool.kept_rows import NOTHING, KeptFrame, KeptRows, joined
from collector.spool.receipts import ReceiptDamage, read_receipts
from collector.spool.segment import Damage, SegmentName, list_segments, scan, scan_whole
from collector.wire.errors import WireError
from collector.wire.frames import GroupReader, UnknownState
from collector.wire.frames.model import Bools, Integers
from collector.wire.receipt import KeySet, Receipt, parse_key_set, parse_refusal, verify
from collector.wire.series import WireSeries
from kernel.errors import InvalidInput
from kernel.window import Window

LANE, HISTORY = "billing", "history"  # whose frames are kept
PushKey = tuple[str, int, int, int]  # lane, epoch, number, part
Position = tuple[str, int, int]  # lane, epoch, number
_ALLOWED_RECEIPT = "a receipt as the gateway signed it"


@dataclass
class KeptLane:
    """The kept lanes of a spool folder. `metric` is wanted, and `beside` in the streams that have it."""

    spool: Path
    keys: KeySet
    metric: str
    beside: str
    labels: list[bytes] = field(default_factory=list)  # canonical, as they left
    damage: list[str] = field(default_factory=list)
    _also: frozenset[str] = frozenset()
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _is_metric: list[bool] = field(default_factory=list)

    def owner(self) -> tuple[str, str, str]:
        """Organization, project and collector, as the receipts name them. Raises InvalidInput."""
        for path in (path for lane in self._lanes() for path in self._receipt_files(lane)):
            for found, _ in read_receipts(path):
                if not isinstance(found, ReceiptDamage):
                    name = found.content.name
                    return name.organization, name.project, name.collector
        raise InvalidInput.single(
            str(self.spool / LANE / "receipts"), "receipts", "none", "a collector's spool folder"
        )

    def want(self, metrics: Collection[str]) -> None:
        """Read these metrics too; before any frame was read."""
        self._also = frozenset(metrics)

    def receipts(self, wanted: Collection[PushKey]) -> dict[PushKey, Receipt]:
        """The receipts of these pushes whose signature holds. Raises InvalidInput for one that does not hold."""
        owner, found = self.owner(), dict[PushKey, Receipt]()
        for lane in sorted({lane for lane, *_ in wanted}):
            for path in self._receipt_files(lane):
                for signed, end in read_receipts(path):
                    if isinstance(signed, ReceiptDamage):
                        raise InvalidInput.single(str(path), f"byte {signed.offset}", "damage", _ALLOWED_RECEIPT)
                    name = signed.content.name
                    key = name.lane, name.epoch, name.sequence, name.part
                    if key not in wanted:
                        continue
                    try:
                        verify(signed, self.keys)
                    except WireError as error:
                        where = f"before byte {end}: epoch {name.epoch} number {name.sequence}"
                        raise InvalidInput.single(str(path), where, str(error), _ALLOWED_RECEIPT) from error
                    if (name.organization, name.project, name.collector) != owner:
                        raise InvalidInput.single(
                            str(path), "owner", name.collector, f"receipts of {owner[2]} alone"
                        )
                    found[key] = signed.content
        return found

    def parts(self, positions: Collection[Position]) -> dict[Position, dict[int, Receipt]]:
        """The receipts of the parts of these pushes. Raises InvalidInput."""
        keys = set()
        files = [path for lane in sorted({lane for lane, *_ in positions}) for path in self._receipt_files(lane)]
        for signed in (signed for path in files for signed, _ in read_receipts(path)):
            if not isinstance(signed, ReceiptDamage):
                name = signed.content.name
                if 0 < name.part < FIRST_RESYNC and (name.lane, name.epoch, name.sequence) in positions:
                    keys.add((name.lane, name.epoch, name.sequence, name.part))
        found: dict[Position, dict[int, Receipt]] = {}
        for (lane, epoch, number, part), receipt in self.receipts(keys).items():
            found.setdefault((lane, epoch, number), {})[part] = receipt
        return found

    def refused(self) -> set[Position]:
        """The pushes of which the vendor signed that it could not store something."""
        found = set()
        for gap in (gap for lane in self._lanes() for gap in GapRecords(self.spool / lane).load()):
            if gap.reason is GapReason.REFUSED and gap.detail.startswith("{"):
                try:
                    signed = parse_refusal(gap.detail)
                    verify(signed, self.keys)
                except (ValueError, WireError):
                    continue  # it excuses nothing
                name = signed.content.name
                found.add((name.lane, name.epoch, name.sequence))
        return found

    def frames(
        self,
        start_ms: int,
        end_ms: int,
        numbers: Mapping[tuple[str, int], tuple[int, int]],
        parts: Mapping[Position, Mapping[int, str]] | None = None,
    ) -> Iterator[tuple[KeptFrame, KeptRows]]:
        """The frames written in `[start_ms, end_ms)`, and of a lane and epoch the numbers `[first, last]`.

        In the order in which they were written, others of their segments too. Damaged bytes are noted in `damage`.
        `parts`: of pushes that went in parts the sha256 of those that arrived; of such a frame the rows are what
        arrived. Raises OSError.
        """
        for lane in self._lanes():
            yield from self._of_lane(lane, Window(start_ms, end_ms), numbers, parts or {})

    def _of_lane(
        self,
        lane: str,
        written: Window,
        numbers: Mapping[tuple[str, int], tuple[int, int]],
        parts: Mapping[Position, Mapping[int, str]],
    ) -> Iterator[tuple[KeptFrame, KeptRows]]:
        segments = self._segments(lane)
        begun = [self._begun_ms(lane, name) for name in segments]
        for index, name in enumerate(segments):
            first, last = numbers.get((lane, name.epoch), (1, 0))
            later = segments[index + 1] if index + 1 < len(segments) else None
            following = later.first if later is not None and later.epoch == name.epoch else 0
            is_named = first <= last and name.first <= last and (not following or following > first)
            is_inside = begun[index] < written.end_ms and (later is None or begun[index + 1] >= written.start_ms)
            if is_named or is_inside:
                yield from self._read(lane, name, parts)

    def is_metric(self) -> Bools:
        """By number of a series, whether it is of the metric, not of what is wanted beside it."""
        return np.array(self._is_metric, np.bool_)

    def _read(
        self, lane: str, name: SegmentName, parts: Mapping[Position, Mapping[int, str]]
    ) -> Iterator[tuple[KeptFrame, KeptRows]]:
        path = self._path(lane, name)
        in_parts = KeptParts([(path, name)])
        group = KeptGroup(GroupReader(self._assign, keep_entries=False, wants=self._wants))
        for at, found in scan_whole(path, name):
            if isinstance(found, Damage):
                if not found.torn:
                    self.damage.append(f"{path}: byte {at}: {found.reason}")
                continue
            rows, error = self._rows(group, found)
            digest = sha256(found.payload).hexdigest()
            kept = KeptFrame(lane, found.epoch, found.sequence, digest, f"{path}: byte {at}", error)
            accepted = parts.get((lane, *found.position))
            if accepted is not None and not error:
                try:
                    arrived = in_parts.arrived(found, accepted)
                except Undecodable as undecodable:
                    kept, rows = replace(kept, error=str(undecodable)), NOTHING
                else:
                    kept = replace(kept, parts=arrived.parts, same_parts=arrived.same)
                    rows = self._of_series(arrived.series)
            yield kept, rows

    def _rows(self, group: KeptGroup, frame: Frame) -> tuple[KeptRows, str]:
        try:
            if frame.kind is PayloadKind.RW2:
                return self._decoded(frame), ""
            parts, starts = [], []
            for one in group.read(frame.payload):
                if one.starts is not None:
                    known = one.starts.series >= 0
                    starts.append((one.starts.series[known], one.starts.starts_ms[known], one.at_ms))
                chosen = one.series >= 0
                if chosen.any():
                    parts.append((one.series[chosen], one.timestamps_ms[chosen], one.values[chosen]))
        except (UnknownState, WireError, Undecodable) as error:
            return NOTHING, str(error)
        found = joined(parts)
        return replace(found, starts=starts) if starts else found, ""

    def _decoded(self, frame: Frame) -> KeptRows:
        """Of a body of remote write, sample by sample."""
        return self._of_series(GroupDecoder(lambda _, __: iter(())).series(frame))

    def _of_series(self, series_of_frame: Iterable[WireSeries]) -> KeptRows:
        parts, starts = [], list[tuple[Integers, Integers, int]]()
        for one in series_of_frame:
            entry = b"\0" + b"".join(
                name.encode() + b"\xff" + value.encode() + b"\xff" for name, value in sorted(one.labels)
            )
            series = self._assign([entry])
            if series[0] >= 0 and one.samples:
                times, values = zip(*one.samples, strict=True)
                if one.start_ms:
                    starts.append((series, np.array([one.start_ms], np.int64), times[0]))
                parts.append(
                    (np.repeat(series, len(times)), np.array(times, np.int64), np.array(values, np.float64))
                )
        return replace(joined(parts), starts=starts)

    def _assign(self, entries: Sequence[bytes]) -> Integers:
        metrics = {_pair("__name__", name) for name in (self.metric, *self._also)}
        beside = _pair("__name__", self.beside)
        numbers = np.full(len(entries), -1, np.int64)
        for place, entry in enumerate(entries):
            if beside in entry or any(metric in entry for metric in metrics):
                name = _name_of(entry)
                if name == beside or name in metrics:
                    numbers[place] = self._number(entry[1:], is_metric=name != beside)
        return numbers

    def _number(self, labels: bytes, *, is_metric: bool) -> int:
        number = self._numbers.setdefault(labels, len(self.labels))
        if number == len(self.labels):
            self.labels.append(labels)
            self._is_metric.append(is_metric)
        return number

    def _wants(self, numbers: Integers) -> bool:
        return any(self._is_metric[number] for number in numbers[numbers >= 0].tolist())

    def _lanes(self) -> list[str]:
        return [lane for lane in (LANE, HISTORY) if (self.spool / lane).is_dir()]

    def _segments(self, lane: str) -> list[SegmentName]:
        folder = self.spool / lane
        names = {*list_segments(folder), *list_segments(folder / "archive")}  # in this order: they only move there
        return sorted(names)

    def _path(self, lane: str, name: SegmentName) -> Path:
        kept = self.spool / lane / "archive" / str(name)
        return kept if kept.exists() else self.spool / lane / str(name)

    def _begun_ms(self, lane: str, name: SegmentName) -> int:
        path = self._path(lane, name)
        first = next(scan(path, name, path.stat().st_size), None)
        return first.appended_ms if isinstance(first, Frame) else 0

    def _receipt_files(self, lane: str) -> list[Path]:
        return sorted((self.spool / lane / "receipts").glob("*.rcp"))


def read_keys(content: bytes, files: Iterable[Path], authority_pem: bytes) -> KeySet:
    """The receipt keys of a key set and of files of it, each vouched for by the authority. Raises InvalidInput."""
    found = {}
    for source, text in [("receipt keys", content), *((str(path), path.read_bytes()) for path in files)]:
        try:
            found.update(parse_key_set(text, authority_pem))
        except WireError as error:
            raise InvalidInput.single(source, "keys", str(error), "a gateway's receipt keys") from error
    return found


def _pair(name: str, value: str) -> bytes:
    return name.encode() + b"\xff" + value.encode() + b"\xff"


def _name_of(entry: bytes) -> bytes:
    """`__name__` of an entry, as it stands in it."""
    parts = entry[1:-1].split(b"\xff")
    named = dict(zip(parts[::2], parts[1::2], strict=False))
    return b"__name__\xff" + named.get(b"__name__", b"") + b"\xff"
