"""The collector against vmagent: processor time by churn, bytes on the wire, memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from bench.outcome import Budget, Outcome
from bench.race import Course, Lap, Race, race_now
from bench.recording import recorded_pages

TARGETS, MILVUS_TARGETS = 50, 20
MILVUS_WARM = 12  # scrapes at most, until what the first ones left in the queue has arrived
QUIET, SOME, MUCH = 0.0, 0.01, 0.05  # the share of the series that is replaced at each scrape


@cache  # egress and memory are read from the same laps as the processor time
def _race(churn: float, *, quick: bool) -> Race:
    if quick:
        return race_now(Course(20_000, churn, interval_seconds=1, warm=4, counted=10), runs=1)
    return race_now(Course(100_000, churn, interval_seconds=1, warm=5, counted=12), runs=3)


def quiet(*, quick: bool) -> Outcome:
    """Processor time of a sample, no series replaced."""
    return _cpu("collector-quiet", _race(QUIET, quick=quick), Budget(0.18))


def some_churn(*, quick: bool) -> Outcome:
    """Processor time of a sample, 1 % of the series replaced at each scrape."""
    return _cpu("collector", _race(SOME, quick=quick), Budget(0.15))


def much_churn(*, quick: bool) -> Outcome:
    """Processor time of a sample, 5 % of the series replaced at each scrape."""
    return _cpu("collector-churn", _race(MUCH, quick=quick), Budget(0.25))


def targets(*, quick: bool) -> Outcome:
    """Processor time of a sample of as many series behind fifty targets."""
    series = 20_000 if quick else 100_000
    course = Course(series, QUIET, interval_seconds=1, warm=4, counted=10 if quick else 12, targets=TARGETS)
    return _cpu("targets", race_now(course, runs=1 if quick else 3), Budget(0.18))


def milvus(*, quick: bool) -> Outcome:
    """Processor time of a sample of the pages of a real Milvus, twenty such targets; `details` has a single one."""
    most = MILVUS_TARGETS + MILVUS_WARM + (8 if quick else 24)
    with recorded_pages(most, 0.2 if quick else 0.5) as (folder, series):

        def course(targets: int, counted: int) -> Course:
            return Course(series * targets, QUIET, 1, 3, counted, targets, recording=folder)

        found = race_now(course(MILVUS_TARGETS, 8 if quick else 20), runs=1 if quick else 3)
        outcome = _cpu("milvus", found, Budget(0.18))
        if quick:
            return outcome
        alone = race_now(course(1, 40), runs=1)
    one = {
        "one_target_us": alone.ours[0].cpu_us_per_sample,
        "one_target_peer_us": alone.peer[0].cpu_us_per_sample,
        "one_target_kept_up": [alone.ours[0].kept_up, alone.peer[0].kept_up],
    }
    return replace(outcome, details={**outcome.details, **one})


def egress(*, quick: bool) -> Outcome:
    """Bytes that left for a sample, TLS and HTTP included."""
    found = _race(QUIET, quick=quick)
    return Outcome(
        "egress",
        "bytes on the wire per sample",
        [lap.wire_bytes_per_sample for lap in found.ours],
        [lap.wire_bytes_per_sample for lap in found.peer],
        Budget(0.0625),
        _details(found) | {"body_bytes_per_sample": _bodies(found.ours), "peer_body_bytes": _bodies(found.peer)},
        extra_holds=_is_same_work(found),
    )


def memory(*, quick: bool) -> Outcome:
    """The most memory of the process, 1 % of the series replaced at each scrape."""
    found = _race(SOME, quick=quick)
    return Outcome(
        "memory",
        "MB of resident memory at the peak",
        [lap.peak_megabytes for lap in found.ours],
        [lap.peak_megabytes for lap in found.peer],
        Budget(0.41),
        _details(found),
        extra_holds=_is_same_work(found),
    )


def _cpu(name: str, found: Race, budget: Budget) -> Outcome:
    return Outcome(
        name,
        "us of processor time per sample",
        [lap.cpu_us_per_sample for lap in found.ours],
        [lap.cpu_us_per_sample for lap in found.peer],
        budget,
        _details(found),
        extra_holds=_is_same_work(found),
    )


def _details(found: Race) -> dict[str, object]:
    return {
        "peer_is": "vmagent",
        "series": found.course.series,
        "targets": found.course.targets,
        "replaced_ratio": found.course.churn,
        "interval_seconds": found.course.interval_seconds,
        "scrapes_counted": found.course.counted,
        "kept_up": [lap.kept_up for lap in found.ours],
        "peer_kept_up": [lap.kept_up for lap in found.peer],
        "arrived_ratio": [lap.samples_arrived_ratio for lap in found.ours],
        "peer_arrived_ratio": [lap.samples_arrived_ratio for lap in found.peer],
    }


def _is_same_work(found: Race) -> bool:
    """Both scraped at the interval that they were told; who falls behind skips work."""
    return all(lap.kept_up for lap in (*found.ours, *found.peer))


def _bodies(laps: list[Lap]) -> list[float]:
    return [round(lap.body_bytes_per_sample, 2) for lap in laps]
