"""Series of one target from scrape to scrape: stale markers, limits, collisions, the series about the scrape."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exposition import ExpositionError, MetricType, ReaderChoice, Rows, choose_reader
from collector.exposition.columns import Declared
from collector.labels import Labels, render_labels
from collector.native import KeyTable
from collector.policy import AllowList, OpenPolicy, Policy
from collector.policy_settings import AllowRule, PolicySettings
from collector.relabel import Action, RelabelRule
from collector.scrape.series import LimitExceeded, SeriesRules, labels_of
from collector.scrape.state import AUTO_METRICS, Scrape, TargetState
from tests.collector.exposing import WITHOUT_KERNEL
from tests.collector.receiving import Receiver
from tests.effort import costly

TARGET: Labels = (("instance", "i:1"), ("job", "j"))
TEXT = "text/plain"
EVERYTHING = AllowRule(metrics=("*",), labels=("*",))


@pytest.fixture(autouse=True, params=["pure", "native"])
def each_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is decided about rows does not hang on who read them."""
    if request.param == "native" and KeyTable is None:
        pytest.skip(WITHOUT_KERNEL)
    choose_reader(ReaderChoice(request.param))
    yield
    choose_reader(ReaderChoice.AUTO)


class Scraped(TargetState):
    """A target's state whose frames are read back: what arrives is what counts."""

    def __init__(self, rules: SeriesRules, **options: object) -> None:
        super().__init__(rules, **options)  # type: ignore[arg-type]
        self.receiver = Receiver()

    def body(self, body: bytes, at_ms: int = 1000, seconds: float = 0.5) -> Scrape:
        return self.scraped(bytearray(body), TEXT, at_ms, seconds)

    def arrived(self, scrape: Scrape, group: int = 1) -> dict[str, float | str]:
        """Stores a scrape: series as text -> value, `stale` for a stale marker; without job and instance."""
        shown: dict[str, float | str] = {}
        for lane in (0, 1):
            blocks = self.encode(scrape, lane, group)
            for labels, _, value in self.receiver.take(lane, group, blocks):
                shown[_name(labels)] = value
            self.stored(scrape, lane)
        return shown


def _name(labels: Labels) -> str:
    return render_labels(tuple(pair for pair in labels if pair not in TARGET))


def make_state(
    *,
    policy: Policy | None = None,
    metric_relabel: tuple[RelabelRule, ...] = (),
    honor_labels: bool = False,
    honor_timestamps: bool = True,
    sample_limit: int = 0,
    label_limit: int = 0,
    external: Labels = (),
) -> Scraped:
    rules = SeriesRules(
        TARGET, honor_labels, metric_relabel, external, policy or OpenPolicy(), label_limit, 0, 20,
        lambda name: name == "up" or "licence" in name,
    )  # fmt: skip
    return Scraped(rules, honor_timestamps=honor_timestamps, sample_limit=sample_limit)


def rows(state: Scraped, scrape: Scrape, *, auto: bool = False, group: int = 1) -> dict[str, float | str]:
    arrived = state.arrived(scrape, group)
    return arrived if auto else {name: value for name, value in arrived.items() if name not in AUTO_METRICS}


def scraped(state: Scraped, body: bytes, at_ms: int = 1000) -> dict[str, float | str]:
    return rows(state, state.body(body, at_ms))


def test_a_series_that_vanishes_ends_once() -> None:
    state = make_state()
    assert scraped(state, b"a 1\nb 2\n") == {"a": 1, "b": 2}
    assert scraped(state, b"a 1\n") == {"a": 1, "b": "stale"}
    assert scraped(state, b"a 1\n") == {"a": 1}
    assert scraped(state, b"a 1\nb 3\n") == {"a": 1, "b": 3}


def test_a_failed_scrape_ends_every_series_and_says_down() -> None:
    state = make_state()
    scraped(state, b"a 1\n")
    assert rows(state, state.failed(2000, 0.1), auto=True) == {
        "a": "stale",
        "up": 0,
        "scrape_duration_seconds": 0.1,
        "scrape_samples_scraped": 0,
        "scrape_samples_post_metric_relabeling": 0,
        "scrape_series_added": 0,
    }
    assert rows(state, state.failed(3000, 0.1)) == {}


def test_a_target_that_comes_back_does_not_send_its_dictionary_again() -> None:
    state = make_state()
    body = b"".join(b'a{n="%d",text="%d"} %d\n' % (number, number * 7919, number) for number in range(500))
    scraped(state, body)
    rows(state, state.failed(2000, 0.1))
    back = state.body(body, 3000)
    assert back.added == 500
    assert sum(len(block.content) for block in state.encode(back, 1, 1)) < 1500
    assert len(rows(state, back)) == 500


def test_a_target_that_is_gone_ends_up_too() -> None:
    state = make_state()
    assert rows(state, state.ended(1), auto=True) == {}
    scraped(state, b"a 1\n")
    ended = rows(state, state.ended(2000), auto=True)
    assert ended == {"a": "stale", **dict.fromkeys(AUTO_METRICS, "stale")}


def test_series_with_timestamps_of_their_own_never_go_stale() -> None:
    state = make_state()
    made = state.body(b"a 1 500\nb 2\n", 1000)
    times = {_name(labels): at for labels, at, _ in state.receiver.take(1, 1, state.encode(made, 1, 1))}
    assert (times["a"], times["b"]) == (500, 1000)
    state.stored(made, 1)
    assert scraped(state, b"c 1\n") == {"b": "stale", "c": 1}


def test_timestamps_that_are_not_honoured_are_the_scrape_s() -> None:
    state = make_state(honor_timestamps=False)
    made = state.body(b"a 1 500\n", 1000)
    assert [at for _, at, _ in state.receiver.take(1, 1, state.encode(made, 1, 1))] == [1000] * 5
    state.stored(made, 1)
    assert scraped(state, b"b 1\n") == {"a": "stale", "b": 1}


def test_what_was_not_stored_does_not_go_stale_and_what_was_does() -> None:
    state = make_state()
    scraped(state, b"a 1\n")
    lost = state.body(b"b 1\n", 2000)
    for lane in (0, 1):
        state.encode(lost, lane, 1)  # the disk did not take it
    assert scraped(state, b"c 1\n") == {"a": "stale", "c": 1}
    assert scraped(state, b"c 2\n") == {"c": 2}


def test_after_a_lost_scrape_and_in_a_new_group_everything_is_told_anew() -> None:
    state = make_state()
    for number in range(30):
        group = 1 + number // 7
        body = b"".join(b'a{n="%d"} %d\n' % (index, index + number) for index in range(number, number + 9))
        made = state.body(b"steady 1\n" + body)
        if number % 5 == 3:
            state.encode(made, 1, group)
            continue
        values = {name: value for name, value in rows(state, made, group=group).items() if value != "stale"}
        assert values == {"steady": 1.0} | {
            f'a{{n="{index}"}}': float(index + number) for index in range(number, number + 9)
        }


def test_the_lanes_are_told_apart_by_name_and_stored_one_by_one() -> None:
    state = make_state()
    made = state.body(b"milvus_licence 5\nother 6\n")
    first = {_name(labels): value for labels, _, value in state.receiver.take(0, 1, state.encode(made, 0, 1))}
    assert first == {"milvus_licence": 5, "up": 1}
    state.stored(made, 0)
    state.encode(made, 1, 1)  # not stored
    assert scraped(state, b"nothing 1\n") == {"milvus_licence": "stale", "nothing": 1}


def test_the_series_about_the_scrape() -> None:
    state = make_state(metric_relabel=(RelabelRule(Action.DROP, source_labels=("__name__",), regex="b"),))
    about = rows(state, state.body(b"a 1\nb 2\nc 3\n"), auto=True)
    assert [about[name] for name in AUTO_METRICS] == [1, 0.5, 3, 2, 2]
    about = rows(state, state.body(b"a 1\nb 2\nd 3\n"), auto=True)
    assert [about[name] for name in AUTO_METRICS] == [1, 0.5, 3, 2, 1]
    about = rows(state, state.body(b"a 1\nb 2\nd 4\n"), auto=True)
    assert [about[name] for name in AUTO_METRICS] == [1, 0.5, 3, 2, 0]


def test_a_target_that_has_a_series_up_of_its_own_is_believed() -> None:
    state = make_state()
    assert rows(state, state.body(b"up 7\n"), auto=True)["up"] == 7
    assert rows(state, state.body(b"a 1\n"), auto=True)["up"] == 1


def test_a_bad_body_is_refused_whole() -> None:
    state = make_state()
    scraped(state, b"a 1\n")
    with pytest.raises(ExpositionError):
        state.body(b"a 2\nb{\n", 2000)
    assert rows(state, state.failed(2000, 0.1)) == {"a": "stale"}


def test_our_labels_win_unless_the_target_s_are_honoured() -> None:
    body = b'a{job="own",x="1"} 1\n'
    assert scraped(make_state(), body) == {'a{exported_job="own",x="1"}': 1}
    assert scraped(make_state(honor_labels=True), body) == {'a{job="own",x="1"}': 1}
    twice = scraped(make_state(), b'a{job="own",exported_job="older"} 1\n')
    assert twice == {'a{exported_exported_job="own",exported_job="older"}': 1}


def test_external_labels_fill_what_is_missing() -> None:
    state = make_state(external=(("region", "r1"),))
    shown = rows(state, state.body(b'a 1\na{region="own"} 2\n'), auto=True)
    assert (shown['a{region="r1"}'], shown['a{region="own"}'], shown['up{region="r1"}']) == (1, 2, 1)


def test_over_the_sample_limit_known_series_stay_and_new_ones_are_left_out() -> None:
    state = make_state(sample_limit=2)
    assert scraped(state, b"a 1\nb 1\n") == {"a": 1, "b": 1}
    made = state.body(b"new 1\na 2\nb 2\n")
    assert (rows(state, made), made.over_limit) == ({"a": 2, "b": 2}, 1)
    made = state.body(b"new 1\na 2\nb 2\n")
    assert (rows(state, made), made.over_limit) == ({"a": 2, "b": 2}, 1)
    assert scraped(state, b"new 1\nb 3\n") == {"new": 1, "b": 3, "a": "stale"}
    rows(state, state.failed(2000, 0.1))
    made = state.body(b"other 1\nnew 1\nb 3\n")
    assert (rows(state, made), made.over_limit) == ({"other": 1, "new": 1}, 1)


def test_series_over_the_limit_do_not_leave_even_by_name() -> None:
    state = make_state(sample_limit=1)
    scraped(state, b"a 1\nsecret 1\n")
    assert not any(b"secret" in entry for entry in state.receiver.entries)


def test_what_a_target_dates_over_ten_minutes_ahead_stays_here_as_prometheus_does() -> None:
    """At the gateway it would hold back, or end in the dead letters, what other targets say."""
    state, at_ms = make_state(), 1_000_000
    body = f"near 1 {at_ms + 600_000}\nfar 2 {at_ms + 600_001}\nold 3 5\nnow 4\n".encode()
    made = state.body(body, at_ms)
    assert (rows(state, made), made.too_new) == ({"near": 1, "old": 3, "now": 4}, 1)
    trusting = make_state(honor_timestamps=False)
    made = trusting.body(body, at_ms)
    assert (rows(trusting, made), made.too_new) == ({"near": 1, "far": 2, "old": 3, "now": 4}, 0)


def test_label_limits_fail_the_scrape_and_nothing_of_it_leaves() -> None:
    state = make_state(label_limit=3)
    with pytest.raises(LimitExceeded, match="label_limit is 3"):
        state.body(b'fine 1\na{x="1",y="2",z="3"} 1\n')
    assert rows(state, state.failed(1, 0.1)) == {}
    assert not any(b"fine" in entry for entry in state.receiver.entries)
    with pytest.raises(LimitExceeded, match="label_value_length_limit 20"):
        make_state().body(b'a{x="123456789012345678901"} 1\n')


def test_a_series_whose_labels_fit_into_no_frame_stays_here() -> None:
    rules = SeriesRules(TARGET, False, (), (), OpenPolicy())
    state = Scraped(rules, honor_timestamps=True, sample_limit=0)
    made = state.body(b'a{x="' + b"1" * 40_000 + b'"} 1\nb 2\n')
    assert (rows(state, made), made.too_long) == ({"b": 2}, 1)


def test_a_series_that_is_there_twice_counts_once_and_the_first_one_holds() -> None:
    state = make_state()
    for body in (b'a{x="1",y="2"} 1\na{y="2",x="1"} 9\n', b'a{x="1", y="2"} 1\na{x="1",y="2"} 9\n'):
        made = state.body(body)
        assert (rows(state, made), made.duplicates) == ({'a{x="1",y="2"}': 1}, 1)


def test_series_that_the_policy_would_make_equal_stay_inside() -> None:
    policy = AllowList(PolicySettings(allow=(AllowRule(metrics=("*",), labels=("job", "instance")),)), b"k" * 32)
    state = make_state(policy=policy)
    made = state.body(b'a{tenant="x"} 1\na{tenant="y"} 2\nb{tenant="x"} 3\n')
    assert (rows(state, made), made.collided) == ({"b": 3}, 1)
    assert scraped(state, b'a{tenant="x"} 1\n') == {"b": "stale"}


def test_a_series_that_left_before_another_became_equal_ends() -> None:
    policy = AllowList(PolicySettings(allow=(AllowRule(metrics=("*",), labels=("job", "instance")),)), b"k" * 32)
    state = make_state(policy=policy)
    assert scraped(state, b'a{tenant="x"} 1\n') == {"a": 1}
    assert scraped(state, b'a{tenant="x"} 1\na{tenant="y"} 2\n') == {"a": "stale"}
    assert scraped(state, b'a{tenant="x"} 1\na{tenant="y"} 2\n') == {}


def test_a_type_that_changes_is_told_and_the_series_goes_on() -> None:
    state = make_state()
    for number, kind in enumerate((b"gauge", b"counter", b"counter")):
        assert scraped(state, b"# TYPE a %b\na %d\n" % (kind, number)) == {"a": number}
    types = [entry[0] for entry in state.receiver.entries if b"\xffa\xff" in entry]
    assert types == [2, 1]


def test_exemplars_leave_only_when_they_may() -> None:
    om = "application/openmetrics-text"
    body = b'a_total{x="1"} 1 # {trace="t"} 0.5 1.5\nb_total 2 # {} 0.25\n# EOF\n'
    for may, expected in ((False, []), (True, [(0.5, 1500, b"trace\xfft\xff"), (0.25, 1000, b"")])):
        state = make_state(
            policy=OpenPolicy() if may else AllowList(PolicySettings(allow=(EVERYTHING,)), b"k" * 32)
        )
        made = state.scraped(bytearray(body), om, 1000, 0.1)
        state.receiver.take(1, 1, state.encode(made, 1, 1))
        found = [
            (one.value, one.timestamp_ms, one.labels) for rows in state.receiver.rows for one in rows.exemplars
        ]
        assert found == expected


def test_the_start_of_a_counter_leaves_with_it_when_it_changed_and_of_no_other() -> None:
    allowed = AllowRule(metrics=("a_total",), labels=("*",))
    state = make_state(policy=AllowList(PolicySettings(allow=(allowed,)), b"k" * 32))

    def told(began: int, at_ms: int, group: int) -> list[tuple[str, int]]:
        page = Rows(declared=Declared({"a_total": MetricType.COUNTER, "secret_total": MetricType.COUNTER}))
        page.created = {0: began, 1: 77, 2: 88}
        for key in (b"a_total", b"secret_total", b'a_total{x="1"}'):
            page.add(key, 1.0)
        made = state.scraped_rows(page, at_ms, 0.1)
        blocks = state.encode(made, 1, group)
        state.receiver.take(1, group, blocks)
        state.stored(made, 1)
        return [
            (_name(labels_of(state.receiver.entries[series])), start)
            for rows in state.receiver.rows
            if rows.starts is not None
            for series, start in zip(rows.starts.series.tolist(), rows.starts.starts_ms.tolist(), strict=True)
        ]

    assert told(500, 1000, 1) == [("a_total", 500), ('a_total{x="1"}', 88)]
    assert told(500, 2000, 1) == []
    assert told(2500, 3000, 1) == [("a_total", 2500)]
    assert told(2500, 4000, 2) == [("a_total", 2500), ('a_total{x="1"}', 88)]


def test_slots_are_used_again_and_nothing_grows_with_what_once_was() -> None:
    state = make_state()
    for number in range(12):
        body = b"".join(b'a{x="%d"} %d\n' % (number * 500 + index, index) for index in range(500))
        arrived = scraped(state, b"steady 1\n" + body, 1_790_000_000_000 + number)
        assert {name: value for name, value in arrived.items() if value != "stale"} == {
            "steady": 1.0, **{f'a{{x="{number * 500 + index}"}}': float(index) for index in range(500)}
        }  # fmt: skip
    assert state.streams[1].capacity <= 1_100
    assert len(state.streams[1].index._slots) <= 1_100


def test_what_left_is_counted_by_family_and_a_series_is_listed_once() -> None:
    state = make_state()
    body = b"# TYPE h histogram\nh_bucket 1\nh_sum 1\nh_count 1\nb 1\n"
    made = state.body(body)
    assert state.families(made, 1)["h"] == 3
    assert ("b", 'b{instance="i:1",job="j"}') in state.new_series(made, 1)
    state.encode(made, 1, 1)
    assert len(state.new_series(state.body(body), 1)) == 8  # the disk did not take it
    rows(state, made := state.body(body))
    assert state.new_series(state.body(body), 1) == []
    assert state.families(state.body(b"b 1\n"), 1)["h"] == 3  # three stale markers


samples = st.dictionaries(st.sampled_from([f"n{number}" for number in range(12)]), st.integers(0, 5), max_size=9)


@costly(150)
@given(
    st.lists(st.tuples(st.sampled_from(["stored", "stored", "lost", "failed", "new group"]), samples), max_size=12)
)
def test_what_arrives_is_what_was_scraped(steps: list[tuple[str, dict[str, int]]]) -> None:
    """Values, and a stale marker for exactly what was there in the last stored scrape and is no more."""
    state, group, before = make_state(), 1, set[str]()
    for what, values in steps:
        group += what == "new group"
        if what == "failed":
            assert rows(state, state.failed(1, 0.1), group=group) == dict.fromkeys(before, "stale")
            before = set()
            continue
        made = state.body("".join(f"{name} {value}\n" for name, value in values.items()).encode())
        if what == "lost":
            for lane in (0, 1):
                state.encode(made, lane, group)
            continue
        expected: dict[str, float | str] = dict.fromkeys(before - values.keys(), "stale")
        assert rows(state, made, group=group) == expected | values
        before = set(values)


def test_a_tick_is_encoded_again_for_a_later_group() -> None:
    state = make_state()
    scraped(state, b"a 1\nb 1\n")
    made = state.body(b"a 2\nc 3\n")
    state.encode(made, 1, 1)
    assert rows(state, made, group=2) == {"a": 2, "c": 3, "b": "stale"}
    assert np.count_nonzero(state.streams[1].sent) == 2


def test_many_new_series_are_told_in_parts_and_every_sample_comes_once() -> None:
    state = make_state()
    body = b"".join(b'a{n="%d"} %d\n' % (number, number) for number in range(9_000))
    parts, told = 0, 0
    for made in state.scraped_in_parts(bytearray(body), TEXT, 1000, 0.5, part=2_000):
        told += sum(len(state.new_series(made, lane)) for lane in (0, 1))
        arrived = rows(state, made)
        parts += 1
        assert made.is_announcement is (arrived == {})
    assert parts == 5
    assert told == 9_000 + len(AUTO_METRICS)
    assert arrived == {f'a{{n="{number}"}}': number for number in range(9_000)}
    again = state.body(body, 2000)
    assert again.added == 0


def test_a_target_that_is_lost_between_two_parts_ends_nothing_that_never_was() -> None:
    state = make_state()
    body = b"".join(b'a{n="%d"} %d\n' % (number, number) for number in range(9_000))
    parts = state.scraped_in_parts(bytearray(body), TEXT, 1000, 0.5, part=2_000)
    assert rows(state, next(parts)) == {}
    del parts
    assert rows(state, state.failed(2000, 0.1)) == {}
    assert len(scraped(state, body)) == 9_000
