"""The shape of usage inside an hour, and the gaps in it, proved from kept frames whoever signs something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from billing.proof.recompute import recompute
from billing.proof.rows import INVOICE
from console.wiring import Vendor
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageGap, UsageRow, UsageRows, canonical_line
from metering.usage.store import UsageStore
from tests.billing.billed_world import Billed
from tests.billing.proof_world import flip, given, lane, refusal, reissue, steps_of
from tests.billing.test_proof_frames import BOTH, NO_CHECKPOINT

SILENT = 20  # an hour of the period: the last samples hold for its first minute
MINUTE_MS = 60_000


def hour_at(billed: Billed, number: int) -> Window:
    start_ms = billed.period.start_ms + number * HOUR_MS
    return Window(start_ms, start_ms + HOUR_MS)


def usage_of(billed: Billed, period: Window) -> UsageMonth:
    """As the vendor has it: rows with their gaps."""
    store = UsageStore(Vendor.embedded(billed.folder, SystemClock()).database())
    return store.month(given(billed).usage.organization, period)


def with_gaps(billed: Billed) -> tuple[UsageRow, ...]:
    return tuple(sorted(usage_of(billed, billed.period).rows, key=canonical_line))


def hold(billed: Billed, rows: tuple[UsageRow, ...], *spools: str) -> tuple[list[str], list[str]]:
    """Such rows against the frames, as a contract that has gaps filled has it done: proved, and not."""
    base = replace(given(billed, lambda _: rows), fills_gaps=True)
    return recompute(base, [lane(billed, name) for name in spools or BOTH])


def moved(billed: Billed) -> StepFunction:
    """The minute of the silent hour in which something was seen, at its end instead: the same sum."""
    step, hour = steps_of(billed), hour_at(billed, SILENT)
    seen = Window(hour.start_ms, hour.start_ms + MINUTE_MS)
    level = step.at(hour.start_ms)
    later = StepFunction.constant(Window(hour.end_ms - MINUTE_MS, hour.end_ms), level)
    return step - StepFunction.constant(seen, level) + later


def test_the_levels_inside_each_hour_follow_from_the_frames(original: Billed) -> None:
    assert "steps: 48 of 48 hours" in "\n".join(original.verify(*BOTH).proved)


def test_a_shape_that_was_moved_inside_an_hour_is_found_and_its_moment_named(
    original: Billed, billed: Billed
) -> None:
    hour, level = hour_at(billed, SILENT), steps_of(billed).at(hour_at(billed, SILENT).start_ms)
    lie = moved(billed)
    assert lie.integral(hour) == steps_of(billed).integral(hour)
    reissue(original, billed, points=lie.points)
    assert billed.verify().number  # signature, sums and amounts hold
    said = refusal(billed, *BOTH)
    assert f"steps.json: from {hour.start.isoformat()}: found 0 milli-vCPU" in said
    assert f"allowed: {level} milli-vCPU, by the kept frames" in said


@pytest.mark.parametrize("name", ["swapped", "negative", "after", "before"])
def test_points_that_are_no_levels_of_the_period_are_found(original: Billed, billed: Billed, name: str) -> None:
    """Whatever reads them may understand them otherwise than what is compared with the frames."""
    points, end_ms = list(steps_of(billed).points), billed.period.end_ms
    lies = {
        "swapped": [points[1], points[0], *points[2:]],
        "negative": [(points[0][0], -1), *points[1:]],
        "after": [*points, (end_ms + 1, 1)],
        "before": [(billed.period.start_ms - 1, 1), *points],
    }
    reissue(original, billed, points=lies[name])
    assert "steps.json: " in refusal(billed)


def test_the_halves_of_hours_at_the_edges_of_a_period_are_held_too(original: Billed) -> None:
    period = Window(original.period.start_ms + HOUR_MS // 2, original.period.end_ms - HOUR_MS // 2)
    base, usage = given(original), usage_of(original, period)
    proved, _ = recompute(replace(base, usage=usage), [lane(original, name) for name in BOTH])
    assert "steps: 48 of 48 hours" in "\n".join(proved)
    first = Window(period.start_ms, period.start_ms + MINUTE_MS)
    lie = replace(usage, step=usage.step + StepFunction.constant(first, 1))
    with pytest.raises(InvalidInput, match=r"steps\.json: from .*T00:30:00.* found \d+ milli-vCPU"):
        recompute(replace(base, usage=lie), [lane(original, name) for name in BOTH])


def test_without_some_spool_the_levels_are_only_bounded_and_it_is_said(original_filled: Billed) -> None:
    verified = original_filled.verify("spool-a")
    assert not [text for text in verified.proved if text.startswith("steps: 48")]
    [bounded] = [text for text in verified.unproved if text.startswith("steps: ")]
    assert bounded.startswith("steps: 47 hours ")  # in one there is nothing
    assert "spool was not given" in bounded


@pytest.mark.parametrize("by", [-1, 1])
def test_what_is_beyond_the_bounds_is_found_without_the_other_spool(
    original_filled: Billed, filled: Billed, by: int
) -> None:
    """Of project dev nothing is given: no more than its rows' peaks can be beside what prod's frames hold."""
    hour = hour_at(filled, 5)
    first, second = (Window(at, at + HOUR_MS // 2) for at in (hour.start_ms, hour.start_ms + HOUR_MS // 2))
    step = steps_of(filled)
    size = 25_000  # more than the rows of dev hold
    lie = step + StepFunction.constant(first, by * size) + StepFunction.constant(second, -by * size)
    reissue(original_filled, filled, points=lie.points)
    said = refusal(filled, "spool-a")
    assert f"steps.json: from {hour.start.isoformat()}: found {step.at(hour.start_ms) + by * size} " in said
    assert "allowed: 20000 to 40000 milli-vCPU, by the kept frames and the other rows' peaks" in said


def test_the_gaps_that_were_filled_follow_from_the_frames(original_filled: Billed) -> None:
    verified = original_filled.verify(*BOTH)
    assert verified.unproved == (NO_CHECKPOINT,)
    stated = json.loads((original_filled.bundle / INVOICE).read_bytes())["usage"]["gaps"]
    silent = hour_at(original_filled, SILENT)
    assert {(each["start_ms"], each["end_ms"]) for each in stated} == {
        (str(silent.start_ms + MINUTE_MS), str(silent.end_ms + HOUR_MS))
    }
    assert f"gaps: {2 * len(stated)} parts of gaps have place" in "\n".join(verified.proved)


def test_a_gap_that_was_moved_inside_an_hour_is_found_and_its_place_named(
    original_filled: Billed, filled: Billed
) -> None:
    document = json.loads((filled.bundle / INVOICE).read_bytes())
    gap, hour = document["usage"]["gaps"][0], hour_at(filled, SILENT)
    first = {
        **gap,
        "start_ms": str(hour.start_ms),
        "end_ms": str(hour.end_ms - MINUTE_MS),
        "since_ms": str(hour.start_ms),
    }
    rest = {**gap, "start_ms": str(hour.end_ms)}
    document["usage"]["gaps"][:1] = [first, rest]
    level = int(gap["milli_vcpu"])
    seen, later = Window(hour.start_ms, hour.start_ms + MINUTE_MS), Window(hour.end_ms - MINUTE_MS, hour.end_ms)
    step = steps_of(filled) - StepFunction.constant(seen, level) + StepFunction.constant(later, level)
    day = next(one for one in document["usage"]["days"] if one["day"] == f"{hour.start:%Y-%m-%d}")
    day["above_milli_vcpu_ms"] = str(int(day["above_milli_vcpu_ms"]) - level * MINUTE_MS)  # alone it is below
    reissue(original_filled, filled, document, step.points)
    assert filled.verify().number  # signature, sums and amounts hold
    said = refusal(filled, *BOTH)
    assert (
        f"invoice.json: usage.gaps of {gap['cluster']} {gap['component']}, {hour}: found {hour.start_ms} to "
        in said
    )
    assert f"allowed: {hour.start_ms + MINUTE_MS} to {hour.end_ms} ms, since {hour.start_ms + MINUTE_MS}, " in said


Lie = Callable[[UsageGap], UsageGap]


@pytest.mark.parametrize(
    "lie",
    [
        lambda gap: replace(gap, milli_vcpu=gap.milli_vcpu + 1),
        lambda gap: replace(gap, milli_vcpu=None),
        lambda gap: replace(gap, since_ms=gap.since_ms + 1),
    ],
)
@pytest.mark.parametrize("at", [SILENT, SILENT + 1])
def test_another_level_before_a_gap_or_beginning_of_it_is_found(original_filled: Billed, lie: Lie, at: int) -> None:
    """In the hour in which the gap begins, and in the next, whose level comes from the hour before."""
    rows = with_gaps(original_filled)
    hour = hour_at(original_filled, at)
    number = next(at for at, row in enumerate(rows) if row.hour == hour)
    changed = replace(rows[number], gaps=tuple(map(lie, rows[number].gaps)))
    with pytest.raises(InvalidInput, match=r"usage\.gaps of c2 .* by the kept frames"):
        hold(original_filled, (*rows[:number], changed, *rows[number + 1 :]))


def test_a_gap_that_began_before_the_period_is_held_too(original_filled: Billed) -> None:
    """By the frames of the two days before it."""
    middle_ms = hour_at(original_filled, SILENT + 1).start_ms + HOUR_MS // 2
    usage = usage_of(original_filled, Window(middle_ms, original_filled.period.end_ms))
    base = replace(given(original_filled), usage=usage, fills_gaps=True)
    proved, unproved = recompute(base, [lane(original_filled, name) for name in BOTH])
    assert "gaps: 4 parts of gaps" in "\n".join(proved)
    assert not unproved
    first = usage.rows[0]
    assert first.gaps[0].since_ms == hour_at(original_filled, SILENT).start_ms + MINUTE_MS
    lie = replace(first, gaps=(replace(first.gaps[0], since_ms=middle_ms),))
    base = replace(base, usage=replace(usage, rows=UsageRows.of(usage.organization, (lie, *usage.rows[1:]))))
    with pytest.raises(InvalidInput, match=rf"usage\.gaps of c2 .* since {middle_ms}, "):
        recompute(base, [lane(original_filled, name) for name in BOTH])


def test_gaps_that_are_not_stated_are_told_and_no_lie(original_filled: Billed) -> None:
    _, unproved = hold(original_filled, tuple(replace(row, gaps=()) for row in with_gaps(original_filled)))
    assert [text for text in unproved if text.startswith("gaps: those of 8 rows: their place is not stated")]


def test_gaps_of_a_project_whose_spool_was_not_given_are_not_claimed(original_filled: Billed) -> None:
    proved, unproved = hold(original_filled, with_gaps(original_filled), "spool-a")
    assert "gaps: 4 parts of gaps" in "\n".join(proved)
    assert [text for text in unproved if text.startswith("gaps: those of 4 rows: another collector")]


def test_backfilled_frames_that_were_kept_take_part(original_filled: Billed) -> None:
    """Two hours came in the history lane alone: nothing is missing in them, and no row of them may differ."""
    rows, hour = with_gaps(original_filled), hour_at(original_filled, 40)
    assert {one.lane for one in given(original_filled).evidence.batches} == {"billing", "history"}
    assert {(row.cluster, row.missing_ms) for row in rows if row.hour == hour} == {("c1", 0), ("c2", 0)}
    verified = original_filled.verify(*BOTH)
    assert verified.unproved == (NO_CHECKPOINT,)
    assert f"hours: {len(rows)} of {len(rows)} rows recomputed" in "\n".join(verified.proved)
    number = next(at for at, row in enumerate(rows) if (row.hour, row.cluster) == (hour, "c1"))
    lie = replace(rows[number], milli_vcpu_ms=rows[number].milli_vcpu_ms + 1)
    with pytest.raises(InvalidInput, match=rf"rows\.tsv: line {number + 1}: .* by the kept frames"):
        hold(original_filled, (*rows[:number], lie, *rows[number + 1 :]))


def test_a_backfill_whose_frames_are_gone_is_told_and_one_that_is_damaged_found(filled: Billed) -> None:
    folder = filled.folder / "spool-a" / "history"
    path = min(folder.rglob("*.seg"))
    flip(path, path.stat().st_size // 2)
    assert f"damaged at {path}: byte " in refusal(filled, *BOTH)
    path.unlink()
    unproved = "\n".join(filled.verify(*BOTH).unproved)
    assert "hours: 2 rows of project prod: their files hold a backfill, whose frames are not kept" in unproved
    assert "steps: 2 hours (" in unproved
    shutil.rmtree(folder / "receipts")
    assert "a foreign push" in refusal(filled, *BOTH)
