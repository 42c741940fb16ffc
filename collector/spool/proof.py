"""Proves from a lane's files alone that its sequences arrived without a hole, or says which did not.

Each number of each epoch has a receipt whose signature holds, whose hash is that of the body kept (billing), or it
stands in a gap record. A number that was sent in parts has receipts for parts that hold all its samples but those
recorded as refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from collector.spool.epochs import Epochs
from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.spool.intervals import Intervals
from collector.spool.receipts import ReceiptDamage, ReceiptStore
from collector.spool.segment import Damage, list_segments, scan
from collector.spool.settled import Settled
from collector.wire.errors import WireError
from collector.wire.receipt import KeySet, Receipt, Signed, parse_refusal, verify
from kernel.clock import SystemClock

RESYNC_PART = 500_000


@dataclass(slots=True)
class EpochProof:
    """Numbers of one epoch, by what is known of them. `last`: the greatest given out, as far as is known."""

    last: int = 0
    proven: Intervals = field(default_factory=Intervals)
    gaps: Intervals = field(default_factory=Intervals)
    waiting: Intervals = field(default_factory=Intervals)  # on disk, not settled yet
    unproven: Intervals = field(default_factory=Intervals)  # settled by the word of a receiver without receipts
    cut: int = 0  # all from this number on stands in a gap record; 0: the end is whole
    missing: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class LaneProof:
    """The outcome for a lane. `faults`: what does not hold, one line each."""

    lane: str
    epochs: dict[int, EpochProof] = field(default_factory=dict)
    bodies: int = 0  # kept bodies whose hash is that of their receipt
    receipts: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Everything arrived, provably, or stands in a gap record or still waits."""
        return not self.faults and not any(one.missing or len(one.unproven) for one in self.epochs.values())


class Prover:
    """Reads only; the collector may run meanwhile. Blocking. Raises OSError."""

    def __init__(self, folder: Path, keys: KeySet, *, keeps_bodies: bool) -> None:
        self._folder = folder
        self._keys = keys
        self._keeps_bodies = keeps_bodies
        self._proof = LaneProof(folder.name)
        self._whole: dict[tuple[int, int], Receipt] = {}
        self._parts: dict[tuple[int, int], dict[int, int]] = {}
        self._refused_samples: dict[tuple[int, int], int] = {}

    def run(self) -> LaneProof:
        """All of it."""
        settled = Settled(self._folder / "settled.json")
        settled.load()
        epochs = Epochs(self._folder / "epoch.json")
        epochs.load()
        for epoch, last in epochs.ends.items():
            self._epoch(epoch).last = last
        self._read_receipts()
        self._read_gaps()
        for frame in self._frames(self._folder / "archive"):
            self._check_kept(frame)
        for frame in self._frames(self._folder):
            one = self._epoch(frame.epoch)
            one.last = max(one.last, frame.sequence)
            if frame.position not in settled:
                one.waiting.add(frame.sequence)
            elif self._keeps_bodies:
                self._check_kept(frame)
        self._conclude(settled)
        return self._proof

    def _epoch(self, epoch: int) -> EpochProof:
        return self._proof.epochs.setdefault(epoch, EpochProof())

    def _fault(self, text: str) -> None:
        self._proof.faults.append(text)

    def _read_receipts(self) -> None:
        for found in ReceiptStore(self._folder / "receipts", SystemClock()).read():
            if isinstance(found, ReceiptDamage):
                self._fault(f"{found.path.name}: damaged from byte {found.offset} on")
                continue
            name = found.content.name
            try:
                verify(found, self._keys)
            except WireError as error:
                self._fault(f"epoch {name.epoch} number {name.sequence}: {error}")
                continue
            if name.lane == self._folder.name:
                self._take(found)

    def _take(self, signed: Signed[Receipt]) -> None:
        receipt = signed.content
        name = receipt.name
        self._proof.receipts += 1
        one = self._epoch(name.epoch)
        one.last = max(one.last, name.sequence)
        if name.part == 0:
            self._whole[name.epoch, name.sequence] = receipt
            one.proven.add(name.sequence)
        elif name.part < RESYNC_PART:
            self._parts.setdefault((name.epoch, name.sequence), {})[name.part] = receipt.samples

    def _read_gaps(self) -> None:
        for gap in GapRecords(self._folder).load():
            if gap.epoch is None or gap.first is None:
                continue
            if gap.reason is GapReason.REFUSED and gap.detail.startswith("{"):
                self._check_refusal(gap)
            one, last = self._epoch(gap.epoch), gap.first if gap.last is None else gap.last
            if gap.last is None:
                one.cut = min(gap.first, one.cut or gap.first)
            if last >= gap.first:
                one.gaps.add(gap.first, last)
                one.last = max(one.last, last)
            if gap.first == last and gap.samples:
                position = gap.epoch, gap.first
                self._refused_samples[position] = self._refused_samples.get(position, 0) + gap.samples

    def _check_refusal(self, gap: Gap) -> None:
        """A refusal that came later is signed, as a receipt is."""
        try:
            signed = parse_refusal(gap.detail)
            verify(signed, self._keys)
            if (signed.content.name.epoch, signed.content.name.sequence) != (gap.epoch, gap.first):
                raise ValueError("the refusal is of another push")
        except (ValueError, WireError) as error:
            self._fault(f"gap record of epoch {gap.epoch} number {gap.first}: {error}")

    def _frames(self, folder: Path) -> Iterator[Frame]:
        for name in list_segments(folder):
            path = folder / str(name)
            try:
                for found in scan(path, name, path.stat().st_size):
                    if isinstance(found, Frame):
                        yield found
                    elif isinstance(found, Damage) and not found.torn and folder.name == "archive":
                        self._fault(f"{path.name}: damaged at byte {found.offset}: {found.reason}")
            except FileNotFoundError:
                continue  # settled and put away meanwhile

    def _check_kept(self, frame: Frame) -> None:
        """A kept body must be the one that its receipt is for, or have arrived in parts."""
        one = self._epoch(frame.epoch)
        one.last = max(one.last, frame.sequence)
        receipt = self._whole.get(frame.position)
        if receipt is not None:
            if receipt.sha256 == sha256(frame.payload).hexdigest() and receipt.samples == frame.samples:
                self._proof.bodies += 1
            else:
                self._fault(f"epoch {frame.epoch} number {frame.sequence}: the receipt is for another body")
            return
        if frame.position not in self._parts:
            return
        arrived = sum(self._parts[frame.position].values()) + self._refused_samples.get(frame.position, 0)
        if arrived >= frame.samples:
            one.proven.add(frame.sequence)
        else:
            self._fault(
                f"epoch {frame.epoch} number {frame.sequence}: parts hold {arrived} of {frame.samples} samples"
            )

    def _conclude(self, settled: Settled) -> None:
        for epoch, sequence in self._parts:
            if not self._keeps_bodies:
                self._epoch(epoch).proven.add(sequence)
        for epoch, one in self._proof.epochs.items():
            if one.cut:
                one.gaps.add(one.cut, max(one.cut, one.last))
            accounted = Intervals([*one.proven, *one.gaps, *one.waiting])
            for first, last in accounted.missing(1, one.last):
                numbers = settled.epochs.get(epoch, Intervals())
                lost = [] if epoch < settled.floor else numbers.missing(first, last)
                one.missing += lost
                for low, high in Intervals(lost).missing(first, last):
                    one.unproven.add(low, high)


def render_proof(proof: LaneProof) -> Iterator[str]:
    """The outcome as lines for a person."""
    for epoch, one in sorted(proof.epochs.items()):
        if not one.last:
            continue
        counts = f"{_count(one.proven)} with a receipt, {_count(one.gaps)} in gap records"
        yield f"{proof.lane} epoch {epoch}: 1 to {one.last}: {counts}, {_count(one.waiting)} waiting"
        for first, last in one.missing:
            yield f"{proof.lane} epoch {epoch}: MISSING {_range(first, last)}"
        for first, last in one.unproven:
            yield f"{proof.lane} epoch {epoch}: no receipt for {_range(first, last)}, acknowledged without one"
        for first, last in one.gaps:
            yield f"{proof.lane} epoch {epoch}: gap {_range(first, last)}"
    for fault in proof.faults:
        yield f"{proof.lane}: FAULT {fault}"
    yield f"{proof.lane}: {proof.receipts} receipts verified, {proof.bodies} kept bodies hash as their receipts say"


def _count(numbers: Intervals) -> int:
    return sum(last - first + 1 for first, last in numbers)


def _range(first: int, last: int) -> str:
    return f"number {first}" if first == last else f"numbers {first} to {last}"
