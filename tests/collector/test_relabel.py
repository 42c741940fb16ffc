"""Prometheus' relabelling, rule by rule."""

# ruff: noqa: E501 - a table of cases reads better in one line each

from __future__ import annotations

import pytest

from collector.relabel import Action, RelabelRule, relabel

A = Action
BASE = {"a": "foo", "b": "bar", "c": "baz"}
CASES: list[tuple[str, RelabelRule, dict[str, str], dict[str, str] | None]] = [
    ("replace joins sources", RelabelRule(source_labels=("a", "b"), regex="(.*);(.*)", target_label="d", replacement="$2-$1"), BASE, {**BASE, "d": "bar-foo"}),
    ("replace matches the whole", RelabelRule(source_labels=("a",), regex="fo", target_label="d"), BASE, BASE),
    ("an alternation is anchored as a whole", RelabelRule(source_labels=("a",), regex="f|foo", target_label="d", replacement="x"), BASE, {**BASE, "d": "x"}),
    ("replace by nothing removes", RelabelRule(source_labels=("a",), target_label="b", replacement=""), BASE, {"a": "foo", "c": "baz"}),
    ("a missing source is empty", RelabelRule(source_labels=("z",), regex="", target_label="d", replacement="none"), BASE, {**BASE, "d": "none"}),
    ("groups by name", RelabelRule(source_labels=("a",), regex="(?P<first>.).*", target_label="d", replacement="${first}!"), BASE, {**BASE, "d": "f!"}),
    ("$1x names group 1x", RelabelRule(source_labels=("a",), regex="(.)(.*)", target_label="d", replacement="$1x-$2"), BASE, {**BASE, "d": "-oo"}),
    ("$$ is a dollar", RelabelRule(source_labels=("a",), target_label="d", replacement="$$1"), BASE, {**BASE, "d": "$1"}),
    ("the target may hold groups", RelabelRule(source_labels=("a",), regex="(f)(.*)", target_label="x_$1", replacement="$2"), BASE, {**BASE, "x_f": "oo"}),
    ("an empty target is left alone", RelabelRule(source_labels=("a",), regex="(x)?foo", target_label="$1", replacement="y"), BASE, BASE),
    ("a dot matches a newline", RelabelRule(source_labels=("n",), regex="a.b", target_label="d", replacement="y"), {"n": "a\nb"}, {"n": "a\nb", "d": "y"}),
    ("another separator", RelabelRule(source_labels=("a", "b"), separator="/", target_label="d"), BASE, {**BASE, "d": "foo/bar"}),
    ("keep keeps", RelabelRule(A.KEEP, source_labels=("a",), regex="fo+"), BASE, BASE),
    ("keep drops the rest", RelabelRule(A.KEEP, source_labels=("a",), regex="bar"), BASE, None),
    ("drop drops", RelabelRule(A.DROP, source_labels=("a",), regex="f.*"), BASE, None),
    ("drop keeps the rest", RelabelRule(A.DROP, source_labels=("a",), regex="f"), BASE, BASE),
    ("keepequal", RelabelRule(A.KEEPEQUAL, source_labels=("a",), target_label="b"), BASE, None),
    ("dropequal", RelabelRule(A.DROPEQUAL, source_labels=("a",), target_label="b"), {"a": "x", "b": "x"}, None),
    ("hashmod as Prometheus' test has it", RelabelRule(A.HASHMOD, source_labels=("c",), target_label="d", modulus=1000), BASE, {**BASE, "d": "976"}),
    ("hashmod of several lines", RelabelRule(A.HASHMOD, source_labels=("a",), target_label="d", modulus=1000), {"a": "foo\nbar"}, {"a": "foo\nbar", "d": "734"}),
    ("labelmap", RelabelRule(A.LABELMAP, regex="(a|b)", replacement="meta_$1"), BASE, {**BASE, "meta_a": "foo", "meta_b": "bar"}),
    ("labeldrop", RelabelRule(A.LABELDROP, regex="a|b"), BASE, {"c": "baz"}),
    ("labelkeep", RelabelRule(A.LABELKEEP, regex="a|b"), BASE, {"a": "foo", "b": "bar"}),
    ("lowercase", RelabelRule(A.LOWERCASE, source_labels=("a",), target_label="a"), {"a": "FoO"}, {"a": "foo"}),
    ("uppercase", RelabelRule(A.UPPERCASE, source_labels=("a",), target_label="d"), {"a": "FoO"}, {"a": "FoO", "d": "FOO"}),
    ("empty labels are none", RelabelRule(), {"a": "x", "b": ""}, {"a": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "rule", "before", "after"), CASES, ids=[case[0] for case in CASES])
def test_rule(what: str, rule: RelabelRule, before: dict[str, str], after: dict[str, str] | None) -> None:
    untouched = dict(before)
    assert relabel(before, [rule]) == after, what
    assert before == untouched


def test_rules_run_in_order_and_a_drop_ends_them() -> None:
    first = RelabelRule(source_labels=("a",), target_label="b")
    second = RelabelRule(A.DROP, source_labels=("b",), regex="foo")
    assert relabel({"a": "foo"}, [first, second]) is None
    assert relabel({"a": "foo"}, [second, first]) == {"a": "foo", "b": "foo"}


@pytest.mark.parametrize("pattern", ["(", r"(?=x)", r"\1", "[a"])
def test_an_expression_that_is_not_re2_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not an RE2 expression"):
        RelabelRule(regex=pattern)
