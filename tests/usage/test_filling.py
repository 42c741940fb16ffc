"""Gap policies: worked examples, and any month against a walk over its minutes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from kernel.ids import ClusterId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.filling import fill
from metering.usage.model import NOT_BILLED, GapRule, UsageMonth
from metering.usage.report import monthly_report, with_estimates
from metering.usage.report_json import render_json
from metering.usage.report_pdf import render_pdf
from metering.usage.rows import UsageGap, UsageRow, UsageRows, digest_of
from tests.effort import costly
from tests.usage.months import ACME

T0 = 1_780_272_000_000
MINUTE = 60_000
Level = int | None
SIX_HOURS = Window(T0, T0 + 6 * HOUR_MS)


def usage_of(components: dict[str, Sequence[Level]], before: Level = None) -> UsageMonth:
    """Six hours in which a component has these levels, an equal time each; None is missing. `before`: the level."""
    rows, steps = [], []
    for name, levels in components.items():
        step_ms = SIX_HOURS.length_ms // len(levels)
        edges = [T0 + at * step_ms for at in range(len(levels))]
        last, since = before, T0
        pieces: list[tuple[Window, int, Level]] = []  # window, since, level before
        for at, level in zip(edges, levels, strict=True):
            since = at if level is not None or (pieces and pieces[-1][0].end_ms != at) or not pieces else since
            if level is None:
                pieces.append((Window(at, at + step_ms), since, last))
            else:
                last, since = level, at + step_ms
        held = StepFunction.of(
            [*((at, level or 0) for at, level in zip(edges, levels, strict=True)), (SIX_HOURS.end_ms, 0)]
        )
        steps.append(held)
        for hour in hours_in(SIX_HOURS):
            gaps = [
                UsageGap(part, start, known)
                for window, start, known in pieces
                if (part := window.intersection(hour))
            ]
            missing = sum(gap.window.length_ms for gap in gaps)
            rows.append(_row(name, hour, held, missing, tuple(gaps)))
    return UsageMonth(
        ACME, SIX_HOURS, UsageRows.of(ACME, rows), StepFunction.sum_of(steps), 0, 0, digest_of(rows), sealed=True
    )


def _row(name: str, hour: Window, held: StepFunction, missing: int, gaps: tuple[UsageGap, ...]) -> UsageRow:
    return UsageRow(
        ACME,
        ProjectId("prod"),
        ClusterId("orders"),
        name,
        hour,
        1,
        held.integral(hour),
        HOUR_MS - missing,
        missing,
        held.maximum(hour),
        (),
        gaps,
    )


def hours(rule: GapRule, *levels: Level, before: Level = None) -> list[Fraction]:
    """vCPU-hours of each of six hours, filled by a rule."""
    filled = fill(usage_of({"query": levels}, before), rule)
    return [Fraction(filled.step.integral(hour), 1000 * HOUR_MS) for hour in hours_in(SIX_HOURS)]


DAY = 24 * HOUR_MS


def test_not_billed_fills_nothing() -> None:
    assert hours(NOT_BILLED, 4000, None, None, 2000, 2000, 2000) == [4, 0, 0, 2, 2, 2]


def test_hold_last_goes_on_with_the_level_before_the_gap() -> None:
    rule = GapRule("hold-last", DAY)
    assert hours(rule, 4000, None, None, 2000, 2000, None) == [4, 4, 4, 2, 2, 2]
    assert hours(rule, None, 2000, 2000, 2000, 2000, 2000, before=3000) == [3, 2, 2, 2, 2, 2]
    assert hours(rule, None, 2000, 2000, 2000, 2000, 2000) == [0, 2, 2, 2, 2, 2], "no level is known"


def test_an_estimate_is_the_mean_of_the_neighbouring_hours() -> None:
    rule = GapRule("estimate", DAY)
    assert hours(rule, 4000, None, None, 2000, 2000, None) == [4, 3, 3, 2, 2, 2]
    assert hours(rule, None, 2000, 2000, 2000, 2000, 2000, before=9000) == [2, 2, 2, 2, 2, 2]
    assert hours(rule, None, None, None, None, None, None, before=9000) == [9, 9, 9, 9, 9, 9]


def test_an_hour_that_was_partly_observed_is_its_own_neighbour_on_both_sides() -> None:
    """Each level holds half an hour: 4 vCPU, then a gap, beside hours of 8."""
    assert hours(GapRule("estimate", DAY), 8000, 8000, 4000, None, *[8000] * 8)[1] == 4


def test_neighbours_count_by_their_observed_time_and_half_up() -> None:
    """Half an hour at 1 and an hour at 2: (1 * 0.5 + 2 * 1) / 1.5 = 5/3 vCPU, in milli-vCPU 1667."""
    levels = [None, 1000, None, None, 2000, 2000, *[2000] * 6]
    assert hours(GapRule("estimate", DAY), *levels)[1] == Fraction(1667, 1000)


def test_a_gap_is_filled_from_its_beginning_for_so_long_and_no_longer() -> None:
    for policy in ("hold-last", "estimate"):
        rule = GapRule(policy, 2 * HOUR_MS)
        assert hours(rule, 4000, None, None, None, 4000, 4000) == [4, 4, 4, 0, 4, 4]
    filled = fill(usage_of({"query": [4000, None, None, None, 4000, 4000]}), GapRule("hold-last", 2 * HOUR_MS))
    [stretch] = filled.stretches
    assert stretch.window == Window(T0 + HOUR_MS, T0 + 3 * HOUR_MS)
    assert (filled.estimated_ms, filled.milli_vcpu_ms) == (2 * HOUR_MS, 8000 * HOUR_MS)


LEVELS = st.lists(st.none() | st.integers(0, 9000), min_size=24, max_size=24)


@costly(100)
@given(
    LEVELS, LEVELS, st.none() | st.integers(0, 9000), st.sampled_from(["hold-last", "estimate"]), st.integers(1, 7)
)
def test_every_quarter_is_what_a_walk_says(
    first: list[Level], second: list[Level], before: Level, policy: str, most: int
) -> None:
    rule = GapRule(policy, most * HOUR_MS)  # type: ignore[arg-type]
    usage = usage_of({"query": first, "index": second}, before)
    filled = fill(usage, rule)
    quarters = [Window(T0 + at * HOUR_MS // 4, T0 + (at + 1) * HOUR_MS // 4) for at in range(24)]
    walked = [_walk(levels, before, policy, most * 4) for levels in (first, second)]
    for at, quarter in enumerate(quarters):
        assert filled.step.integral(quarter) == sum(each[at] for each in walked) * quarter.length_ms
    assert filled.milli_vcpu_ms == filled.step.integral(SIX_HOURS) - usage.step.integral(SIX_HOURS)
    assert (
        fill(
            UsageMonth(ACME, SIX_HOURS, UsageRows.of(ACME, usage.rows[::-1]), usage.step, 0, 0, "", sealed=True),
            rule,
        )
        == filled
    )


def _walk(levels: Sequence[Level], before: Level, policy: str, most: int) -> list[int]:
    """Quarter by quarter, with lists and fractions."""
    found, run, last = [], 0, before
    for at, level in enumerate(levels):
        run = run + 1 if level is None else 0
        last = last if level is None else level
        if level is not None or run > most:
            found.append(level or 0)
        elif policy == "hold-last":
            found.append(last or 0)
        else:
            found.append(_estimate(levels, at // 4, last))
    return found


def _estimate(levels: Sequence[Level], hour: int, last: Level) -> int:
    seen = {at // 4 for at, level in enumerate(levels) if level is not None}
    near = {
        max((one for one in seen if one <= hour), default=None),
        min((one for one in seen if one >= hour), default=None),
    }
    counted = [level for at, level in enumerate(levels) if at // 4 in near and level is not None]
    return int(Fraction(sum(counted), len(counted)) + Fraction(1, 2)) if counted else last or 0


@pytest.mark.parametrize("policy", ["hold-last", "estimate"])
def test_telescoping_of_what_is_held(policy: str) -> None:
    """A gap that began in the month before is filled for what is left of its time."""
    usage = usage_of({"query": [None] * 6}, 4000)
    since = T0 - 20 * HOUR_MS
    rows = tuple(
        UsageRow(
            **{
                **{name: getattr(row, name) for name in UsageRow.__slots__},
                "gaps": tuple(UsageGap(gap.window, since, 4000) for gap in row.gaps),
            }
        )
        for row in usage.rows
    )
    filled = fill(
        UsageMonth(ACME, SIX_HOURS, UsageRows.of(ACME, rows), usage.step, 0, 0, "", sealed=True),
        GapRule(policy, DAY),  # type: ignore[arg-type]
    )
    assert filled.estimated_ms == 4 * HOUR_MS


def test_the_monthly_report_flags_estimated_hours_apart_from_what_was_observed() -> None:
    june = month("2026-06")
    six = usage_of({"query": [4000, None, None, 2000, 2000, 2000]})
    usage = replace(six, window=june)
    plain = monthly_report(usage, None, "2026-06", "Etc/UTC")
    assert b"estimated" not in render_json(plain)
    flagged = with_estimates(plain, usage, GapRule("estimate", DAY))
    stated = json.loads(render_json(flagged))
    assert stated["total"]["milli_vcpu_ms"] == str(10_000 * HOUR_MS)
    assert stated["estimated"]["milli_vcpu_ms"] == str(6000 * HOUR_MS)
    assert stated["estimated"]["estimated_ms"] == str(2 * HOUR_MS)
    [stretch] = stated["estimated"]["stretches"]
    assert (stretch["cluster"], stretch["component"], stretch["milli_vcpu"]) == ("orders", "query", "3000")
    pages = PdfReader(io.BytesIO(render_pdf(flagged))).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert "2.00 component-hours of it are estimated, with 6.00" in text
