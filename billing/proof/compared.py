"""One collector's spool against the batches that the vendor signed: none missing, none foreign, each as sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from billing.proof.columns import Columns, Integers
from billing.proof.evidence import BATCHES, Evidence
from billing.proof.metered import StatedMeter
from billing.proof.rows import INVOICE
from kernel.errors import InvalidInput
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.batches import StoredBatch
from metering.meters.hours import FORGOTTEN_MS
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow

LOOK_BACK_MS = 2 * DAY_MS  # before the period: whether a component existed when it began
KEPT_LANE, HISTORY_LANE = "billing", "history"  # of the second there may be no bodies
Key = tuple[str, int, int, int]  # lane, epoch, number, part
Position = tuple[str, int, int]  # lane, epoch, number


class Frame(Protocol):
    """A kept body. `error`: why its samples can't be read, or empty."""

    lane: str
    epoch: int
    number: int
    sha256: str
    where: str
    error: str
    parts: int
    same_parts: int


class Kept(Protocol):
    """What one collector kept: `collector.spool.kept.KeptLane`."""

    labels: list[bytes]
    damage: list[str]

    def owner(self) -> tuple[str, str, str]:
        """Organization, project, collector."""

    def receipts(self, wanted: Collection[Any]) -> Mapping[Any, Any]:
        """By key; each with `sha256` and `received_ms`."""

    def parts(self, positions: Collection[Position]) -> Mapping[Position, Mapping[int, Any]]:
        """By position and part, the receipts of pushes that went in parts."""

    def refused(self) -> Collection[Position]:
        """The positions of what the vendor signed that it could not store."""

    def frames(
        self,
        start_ms: int,
        end_ms: int,
        numbers: Mapping[tuple[str, int], tuple[int, int]],
        parts: Mapping[Position, Mapping[int, str]],
    ) -> Iterator[tuple[Any, Any]]:
        """Each frame with its rows of wanted series."""

    def want(self, metrics: Collection[str]) -> None:
        """Read these metrics too."""

    def is_metric(self) -> npt.NDArray[np.bool_]:
        """By number of a series."""


@dataclass(frozen=True, slots=True)
class Given:
    """The bundle: its rows, its evidence, when the invoice was issued, and what its files are called."""

    usage: UsageMonth
    evidence: Evidence
    issued_ms: int
    folder: str
    meters: tuple[StatedMeter, ...] = ()  # whose rows are in the bundle
    fills_gaps: bool = False  # the contract has gaps filled, and the rows have those that the invoice states
    part: Window | None = None  # whose rows are compared; None: all of the usage
    evidence_folder: str = ""  # of the bundle; "": `folder`
    stated_at: tuple[str, str] | None = None  # the document, and what in it states the gaps
    billed: tuple[UsageRow, ...] | None = None  # the rows as they were billed, of a period that is corrected

    @property
    def window(self) -> Window:
        """What is compared."""
        return self.part or self.usage.window

    @property
    def since_ms(self) -> int:
        """From when on frames are read: of meters from before all that they remember."""
        start_ms = self.window.start_ms
        return start_ms - (FORGOTTEN_MS + DAY_MS if self.meters else LOOK_BACK_MS)

    def wrong(self, file: str, where: str, found: str, allowed: str) -> InvalidInput:
        folder = (self.evidence_folder or self.folder) if file == BATCHES else self.folder
        return InvalidInput.single(f"{folder}/{file}", where, found, allowed)

    def wrong_gaps(self, where: str, found: str, allowed: str) -> InvalidInput:
        """What the document states of gaps is another."""
        source, place = self.stated_at or (f"{self.folder}/{INVOICE}", "usage")
        return InvalidInput.single(source, f"{place}.gaps of {where}", found, allowed)


class Compared:
    """One spool against the batches that the vendor signed."""

    def __init__(self, given: Given, kept: Kept, owner: tuple[str, str]) -> None:
        self._given, self._kept, self._owner = given, kept, owner
        self.left_out: list[str] = []
        self.without_body: set[Position] = set()  # backfills whose frames were not kept
        self._bodies: dict[Position, dict[int, str]] = defaultdict(dict)
        self._lines: dict[Position, int] = {}
        self._keys: dict[Key, tuple[int, StoredBatch]] = {}
        self._seen: set[Position] = set()
        self._strays: list[Frame] = []
        self._unlike = 0  # parts whose bodies could not be made again byte for byte

    def run(self, used: Columns, before: Columns) -> None:
        """Adds the samples of the batches to `used`, those of the days before the period to `before`."""
        self._take_batches()
        self._check_receipts()
        period = self._given.window
        numbers = self._numbers()
        self._kept.want({metric for one in self._given.meters for metric in one.metrics})
        known = np.empty(0, np.int64)
        parts = self._parts()
        for frame, rows in self._kept.frames(self._given.since_ms, period.end_ms + HOUR_MS, numbers, parts):
            position = frame.lane, frame.epoch, frame.number
            is_used = position in self._bodies
            if is_used:
                self._check_frame(frame)
            if not len(rows.series) and not rows.starts:
                continue
            if len(known) < len(self._kept.labels):
                known = self._number_series(used, before, known)
            for told, starts_ms, at_ms in rows.starts:
                used.add_starts(known[told], starts_ms, at_ms)
            if not len(rows.series):
                continue
            series = known[rows.series]
            if is_used:
                used.add(series, rows.times_ms, rows.values)
            elif self._is_of_period(rows):
                self._strays.append(frame)
            if rows.times_ms[0] < period.start_ms:
                before.add(series, rows.times_ms, rows.values)
        self._check_missing()
        self._check_strays()
        self._tell_unlike()

    def summary(self) -> str:
        project, collector = self._owner
        return (
            f"batches: {len(self._keys)} of collector {collector} of project {project} have its receipts, "
            f"{len(self._seen)} kept bodies hash as they say, none is missing and none is foreign"
        )

    def _take_batches(self) -> None:
        for line, batch in enumerate(self._given.evidence.batches, 1):
            if (batch.project, batch.collector) != self._owner:
                continue
            if batch.epoch is None or batch.number is None or batch.part is None:
                raise self._wrong(line, "a push without a number", "pushes of this collector, which have one")
            self._keys[batch.lane, batch.epoch, batch.number, batch.part] = line, batch
            if batch.lane in {KEPT_LANE, HISTORY_LANE}:
                position = batch.lane, batch.epoch, batch.number
                self._bodies[position][batch.part] = batch.sha256
                self._lines[position] = line

    def _check_receipts(self) -> None:
        receipts = self._kept.receipts(self._keys.keys())
        for key, (line, batch) in self._keys.items():
            receipt = receipts.get(key)
            if receipt is None:
                raise self._wrong(
                    line, f"{_named(key)}, a foreign push", "pushes that this collector has a receipt for"
                )
            if receipt.sha256 != batch.sha256:
                raise self._wrong(
                    line, f"{_named(key)} with sha256 {batch.sha256}", f"its receipt's {receipt.sha256}"
                )

    def _parts(self) -> Mapping[Position, Mapping[int, str]]:
        """Of each push that went in parts the hashes of those that arrived: the vendor has to name them all."""
        cut = {position for position, parts in self._bodies.items() if 0 not in parts}
        found: dict[Position, Mapping[int, str]] = {}
        for position, receipts in self._kept.parts(cut).items():
            for part in sorted(receipts.keys() - self._bodies[position].keys()):
                if receipts[part].received_ms < self._given.issued_ms:
                    name = _named((*position, part))
                    found_text = f"{name}, which the vendor received and the invoice leaves out"
                    raise self._wrong(self._lines[position], found_text, f"pushes that {BATCHES} names")
            found[position] = {part: one.sha256 for part, one in receipts.items()}
        return found

    def _numbers(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
        for lane, epoch, number in self._bodies:
            numbers[lane, epoch].append(number)
        return {epoch: (min(found), max(found)) for epoch, found in numbers.items()}

    def _check_frame(self, frame: Frame) -> None:
        position = frame.lane, frame.epoch, frame.number
        parts = self._bodies[position]
        if 0 in parts and parts[0] != frame.sha256:
            found = f"epoch {frame.epoch} number {frame.number} with sha256 {frame.sha256}"
            raise InvalidInput.single(frame.where, "body", found, f"{parts[0]} of {BATCHES}")
        if frame.error:
            found = f"epoch {frame.epoch} number {frame.number}, {self._damaged()}: {frame.error}"
            raise InvalidInput.single(frame.where, "body", found, "a frame that can be read")
        if frame.same_parts < frame.parts:
            self._unlike += frame.parts - frame.same_parts
        self._seen.add(position)

    def _number_series(self, used: Columns, before: Columns, known: Integers) -> Integers:
        added = self._kept.labels[len(known) :]
        first = len(used.labels)
        for columns in (used, before):
            columns.labels += added
            columns.owners += [self._owner] * len(added)
        return np.append(known, np.arange(first, first + len(added)))

    def _is_of_period(self, rows: Any) -> bool:
        period = self._given.window
        inside = (rows.times_ms >= period.start_ms) & (rows.times_ms < period.end_ms)
        return bool((inside & self._kept.is_metric()[rows.series]).any())

    def _check_missing(self) -> None:
        missing = sorted(self._bodies.keys() - self._seen)
        self.without_body |= {position for position in missing if position[0] == HISTORY_LANE}
        missing = [one for one in missing if one[0] == KEPT_LANE or self._kept.damage]
        if missing:
            line = self._lines[missing[0]]
            found = f"{_named((*missing[0], 0))}, whose body is not in the spool, {self._damaged()}"
            raise self._wrong(line, found, "pushes whose body was kept")

    def _check_strays(self) -> None:
        """Frames of the period that the vendor does not count: each needs an excuse that the spool itself has."""
        keys = {(frame.lane, frame.epoch, frame.number, 0): frame for frame in self._strays}
        receipts, refused = self._kept.receipts(keys.keys()), self._kept.refused()
        excused: Counter[str] = Counter()
        for key, frame in keys.items():
            receipt = receipts.get(key)
            if (frame.lane, frame.epoch, frame.number) in refused:
                excused["the vendor refused, and signed that it did"] += 1
            elif receipt is None:
                excused["have no receipt: they wait, or were pushed in parts"] += 1
            elif receipt.received_ms >= self._given.issued_ms:
                excused["came after the invoice was issued"] += 1
            else:
                found = f"{_named(key)}, which the vendor received and the invoice leaves out"
                raise InvalidInput.single(frame.where, "frame", found, f"frames that {BATCHES} names")
        project, collector = self._owner
        for why, count in sorted(excused.items()):
            self.left_out.append(f"batches: {count} frames of collector {collector} of project {project} {why}")

    def _tell_unlike(self) -> None:
        if self._unlike:
            project, collector = self._owner
            self.left_out.append(
                f"batches: that {self._unlike} parts pushed by collector {collector} of project {project} are of "
                "the kept frames: this version can't make them again byte for byte"
            )

    def _damaged(self) -> str:
        """Where the spool is damaged, as far as it was read."""
        return f"damaged at {'; '.join(self._kept.damage[:2])}" if self._kept.damage else "which is not damaged"

    def _wrong(self, line: int, found: str, allowed: str) -> InvalidInput:
        return self._given.wrong(BATCHES, f"line {line}", found, allowed)


def _named(key: Key) -> str:
    lane, epoch, number, part = key
    return f"{lane} epoch {epoch} number {number}" + (f" part {part}" if part else "")
