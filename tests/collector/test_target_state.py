"""Series of one target from scrape to scrape: stale markers, limits, collisions, the series about the scrape."""

from __future__ import annotations

import struct

import pytest

from collector.exposition import ExpositionError
from collector.labels import Labels, render_labels
from collector.policy import AllowList, OpenPolicy, Policy
from collector.policy_settings import AllowRule, PolicySettings
from collector.relabel import Action, RelabelRule
from collector.scrape.series import STALE, LimitExceeded, SeriesRules
from collector.scrape.state import AUTO_METRICS, Scrape, TargetState
from collector.wire.rw2 import decode_request
from collector.wire.series import series_of
from tests.collector.world import LIMITS

TARGET: Labels = (("instance", "i:1"), ("job", "j"))
TEXT = "text/plain"


def make_state(
    *,
    policy: Policy | None = None,
    metric_relabel: tuple[RelabelRule, ...] = (),
    honor_labels: bool = False,
    honor_timestamps: bool = True,
    sample_limit: int = 0,
    label_limit: int = 0,
    external: Labels = (),
) -> TargetState:
    rules = SeriesRules(TARGET, honor_labels, metric_relabel, external, policy or OpenPolicy(), label_limit, 0, 20)
    return TargetState(rules, honor_timestamps=honor_timestamps, sample_limit=sample_limit)


def rows(scrape: Scrape, *, auto: bool = False) -> dict[str, float | str]:
    """Series as text -> value, `stale` for a stale marker; without job and instance."""
    shown: dict[str, float | str] = {}
    for series, value in zip(scrape.series, scrape.values, strict=True):
        labels = tuple((name, text) for name, text in series.labels if (name, text) not in TARGET)
        name = render_labels(labels)
        if auto or name not in AUTO_METRICS:
            stale = struct.pack("<d", value) == struct.pack("<d", STALE)
            shown[name] = "stale" if stale else value
    return shown


def scrape(state: TargetState, body: bytes, at_ms: int = 1000) -> Scrape:
    made = state.scraped(body, TEXT, at_ms, 0.5)
    state.stored(made)
    return made


def test_a_series_that_vanishes_ends_once() -> None:
    state = make_state()
    assert rows(scrape(state, b"a 1\nb 2\n")) == {"a": 1, "b": 2}
    assert rows(scrape(state, b"a 1\n")) == {"a": 1, "b": "stale"}
    assert rows(scrape(state, b"a 1\n")) == {"a": 1}
    assert rows(scrape(state, b"a 1\nb 3\n")) == {"a": 1, "b": 3}


def test_a_failed_scrape_ends_every_series_and_says_down() -> None:
    state = make_state()
    scrape(state, b"a 1\n")
    failed = state.failed(2000, 0.1)
    assert rows(failed, auto=True) == {
        "a": "stale",
        "up": 0,
        "scrape_duration_seconds": 0.1,
        "scrape_samples_scraped": 0,
        "scrape_samples_post_metric_relabeling": 0,
        "scrape_series_added": 0,
    }
    state.stored(failed)
    assert rows(state.failed(3000, 0.1)) == {}


def test_a_target_that_is_gone_ends_up_too() -> None:
    state = make_state()
    assert rows(state.ended(1), auto=True) == {}
    scrape(state, b"a 1\n")
    ended = rows(state.ended(2000), auto=True)
    assert ended == {"a": "stale", **dict.fromkeys(AUTO_METRICS, "stale")}


def test_series_with_timestamps_of_their_own_never_go_stale() -> None:
    state = make_state()
    made = scrape(state, b"a 1 500\nb 2\n", 1000)
    assert made.timestamps_ms[:2] == [500, 1000]
    assert rows(scrape(state, b"c 1\n")) == {"b": "stale", "c": 1}


def test_timestamps_that_are_not_honoured_are_the_scrape_s() -> None:
    state = make_state(honor_timestamps=False)
    assert scrape(state, b"a 1 500\n", 1000).timestamps_ms[0] == 1000
    assert rows(scrape(state, b"b 1\n")) == {"a": "stale", "b": 1}


def test_what_was_not_stored_does_not_go_stale_and_what_was_does() -> None:
    state = make_state()
    scrape(state, b"a 1\n")
    state.scraped(b"b 1\n", TEXT, 2000, 0.1)  # the disk did not take it
    assert rows(scrape(state, b"c 1\n")) == {"a": "stale", "c": 1}


def test_the_series_about_the_scrape() -> None:
    state = make_state(metric_relabel=(RelabelRule(Action.DROP, source_labels=("__name__",), regex="b"),))
    about = rows(scrape(state, b"a 1\nb 2\nc 3\n"), auto=True)
    assert [about[name] for name in AUTO_METRICS] == [1, 0.5, 3, 2, 2]
    about = rows(scrape(state, b"a 1\nb 2\nd 3\n"), auto=True)
    assert [about[name] for name in AUTO_METRICS] == [1, 0.5, 3, 2, 1]


def test_a_bad_body_is_refused_whole() -> None:
    state = make_state()
    scrape(state, b"a 1\n")
    with pytest.raises(ExpositionError):
        state.scraped(b"a 2\nb{\n", TEXT, 2000, 0.1)
    assert rows(state.failed(2000, 0.1)) == {"a": "stale"}


def test_our_labels_win_unless_the_target_s_are_honoured() -> None:
    body = b'a{job="own",x="1"} 1\n'
    assert rows(scrape(make_state(), body)) == {'a{exported_job="own",x="1"}': 1}
    honoured = scrape(make_state(honor_labels=True), body)
    assert dict(honoured.series[0].labels)["job"] == "own"
    twice = scrape(make_state(), b'a{job="own",exported_job="older"} 1\n')
    assert rows(twice) == {'a{exported_exported_job="own",exported_job="older"}': 1}


def test_external_labels_fill_what_is_missing() -> None:
    made = scrape(make_state(external=(("region", "r1"),)), b'a 1\na{region="own"} 2\n')
    shown = rows(made)
    assert (shown['a{region="r1"}'], shown['a{region="own"}'], shown['up{region="r1"}']) == (1, 2, 1)


def test_over_the_sample_limit_known_series_stay_and_new_ones_are_left_out() -> None:
    state = make_state(sample_limit=2)
    assert rows(scrape(state, b"a 1\nb 1\n")) == {"a": 1, "b": 1}
    made = scrape(state, b"new 1\na 2\nb 2\n")
    assert (rows(made), made.over_limit) == ({"a": 2, "b": 2}, 1)
    assert rows(scrape(state, b"new 1\nb 3\n")) == {"new": 1, "b": 3, "a": "stale"}


def test_what_a_target_dates_over_ten_minutes_ahead_stays_here_as_prometheus_does() -> None:
    """At the gateway it would hold back, or end in the dead letters, what other targets say."""
    state, at_ms = make_state(), 1_000_000
    body = f"near 1 {at_ms + 600_000}\nfar 2 {at_ms + 600_001}\nold 3 5\nnow 4\n".encode()
    made = scrape(state, body, at_ms)
    assert (rows(made), made.too_new) == ({"near": 1, "old": 3, "now": 4}, 1)
    trusting = scrape(make_state(honor_timestamps=False), body, at_ms)
    assert (rows(trusting), trusting.too_new) == ({"near": 1, "far": 2, "old": 3, "now": 4}, 0)


def test_label_limits_fail_the_scrape() -> None:
    with pytest.raises(LimitExceeded, match="label_limit is 3"):
        make_state(label_limit=3).scraped(b'a{x="1",y="2",z="3"} 1\n', TEXT, 1, 0.1)
    with pytest.raises(LimitExceeded, match="label_value_length_limit 20"):
        make_state().scraped(b'a{x="123456789012345678901"} 1\n', TEXT, 1, 0.1)


def test_a_series_that_is_there_twice_counts_once() -> None:
    made = scrape(make_state(), b'a{x="1",y="2"} 1\na{y="2",x="1"} 9\n')
    assert (rows(made), made.duplicates) == ({'a{x="1",y="2"}': 1}, 1)


def test_series_that_the_policy_would_make_equal_stay_inside() -> None:
    policy = AllowList(PolicySettings(allow=(AllowRule(metrics=("*",), labels=("job", "instance")),)), b"k" * 32)
    state = make_state(policy=policy)
    made = scrape(state, b'a{tenant="x"} 1\na{tenant="y"} 2\nb{tenant="x"} 3\n')
    assert (rows(made), made.collided) == ({"b": 3}, 1)
    assert rows(scrape(state, b'a{tenant="x"} 1\n')) == {"b": "stale"}


def test_caches_are_bounded_by_what_is_there_and_bytes_stay_right_after_they_are_cleared() -> None:
    state = make_state()
    for number in range(8):
        body = b"".join(b'a{x="%d"} %d\n' % (number * 500 + index, index) for index in range(500))
        made = scrape(state, b"steady 1\n" + body, 1_790_000_000_000 + number)
        decoded = series_of(decode_request(state.encode(made), LIMITS))
        assert [one.labels for one in decoded] == [one.labels for one in made.series]
    assert len(state._cache.entries) <= 2 * 501 + 1000
    assert len(state._table) < 3000
