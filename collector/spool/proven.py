"""What `verify` found out about a lane, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from collector.spool.gaps import Gap, GapReason
from collector.spool.intervals import Intervals


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
    reasons: dict[tuple[GapReason, bool], Intervals] = field(default_factory=dict)  # with: the vendor was told

    def add_gap(self, gap: Gap, last: int, *, is_told: bool) -> None:
        """Numbers from the record's first to `last`."""
        assert gap.first is not None
        self.gaps.add(gap.first, last)
        self.reasons.setdefault((gap.reason, is_told), Intervals()).add(gap.first, last)


@dataclass(slots=True)
class LaneProof:
    """The outcome for a lane. `faults`: what does not hold, a line each. `unwritten`: samples without a number."""

    lane: str
    epochs: dict[int, EpochProof] = field(default_factory=dict)
    bodies: int = 0  # kept bodies whose hash is that of their receipt
    receipts: int = 0
    unwritten: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Everything arrived, provably, or stands in a gap record or still waits."""
        return not self.faults and not any(one.missing or len(one.unproven) for one in self.epochs.values())


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
        for (reason, is_told), numbers in sorted(one.reasons.items()):
            for first, last in numbers:
                untold = "" if is_told else ", the vendor is not told yet"
                yield f"{proof.lane} epoch {epoch}: gap {_range(first, last)}, {reason.value}{untold}"
    if proof.unwritten:
        yield f"{proof.lane}: {proof.unwritten} samples never had a number: the disk did not take them"
    for fault in proof.faults:
        yield f"{proof.lane}: FAULT {fault}"
    yield f"{proof.lane}: {proof.receipts} receipts verified, {proof.bodies} kept bodies hash as their receipts say"


def _count(numbers: Intervals) -> int:
    return sum(last - first + 1 for first, last in numbers)


def _range(first: int, last: int) -> str:
    return f"number {first}" if first == last else f"numbers {first} to {last}"
