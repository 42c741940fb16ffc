"""Rule files: what loads, and how a defect is named."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.durations import parse_duration
from alerts.rule import RuleGroup
from alerts.rulefile import load_rule_files, parse_rule_file
from alerts.settings import DEFAULT_RULES
from kernel.errors import InvalidInput
from tests.alerts.world import rules
from tests.effort import costly

HOUR_MS = 3_600_000


def parse(text: str) -> list[RuleGroup]:
    return parse_rule_file(text, "rules.yaml", HOUR_MS)


def findings(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    return [str(finding) for finding in refused.value.findings]


def one_rule(lines: str) -> str:
    return f"groups:\n  - name: g\n    rules:\n      - {lines}\n"


def test_a_rule_is_read_with_its_times() -> None:
    [group] = parse(rules(for_="1m30s", keep="500ms"))
    [rule] = group.rules
    assert (group.name, group.interval_ms, rule.name) == ("test", 1000, "Hot")
    assert (rule.for_ms, rule.keep_firing_for_ms) == (90_000, 500)
    assert (group.reach_ms, group.reads_clock) == (300_000, False)


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("groups: [}", "line 1", "expected"),
        ("groupes: []", "line 1", "field 'groupes'"),
        ("groups: 3", "line 1, groups", "a value"),
        ("- a", "line 1, document", "a list"),
        ("groups:\n  - rules: []", "line 2, groups[0].name", "nothing"),
        ("groups:\n  - name: g\n    limit: 3", "line 3, groups[0]", "field 'limit'"),
        ("groups:\n  - name: g\n    interval: 10", "groups[0].interval", "'10' is no duration"),
        ("groups:\n  - name: g\n    interval: 10ms", "groups[0].interval", "10 ms"),
        ("groups:\n  - name: g\n  - name: g", "line 3, groups[1].name", "'g'"),
        (one_rule("{record: a, expr: b}"), "line 4, groups[0].rules[0]", "a recording rule"),
        (one_rule("{alert: a}"), "line 4, groups[0].rules[0].expr", "nothing"),
        (one_rule("{expr: a}"), "line 4, groups[0].rules[0].alert", "nothing"),
        (one_rule("{alert: a, alert: b, expr: c}"), "line 4", "field 'alert' twice"),
        (one_rule("{alert: a, expr: 'topk(1, b)'}"), "line 4, groups[0].rules[0].expr", "topk"),
        (one_rule("{alert: a, expr: 'sum(b'}"), "line 4, groups[0].rules[0].expr", "parenthesis"),
        (one_rule("{alert: a, expr: 'rate(b[2h])'}"), "rules[0].expr", "7200 s back"),
        (one_rule("{alert: a, expr: 'b offset -5m'}"), "rules[0].expr", "negative offset"),
        (one_rule("{alert: a, expr: '{b=\"c\"}'}"), "rules[0].expr", "without a metric name"),
        (one_rule("{alert: a, expr: b, for: soon}"), "rules[0].for", "'soon'"),
        (one_rule("{alert: a, expr: b, labels: {organization: c}}"), "labels.organization", "a label"),
        (one_rule("{alert: a, expr: b, labels: {1x: c}}"), "rules[0].labels", "'1x'"),
        (one_rule("{alert: a, expr: b, labels: [c]}"), "rules[0].labels", "a list"),
        (one_rule("{alert: a, expr: b, annotations: {c: '{{ query \"d\" }}'}}"), "annotations.c", "query"),
        (one_rule("{alert: a, expr: b, annotations: {c: '{{ $value'}}"), "annotations.c", "without '}}'"),
        (one_rule("{alert: a, expr: b}\n      - {alert: a, expr: c}"), "line 5, groups[0].rules[1]", "'a'"),
        ("groups: &x [*x]", "line 1", "an alias"),
        ("groups: " + "[" * 50 + "]" * 50, "line 1", "too deep"),
    ],
)
def test_a_defect_is_named_with_its_line(text: str, line: str, named: str) -> None:
    [finding] = findings(text)
    assert line in finding
    assert named in finding


def test_every_defect_is_told_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(rules())
    bad.write_text(one_rule("{alert: a, expr: 'topk(1, b)', for: x}") + "more: 1\n")
    with pytest.raises(InvalidInput) as refused:
        load_rule_files([good, bad, tmp_path / "missing.yaml"], HOUR_MS)
    assert len(refused.value.findings) == 4


def test_two_files_may_not_share_a_group(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(rules())
    with pytest.raises(InvalidInput, match="two groups named"):
        load_rule_files([tmp_path / "a.yaml", tmp_path / "b.yaml"], HOUR_MS)


def test_the_rules_that_come_with_byoc_load() -> None:
    groups = load_rule_files([DEFAULT_RULES], HOUR_MS)
    reads_clock = {group.name: group.reads_clock for group in groups}
    assert reads_clock == {
        "byoc-licence": False,
        "byoc-contract": False,
        "byoc-usage": False,
        "byoc-collectors": True,
    }


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="groupsnamexprlet: -[]{}\"'\n|>&*", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        parse(text)


@costly(100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_any_shape_is_read_or_refused(shape: object) -> None:
    for document in ({"groups": shape}, {"groups": [{"name": "g", "rules": shape}]}):
        with suppress(InvalidInput):
            parse(yaml.safe_dump(document))


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("1h30m", 5_400_000), ("1d", 86_400_000), ("15ms", 15)])
def test_a_duration_is_read(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "1.5m", "-1m", "1m1h", "٣m", "9999999y", "1" * 50 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|long"):
        parse_duration(text)
