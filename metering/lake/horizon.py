"""The horizon: which pushes of every collector the lake holds, so that a push that comes again is dropped.

Per epoch it is a set of intervals, as fresh pushes go beside a backlog; more epochs may be open at once, as a
collector that comes back sends what is new beside what it had kept. In any order the same pushes give the same
horizon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kernel.ids import CollectorId, Tenant
from metering.gaps import GivenUp
from metering.lake.epochs import EpochState, Judgement
from metering.lake.intervals import latest
from metering.record import BatchHeader, Lane

MOST_EPOCHS = 8


class Source(NamedTuple):
    """One stream of pushes, each epoch numbered from 1."""

    tenant: Tenant
    collector: CollectorId
    lane: Lane

    @classmethod
    def of(cls, header: BatchHeader) -> Source:
        return cls(header.tenant, header.collector, header.lane)


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the lake has of a source: its newest epochs, ascending, and what is left of those before.

    `dropped_through` is the highest epoch that is not kept any more (-1: none); `missing_before` and `through_ms`
    are of those. `given_up`: by reason, how many numbers the collector said will never come and had not come then.
    A foreign sender has no epoch.
    """

    received_ms: int
    epochs: tuple[tuple[int, EpochState], ...] = ()
    dropped_through: int = -1
    missing_before: int = 0
    through_ms: int | None = None
    given_up: tuple[tuple[str, int], ...] = ()  # sorted

    @property
    def missing_pushes(self) -> int:
        """Numbers that have not come, or could not be stored. A backlog under way counts until it is there."""
        return self.missing_before + sum(state.missing for _, state in self.epochs)

    @property
    def has_promised(self) -> bool:
        """Whether it ever said what it is complete through; foreign senders do not."""
        through = [each.through_ms for _, state in self.epochs for each in state.intervals]
        return latest(self.through_ms, *through) is not None

    def complete_through_ms(self, held_since_ms: int | None = None) -> int | None:
        """All that was scraped before this has come; a hole holds it back until it has expired, see EpochState."""
        through = self.through_ms
        for at, (_, state) in enumerate(self.epochs):
            reached, is_whole = state.reached(held_since_ms, self._received_above(at))
            through = latest(through, reached)
            if not is_whole:
                break
        return through

    def _received_above(self, at: int) -> int | None:
        above = [each.received_ms for _, state in self.epochs[at + 1 :] for each in state.intervals]
        return min(above, default=None)


def judge(state: SourceState | None, header: BatchHeader) -> Judgement:
    """Whether the lake holds this push. Foreign senders' are always new: their samples are compared instead."""
    sequence = header.sequence
    if state is None or sequence is None:
        return Judgement.NEW
    known = dict(state.epochs).get(sequence.epoch)
    if known is None:
        return Judgement.UNSURE if sequence.epoch <= state.dropped_through else Judgement.NEW
    return known.judge(sequence.number, sequence.part)


def advance(state: SourceState | None, header: BatchHeader) -> SourceState:
    """The state after a push that was stored and was judged new or unsure; received never steps back."""
    known = _received(state, header)
    sequence = header.sequence
    if sequence is None or judge(state, header) is not Judgement.NEW:
        return known
    epochs = dict(known.epochs)
    epochs[sequence.epoch] = epochs.get(sequence.epoch, EpochState()).stored(
        sequence.number, sequence.part, header.complete_through_ms, header.received_ms
    )
    _close_previous(epochs, known, header)
    return _bounded(replace(known, epochs=tuple(sorted(epochs.items()))))


def refuse(state: SourceState | None, header: BatchHeader) -> SourceState:
    """The state after a push that can't be stored: nobody waits for it any more, and it counts as missing."""
    known = _received(state, header)
    sequence = header.sequence
    if sequence is None or judge(state, header) is not Judgement.NEW:
        return known
    epochs = dict(known.epochs)
    epochs[sequence.epoch] = epochs.get(sequence.epoch, EpochState()).refuse(sequence.number, header.received_ms)
    _close_previous(epochs, known, header)
    return _bounded(replace(known, epochs=tuple(sorted(epochs.items()))))


def give_up(state: SourceState | None, header: BatchHeader, runs: Iterable[GivenUp]) -> SourceState:
    """The state after a gap notice: nobody waits for these numbers any more, and they count as missing.

    Numbers that have come stay as they are; one that comes all the same is new. So a notice may come again.
    """
    known, sequence = _received(state, header), header.sequence
    if sequence is None or (sequence.epoch <= known.dropped_through and sequence.epoch not in dict(known.epochs)):
        return known
    epochs, reasons = dict(known.epochs), Counter(dict(known.given_up))
    epoch = epochs.get(sequence.epoch, EpochState())
    for run in runs:
        epoch, numbers = epoch.give_up(run.first, run.last, header.received_ms)
        reasons[run.reason] += numbers
    epochs[sequence.epoch] = epoch
    _close_previous(epochs, known, header)
    told = tuple(sorted((+reasons).items()))
    return _bounded(replace(known, epochs=tuple(sorted(epochs.items())), given_up=told))


def _received(state: SourceState | None, header: BatchHeader) -> SourceState:
    if state is None:
        return SourceState(header.received_ms)
    return replace(state, received_ms=max(state.received_ms, header.received_ms))


def _close_previous(epochs: dict[int, EpochState], state: SourceState, header: BatchHeader) -> None:
    if header.previous is not None and header.previous[0] > state.dropped_through:
        epoch, last = header.previous
        epochs[epoch] = epochs.get(epoch, EpochState()).closed(last)


def _bounded(state: SourceState) -> SourceState:
    while len(state.epochs) > MOST_EPOCHS:
        (epoch, oldest), *kept = state.epochs
        state = replace(
            state,
            epochs=tuple(kept),
            dropped_through=epoch,
            missing_before=state.missing_before + oldest.missing,
            through_ms=latest(state.through_ms, *(each.through_ms for each in oldest.intervals)),
        )
    return state


@dataclass(frozen=True, slots=True)
class Horizon:
    """The states of all sources."""

    sources: Mapping[Source, SourceState] = field(default_factory=dict)

    def with_states(self, states: Mapping[Source, SourceState]) -> Horizon:
        return replace(self, sources={**self.sources, **states})
