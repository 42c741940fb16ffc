"""The licence: the capacity that the provisioner may hand out, and until when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from pydantic import Field, StrictBool, StrictInt

from billing.contract import CapacityStep, Term, rising_dates
from billing.documents import parse_document
from billing.fields import Id, Version, ZoneName, midnight_ms
from kernel.errors import Finding, raise_findings
from kernel.lines import naming_lines
from kernel.settings import Section
from kernel.steps import StepFunction
from kernel.window import Window


class Licence(Section):
    """One version of a licence. Dates are local dates of `time_zone`."""

    licence: Id = Field(description="id of the licence")
    version: Version = Field(default=1, description="1; each amendment is one more")
    organization: Id = Field(description="the customer's organization")
    contract: Id = Field(description="the contract it is issued under")
    time_zone: ZoneName = Field(default="Etc/UTC", description="IANA zone in which its days begin")
    valid: Term = Field(description="when it is valid")
    capacity: tuple[CapacityStep, ...] = Field(
        min_length=1, max_length=400, description="licensed vCPU; the first step begins with the validity"
    )

    stacks: StrictBool = Field(
        default=False, description="true: valid beside other licences of the organization, their capacities add"
    )
    adds_to: Id | None = Field(
        default=None, description="the licence that this one adds capacity to; it ends on the same day"
    )
    grace_days: StrictInt = Field(
        default=0, ge=0, le=90, description="days after its end in which it still counts, flagged, if none follows"
    )

    @property
    def window(self) -> Window:
        """When it is valid."""
        return Window(midnight_ms(self.valid.start, self.time_zone), midnight_ms(self.valid.end, self.time_zone))

    @property
    def timeline(self) -> StepFunction:
        """The licensed milli-vCPU over time, zero while it is not valid."""
        steps = ((midnight_ms(step.start, self.time_zone), step.milli_vcpu) for step in self.capacity)
        return StepFunction.of(steps).within(self.window)


def parse_licence(text: str, source: str) -> Licence:
    """The licence in `text`. Raises InvalidInput."""
    with naming_lines(text, source):
        licence = parse_document(text, source, Licence)
        raise_findings(_findings(licence, source))
    return licence


def capacity_of(licences: Sequence[Licence]) -> StepFunction:
    """The milli-vCPU that these licences give together over time, in the grace after their end too."""
    graces = (
        StepFunction.constant(grace, licence.capacity[-1].milli_vcpu)
        for licence in licences
        if (grace := grace_of(licence, licences))
    )
    return StepFunction.sum_of((*(licence.timeline for licence in licences), *graces))


def grace_of(licence: Licence, licences: Sequence[Licence]) -> Window | None:
    """When it still counts after its end: for its days of grace, until another licence begins, if one does."""
    end_ms = licence.window.end_ms
    until_ms = midnight_ms(licence.valid.end + timedelta(days=licence.grace_days), licence.time_zone)
    followed_ms = min(
        (other.window.start_ms for other in licences if other.window.start_ms >= end_ms), default=until_ms
    )
    until_ms = min(until_ms, followed_ms)
    return Window(end_ms, until_ms) if until_ms > end_ms else None


def counting_at(licences: Sequence[Licence], now_ms: int) -> list[Licence]:
    """The licences that are valid at a moment, or in grace."""
    return [
        licence
        for licence in licences
        if now_ms in licence.window or ((grace := grace_of(licence, licences)) and now_ms in grace)
    ]


def covered_until_ms(licences: Sequence[Licence], now_ms: int) -> int:
    """When the validity that holds now ends, through licences that follow one another without a gap.

    In the past when all have expired; `now_ms` when none has begun. Raises ValueError without licences.
    """
    windows = sorted(licence.window for licence in licences)
    if not windows:
        raise ValueError("an organization without licences has no validity")
    if all(window.start_ms > now_ms for window in windows):
        return now_ms
    end = windows[0].end_ms
    for window in windows:
        if window.start_ms <= max(end, now_ms):
            end = max(end, window.end_ms)
    return end


def _findings(licence: Licence, source: str) -> Iterator[Finding]:
    valid, steps = licence.valid, licence.capacity
    if valid.end <= valid.start:
        yield Finding(source, "valid.end", str(valid.end), f"a day after valid.start, {valid.start}")
    if steps[0].start != valid.start:
        yield Finding(source, "capacity[0].start", str(steps[0].start), f"valid.start, {valid.start}")
    yield from rising_dates(steps, source, "capacity")
    if licence.adds_to == licence.licence:
        yield Finding(source, "adds_to", licence.licence, "another licence")
    for index, step in enumerate(steps):
        if step.start >= valid.end:
            yield Finding(source, f"capacity[{index}].start", str(step.start), f"before valid.end, {valid.end}")
