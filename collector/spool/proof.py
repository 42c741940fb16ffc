"""Proves from a lane's files alone that its sequences arrived without a hole, or says which did not.

Each number of each epoch has a receipt whose signature holds, whose hash is that of the body kept (billing), or it
stands in a gap record. A number that was sent in parts has receipts for parts that hold all its samples but those
recorded as refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from collector.spool.checkpoint import Checkpoint, KeptSegment, hash_of, load_checkpoint
from collector.spool.epochs import Epochs
from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason, GapRecords, load_told
from collector.spool.intervals import Intervals
from collector.spool.proven import EpochProof, LaneProof
from collector.spool.receipts import ReceiptDamage, ReceiptStore, read_receipts
from collector.spool.segment import SegmentName, list_segments, scan
from collector.spool.settled import Settled
from collector.wire.errors import WireError
from collector.wire.receipt import KeySet, Receipt, Signed, parse_refusal, verify
from kernel.clock import SystemClock

RESYNC_PART = 500_000


class _Body(NamedTuple):
    """What of a frame is compared with its receipt."""

    epoch: int
    sequence: int
    sha256: str
    samples: int

    @classmethod
    def of(cls, frame: Frame) -> _Body:
        return cls(frame.epoch, frame.sequence, sha256(frame.payload).hexdigest(), frame.samples)


class Prover:
    """Reads all but the checkpoint alone; the collector may run meanwhile. Blocking. Raises OSError."""

    def __init__(self, folder: Path, keys: KeySet, *, keeps_bodies: bool, full: bool = True) -> None:
        """`full`: believe no earlier run; else what one found good is not read again."""
        self._folder = folder
        self._keys = keys
        self._keeps_bodies = keeps_bodies
        self._full = full
        self._before = load_checkpoint(folder)
        self._after = Checkpoint()
        self._proof = LaneProof(folder.name)
        self._whole: dict[tuple[int, int], Receipt] = {}
        self._parts: dict[tuple[int, int], dict[int, int]] = {}
        self._refused_samples: dict[tuple[int, int], int] = {}

    def run(self) -> LaneProof:
        """All of it. What waits is read first: what is settled and put away meanwhile has a receipt by then."""
        settled = Settled(self._folder / "settled.json")
        settled.load()
        epochs = Epochs(self._folder / "epoch.json")
        epochs.load()
        for epoch, last in epochs.ends.items():
            self._epoch(epoch).last = last
        sent = list(self._read_waiting(settled))
        self._read_receipts()
        self._read_gaps()
        kept = list_segments(self._folder / "archive")
        for name in kept:
            self._check_segment(name)
        for name, body in sent:
            if name not in kept:
                self._check_body(body)
        self._conclude(settled)
        self._after.save(self._folder)
        return self._proof

    def _epoch(self, epoch: int) -> EpochProof:
        return self._proof.epochs.setdefault(epoch, EpochProof())

    def _fault(self, text: str) -> None:
        self._proof.faults.append(text)

    def _read_waiting(self, settled: Settled) -> Iterator[tuple[SegmentName, _Body]]:
        """The bodies that are settled and not put away yet; what waits is noted."""
        for name in list_segments(self._folder):
            for frame in self._frames(self._folder / str(name), name):
                one = self._epoch(frame.epoch)
                one.last = max(one.last, frame.sequence)
                if frame.position not in settled:
                    one.waiting.add(frame.sequence)
                elif self._keeps_bodies:
                    yield name, _Body.of(frame)

    def _read_receipts(self) -> None:
        for path in ReceiptStore(self._folder / "receipts", SystemClock()).paths():
            try:
                self._read_receipt_file(path)
            except FileNotFoundError:
                continue  # too old, and removed meanwhile

    def _read_receipt_file(self, path: Path) -> None:
        size, digest = self._before.receipts.get(path.name, (0, ""))
        if size and hash_of(path, size) != digest:
            self._fault(f"{path.name}: not as it was when it was verified")
            size = 0
        trusted, good, faults = (0 if self._full else size), 0, len(self._proof.faults)
        for found, end in read_receipts(path):
            if isinstance(found, ReceiptDamage):
                self._fault(f"{path.name}: damaged from byte {found.offset} on")
                continue
            name = found.content.name
            try:
                if end > trusted:
                    verify(found, self._keys)
            except WireError as error:
                self._fault(f"epoch {name.epoch} number {name.sequence}: {error}")
                continue
            good = end
            if name.lane == self._folder.name:
                self._take(found)
        if good and len(self._proof.faults) == faults:
            self._after.receipts[path.name] = good, hash_of(path, good)

    def _take(self, signed: Signed[Receipt]) -> None:
        receipt = signed.content
        name = receipt.name
        self._proof.receipts += 1
        if name.part >= RESYNC_PART:
            return  # of a gap notice, which is no push
        one = self._epoch(name.epoch)
        one.last = max(one.last, name.sequence)
        if name.part == 0:
            self._whole[name.epoch, name.sequence] = receipt
            one.proven.add(name.sequence)
        else:
            self._parts.setdefault((name.epoch, name.sequence), {})[name.part] = receipt.samples

    def _read_gaps(self) -> None:
        told = load_told(self._folder)
        for gap, end in GapRecords(self._folder).load_from(0):
            if gap.epoch is None:
                self._proof.unwritten += gap.samples or 0
            if gap.epoch is None or gap.first is None:
                continue
            if gap.reason is GapReason.REFUSED and gap.detail.startswith("{"):
                self._check_refusal(gap)
            one, last = self._epoch(gap.epoch), gap.first if gap.last is None else gap.last
            if gap.last is None:
                one.cut = min(gap.first, one.cut or gap.first)
            if last >= gap.first:
                one.add_gap(gap, last, is_told=end <= told)
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

    def _frames(self, path: Path, name: SegmentName) -> Iterator[Frame]:
        try:
            for found in scan(path, name, path.stat().st_size):
                if isinstance(found, Frame):
                    yield found
                elif not found.torn and path.parent.name == "archive":
                    self._fault(f"{path.name}: damaged at byte {found.offset}: {found.reason}")
        except FileNotFoundError:
            return  # settled and put away meanwhile

    def _check_segment(self, name: SegmentName) -> None:
        """A kept segment: each body in it must be the one that its receipt is for."""
        path = self._folder / "archive" / str(name)
        with contextlib.suppress(FileNotFoundError):  # over its bytes or its time, and removed meanwhile
            stat, known = path.stat(), self._before.segments.get(path.name)
            is_same = known is not None and (stat.st_size, stat.st_mtime_ns) == (known.size, known.modified_ns)
            if known is not None and is_same and not self._full:
                proven = self._epoch(name.epoch).proven
                if not proven.missing(known.first, known.last):
                    self._proof.bodies += known.bodies
                    self._after.segments[path.name] = known
                    return
            digest = hash_of(path)
            if known is not None and known.sha256 != digest:
                self._fault(f"{path.name}: not as it was when it was verified")
            faults, bodies = len(self._proof.faults), [_Body.of(frame) for frame in self._frames(path, name)]
            checked = [self._check_body(body) for body in bodies]
            if bodies and all(checked) and len(self._proof.faults) == faults:
                numbers = [body.sequence for body in bodies]
                self._after.segments[path.name] = KeptSegment(
                    stat.st_size, stat.st_mtime_ns, digest, min(numbers), max(numbers), len(bodies)
                )

    def _check_body(self, body: _Body) -> bool:
        """A kept body must be the one that its receipt is for (True), or have arrived in parts."""
        one, position = self._epoch(body.epoch), (body.epoch, body.sequence)
        one.last = max(one.last, body.sequence)
        receipt = self._whole.get(position)
        if receipt is not None:
            is_its = receipt.sha256 == body.sha256 and receipt.samples == body.samples
            if is_its:
                self._proof.bodies += 1
            else:
                self._fault(f"epoch {body.epoch} number {body.sequence}: the receipt is for another body")
            return is_its
        if position in self._parts:
            arrived = sum(self._parts[position].values()) + self._refused_samples.get(position, 0)
            if arrived >= body.samples:
                one.proven.add(body.sequence)
            else:
                held = f"parts hold {arrived} of {body.samples} samples"
                self._fault(f"epoch {body.epoch} number {body.sequence}: {held}")
        return False

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
