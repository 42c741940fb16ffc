"""Keys of one form are decided together: each leaves as it would alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from collector.exposition import MetricType, RawSeries, family_of
from collector.exposition.lexing import TEXT, parse_key
from collector.labels import Labels
from collector.policy import AllowList, ClosedPolicy, LivePolicy, OpenPolicy, Policy
from collector.policy_settings import AllowRule, DropRule, PolicySettings, Unlisted
from collector.relabel import Action, RelabelRule
from collector.scrape.forms import Forms
from collector.scrape.series import Outcome, SeriesRules
from tests.effort import costly

KEY = b"a key of more than 16 bytes"
METRICS = ("m_a", "m_b_total", "m_b", "h_bucket", "h")
NAMES = ("a", "b", "job", "exported_job", "le", "pod")
VALUES = ("1", "2", "x%b", "é", "", "p-1", "with \\\\ escape", r"line\n", "?")
TYPES = {"m_b": MetricType.COUNTER, "h": MetricType.HISTOGRAM}


@st.composite
def keys(draw: st.DrawFn) -> bytes:
    names: list[str] = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    pairs = [f'{name}="{draw(st.sampled_from(VALUES))}"' for name in names]
    ends_in_comma = bool(pairs) and draw(st.integers(0, 3)) == 0
    metric = draw(st.sampled_from(METRICS))
    inner = ",".join(pairs) + "," * ends_in_comma
    has_braces: bool = bool(pairs) or draw(st.booleans())
    return f"{metric}{{{inner}}}".encode() if has_braces else metric.encode()


label_names = st.sampled_from((*NAMES, "__name__", "other"))
rules = st.builds(
    RelabelRule,
    action=st.sampled_from([action for action in Action if action is not Action.HASHMOD]),
    source_labels=st.lists(label_names, max_size=2).map(tuple),
    regex=st.sampled_from(("(.*)", "1.*", "m_.*", "a|b", "job", "(.)(.*)", "")),
    target_label=label_names,
    replacement=st.sampled_from(("$1", "x$1", "", "${1}_y", "b")),
)
patterns = st.sampled_from(("*", "1", "x*", "", "m_*", "h*"))
wheres = st.dictionaries(label_names, st.tuples(patterns), max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    kind = draw(st.sampled_from(("list", "list", "list", "open", "closed")))
    if kind != "list":
        return OpenPolicy() if kind == "open" else ClosedPolicy()
    some = st.lists(st.sampled_from((*NAMES, "*")), max_size=3).map(tuple)
    allow = [
        AllowRule(
            metrics=(draw(patterns) or "*",), where=draw(wheres), labels=draw(some), pseudonyms=draw(some),
            unlisted=draw(st.sampled_from(Unlisted)),
        )
        for _ in range(draw(st.integers(1, 2)))
    ]  # fmt: skip
    drop = [DropRule(where=where) for where in draw(st.lists(wheres, max_size=1)) if where]
    return AllowList(PolicySettings(allow=tuple(allow), drop_series=tuple(drop)), KEY)


def alone(made: SeriesRules, key: bytes, types: dict[str, MetricType]) -> tuple[object, ...]:
    name, labels = parse_key(key, TEXT)
    family = family_of(name, types)
    found = made.scraped(RawSeries(name, labels, family, types.get(family, MetricType.UNKNOWN)))
    return (found,) if isinstance(found, Outcome) else (found.entry, found.family, found.origin, found.is_billing)


def together(forms: Forms, some: list[bytes]) -> list[tuple[object, ...]]:
    return [
        (form.outcome,) if form.outcome is not None else (form.kind + labels, form.family, origin, form.is_billing)
        for form, labels, origin in forms.decide(some, lambda key: parse_key(key, TEXT))
    ]


@costly(100)
@given(
    st.lists(keys(), max_size=30), st.lists(rules, max_size=3), policies(), st.booleans(),
    st.sampled_from(((), (("a", "ext"), ("cluster", "c")))), st.booleans(),
)  # fmt: skip
def test_a_key_leaves_as_it_would_alone(
    some: list[bytes],
    relabel: list[RelabelRule],
    policy: Policy,
    honor_labels: bool,
    external: Labels,
    are_typed: bool,
) -> None:
    target = (("instance", "i:1"), ("job", "j%"))
    made = SeriesRules(
        target, honor_labels, relabel, external, policy, is_billing=lambda name: name.startswith("m_a")
    )
    forms = Forms(made)
    types = dict(TYPES) if are_typed else {}
    forms.follow(types)
    assert together(forms, some) == [alone(made, key, types) for key in some]
    forms.follow(TYPES)
    assert together(forms, some) == [alone(made, key, TYPES) for key in some]  # by what was learnt


def test_values_that_all_differ_and_are_looked_at_are_decided_one_by_one() -> None:
    rule = RelabelRule(action=Action.DROP, source_labels=("pod",), regex=".*7")
    made = SeriesRules((("job", "j"),), False, (rule,), (), OpenPolicy())
    forms = Forms(made)
    some = [b'm{pod="%d",b="%d"}' % (number, number) for number in range(500)]
    assert together(forms, some) == [alone(made, key, {}) for key in some]


def test_more_shapes_than_are_remembered_are_decided_all_the_same() -> None:
    forms = Forms(made := SeriesRules((("job", "j"),), False, (), (), OpenPolicy()))
    some = [b'm_%d{pod="1"}' % (number % 2_500) for number in range(6_000)]
    assert together(forms, some) == [alone(made, key, {}) for key in some]


def test_another_policy_holds_once_it_is_followed_and_not_before() -> None:
    first = AllowList(PolicySettings(allow=(AllowRule(metrics=("m*",), labels=("a",)),)), KEY)
    second = AllowList(PolicySettings(allow=(AllowRule(metrics=("m*",), labels=("b",), where={"b": ("1",)}),)), KEY)
    live = LivePolicy(first)
    made = SeriesRules((), False, (), (), live)
    forms = Forms(made)
    some = [b'm{a="1",b="%d"}' % (number % 2) for number in range(6)]
    before = [alone(replace(made, policy=first), key, {}) for key in some]
    live.current = second
    assert together(forms, some) == before
    forms.reset()
    assert together(forms, some) == [alone(replace(made, policy=second), key, {}) for key in some]


def test_labels_that_fit_into_no_frame_stay() -> None:
    forms = Forms(SeriesRules((), False, (), (), OpenPolicy()))
    some = [b'm{a="%b"}' % (b"x" * size) for size in (1, 2, 40_000, 3)]
    assert [found[0] for found in together(forms, some)][2] is Outcome.TOO_LONG
    assert sum(isinstance(found[0], bytes) for found in together(forms, some)) == 3
