"""`byoc collector check`: what each rule does to each series of a page; nothing is stored or sent. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from collector.exposition.columns import RawSeries
from collector.labels import METRIC_NAME, Labels, make_labels, render_labels
from collector.policy import Decision, Explained
from collector.policy_selection import Fate
from collector.relabel import RelabelRule
from collector.scrape.series import LimitExceeded, SeriesRules
from collector.scrape.times import why_left_out


@dataclass(slots=True)
class SeriesCheck:
    """One series. `leaves_as` None: it stays, for `reason`. `steps`: what was done to it, in order."""

    series: str
    family: str
    type: str
    leaves_as: str | None = None
    reason: str = ""
    lane: str | None = None
    steps: list[str] = field(default_factory=list)

    def stay(self, reason: str) -> None:
        """It does not leave."""
        self.leaves_as, self.lane, self.reason = None, None, reason


@dataclass(frozen=True, slots=True)
class PageCheck:
    """A target's page. `error`: the whole scrape would fail, `up` be 0."""

    job: str
    target: str
    series: Sequence[SeriesCheck] = ()
    error: str | None = None

    @property
    def leaving(self) -> int:
        return sum(one.leaves_as is not None for one in self.series)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "job": self.job,
            "target": self.target,
            "error": self.error,
            "families": [
                {"family": name, "series": total, "leave": leaving, "stay_because": dict(reasons)}
                for name, total, leaving, reasons in families(self.series)
            ],
            "series": [asdict(one) for one in self.series],
        }


@dataclass(frozen=True, slots=True)
class Checker:
    """The rules of one target. `lane_of`: by the metric name that leaves.

    `at_ms`: the time of the scrape, against which those of samples are held; None: they are not honoured.
    """

    rules: SeriesRules
    policy: Explained
    lane_of: Callable[[str], str]
    sample_limit: int = 0
    at_ms: int | None = None

    def page(self, job: str, target: str, found: Iterable[RawSeries]) -> PageCheck:
        """What becomes of the series of a page, in its order."""
        checked: list[SeriesCheck] = []
        finals: dict[Labels, tuple[SeriesCheck, Labels]] = {}
        error: str | None = None
        for raw in found:
            one = SeriesCheck(_rendered(raw), raw.family, raw.type.value)
            checked.append(one)
            try:
                labels = self._relabelled(raw, one)
            except LimitExceeded as exceeded:
                one.stay(str(exceeded))
                error = error or f"{one.series}: {exceeded}"
                continue
            if labels is not None:
                self._decide(raw.family, labels, one, finals)
                self._hold_against_the_clock(raw, one)
        self._apply_sample_limit(checked)
        return PageCheck(job, target, checked, error)

    def _relabelled(self, raw: RawSeries, one: SeriesCheck) -> dict[str, str] | None:
        labels = {**raw.labels, METRIC_NAME: raw.name}
        self.rules.check_limits(labels)
        before = dict(labels)
        self.rules.add_target(labels)
        one.steps += _difference("target labels", before, labels)
        labels = {name: value for name, value in labels.items() if value}
        for number, rule in enumerate(self.rules.metric_relabel):
            if not _step(f"metric_relabel_configs[{number}] {rule.action}", rule, labels, one):
                return None
        if not labels.get(METRIC_NAME):
            one.stay("metric_relabel_configs left no name")
            return None
        before = dict(labels)
        for name, value in self.rules.external:
            labels.setdefault(name, value)
        one.steps += _difference("external_labels", before, labels)
        return labels

    def _decide(
        self,
        family: str,
        labels: dict[str, str],
        one: SeriesCheck,
        finals: dict[Labels, tuple[SeriesCheck, Labels]],
    ) -> None:
        decision = self.policy.explain(family, labels)
        if decision.labels is None:
            one.stay(f"policy: {decision.reason}")
            return
        one.steps += _policy_steps(decision)
        final, origin = make_labels(decision.labels), make_labels(labels)
        other = finals.setdefault(final, (one, origin))
        if other[0] is not one:
            if other[1] != origin:
                other[0].stay(f"the policy makes it equal to {one.series}")
                one.stay(f"the policy makes it equal to {other[0].series}")
            else:
                one.stay("the same series is on the page twice")
            return
        one.leaves_as, one.reason = render_labels(final), decision.reason
        one.lane = self.lane_of(decision.labels[METRIC_NAME])

    def _hold_against_the_clock(self, raw: RawSeries, one: SeriesCheck) -> None:
        if self.at_ms is None or raw.timestamp_ms is None or one.leaves_as is None:
            return
        if reason := why_left_out(raw.timestamp_ms, self.at_ms):
            one.stay(reason)

    def _apply_sample_limit(self, checked: Iterable[SeriesCheck]) -> None:
        if not self.sample_limit:
            return
        leaving = [one for one in checked if one.leaves_as is not None]
        for one in leaving[self.sample_limit :]:
            one.stay(f"sample_limit {self.sample_limit}: new series over it stay")


def families(checked: Iterable[SeriesCheck]) -> Iterator[tuple[str, int, int, Counter[str]]]:
    """(family, series, of which leave, why the others stay), by name."""
    found: dict[str, list[SeriesCheck]] = {}
    for one in checked:
        found.setdefault(one.family, []).append(one)
    for name, rows in sorted(found.items()):
        reasons = Counter(one.reason for one in rows if one.leaves_as is None)
        yield name, len(rows), sum(one.leaves_as is not None for one in rows), reasons


def _step(name: str, rule: RelabelRule, labels: dict[str, str], one: SeriesCheck) -> bool:
    before = dict(labels)
    if not rule.apply(labels):
        one.stay(name)
        return False
    one.steps += _difference(name, before, labels)
    return True


def _policy_steps(decision: Decision) -> list[str]:
    by_fate: dict[Fate, list[str]] = {}
    for name, fate in sorted(decision.fates.items()):
        if name != METRIC_NAME:
            by_fate.setdefault(fate, []).append(name)
    parts = [f"{fate.value} {', '.join(names)}" for fate, names in by_fate.items()]
    return [f"policy {decision.reason}: {'; '.join(parts) or 'no labels'}"]


def _difference(name: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    changes = [f"+{key}={value!r}" for key, value in sorted(after.items()) if before.get(key) != value]
    changes += [f"-{key}" for key in sorted(before.keys() - after.keys())]
    return [f"{name}: {' '.join(changes)}"] if changes else []


def _rendered(raw: RawSeries) -> str:
    return render_labels(tuple(sorted({**raw.labels, METRIC_NAME: raw.name}.items())))
