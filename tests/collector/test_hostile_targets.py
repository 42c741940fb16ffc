"""One target's absurd page: what leaves of it can be read by whoever receives it, and its sane samples arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exposition.protobuf import ProtobufReader
from collector.policy import AllowList
from collector.policy_settings import AllowRule, PolicySettings
from collector.scrape.series import SeriesRules
from collector.scrape.state import Scrape, TargetState
from collector.scrape.times import MAX_AHEAD_MS
from kernel.window import DAY_MS
from metering.lake.decode import LAST_MS
from metering.lake.histogram_head import parse_head
from tests.collector.client_messages import CLIENT, COUNTER, GAUGE, HISTOGRAM, delimited
from tests.collector.receiving import Receiver
from tests.effort import costly

NOW = 1_800_000_000_000
OLDEST = NOW - 400 * DAY_MS
OPENMETRICS = "application/openmetrics-text"
POLICY = PolicySettings(allow=(AllowRule(metrics=("*",), labels=("*",)),), exemplar_labels=("*",))
HUGE = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [0, -1, NOW, *range(NOW + MAX_AHEAD_MS - 1, NOW + MAX_AHEAD_MS + 3), *range(OLDEST - 2, OLDEST + 3)]
)


class Hostile(TargetState):
    """A target's state, and a receiver that reads what leaves."""

    def __init__(self) -> None:
        rules = SeriesRules((("job", "j"),), False, (), (), AllowList(POLICY, b"k" * 32), 0, 0, 0, lambda _: False,
        )  # fmt: skip
        super().__init__(rules, honor_timestamps=True, sample_limit=0)
        self.receiver = Receiver()

    def leaves(self, scrape: Scrape) -> set[str]:
        """Names of what arrived as a sample; everything that arrived has a date."""
        found: set[str] = set()
        for lane in (0, 1):
            for block in self.encode(scrape, lane, 1):
                for labels, at_ms, _ in self.receiver.take(lane, 1, [block]):
                    assert 0 <= at_ms < LAST_MS
                    found.add(dict(labels)["__name__"])
                self.check_beside()
            self.stored(scrape, lane)
        return found

    def check_beside(self) -> None:
        for rows in self.receiver.rows:
            times = [parse_head(message).timestamp_ms for _, message in rows.histograms]
            times += [one.timestamp_ms for one in rows.exemplars]
            assert all(NOW - 400 * DAY_MS <= at_ms <= NOW + MAX_AHEAD_MS + 1 for at_ms in times)
            assert rows.starts is None or 0 < rows.starts.starts_ms.min() <= rows.starts.starts_ms.max() < LAST_MS


def family(name: str, kind: int, **metric: object) -> object:
    return CLIENT["MetricFamily"](name=name, type=kind, metric=[metric])


def pairs(labels: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in labels.items()]


@costly(150)
@given(*[HUGE] * 4, st.integers(-(2**31), 2**31 - 1))
def test_times_of_any_size_are_left_out_or_can_be_read(at: int, told: int, born: int, own: int, nanos: int) -> None:
    """Of samples, exemplars, starts and native histograms, as protobuf has them."""
    exemplar = {"label": pairs({"trace_id": "t"}), "value": 3.5, "timestamp": {"seconds": told, "nanos": nanos}}
    counter = {"value": 7, "exemplar": exemplar, "created_timestamp": {"seconds": born, "nanos": nanos}}
    native = {
        "sample_count": 1, "schema": 3, "positive_span": [{"offset": 0, "length": 1}], "positive_delta": [1],
        "created_timestamp": {"seconds": born}, "exemplars": [exemplar],
    }  # fmt: skip
    body = delimited(
        family("sane", GAUGE, gauge={"value": 1}),
        family("dated", GAUGE, gauge={"value": 1}, timestamp_ms=at),
        family("count", COUNTER, counter=counter),
        family("native", HISTOGRAM, histogram=native, timestamp_ms=own),
    )
    state, reader = Hostile(), ProtobufReader()
    for turn in (0, 1):
        scrape = state.scraped_rows(reader.read(body), NOW + turn, 0.1)
        assert {"sane", "count"} <= state.leaves(scrape)
        assert scrape.too_new == (at > NOW + turn + MAX_AHEAD_MS) + (own > NOW + turn + MAX_AHEAD_MS)
        oldest = NOW + turn - 400 * DAY_MS
        assert scrape.too_old == (at < oldest and at != 0) + (own < oldest and own != 0), "0 is none, in protobuf"


@costly(100)
@given(st.floats(-9e15, 9e15), st.floats(-9e15, 9e15), st.floats())
def test_times_of_openmetrics_are_left_out_or_can_be_read(at: float, told: float, born: float) -> None:
    page = f'# TYPE count counter\ncount_total 3 # {{trace_id="t"}} 1.0 {told!r}\ncount_created {born!r}\n'
    page += f"# TYPE dated gauge\ndated 1 {at!r}\n# TYPE sane gauge\nsane 1\n# EOF\n"
    state = Hostile()
    for turn in (0, 1):
        scrape = state.scraped(bytearray(page.encode()), OPENMETRICS, NOW + turn, 0.1)
        assert {"sane", "count_total"} <= state.leaves(scrape)


@pytest.mark.parametrize(
    "labels",
    [
        {"trace_id": "x" * 40_000},
        {f"l{number}": "x" for number in range(1_500)},
        {"trace_id": ""},
        {"a\0b": "\0"},
        {},
    ],
    ids=["long", "many", "no value", "NUL", "none"],
)
def test_labels_of_an_exemplar_that_fit_into_no_frame_stay_here(labels: dict[str, str]) -> None:
    exemplar = {"label": pairs(labels), "value": 3.5}
    body = delimited(
        family("sane", GAUGE, gauge={"value": 1}),
        family("count", COUNTER, counter={"value": 7, "exemplar": exemplar}),
    )
    state = Hostile()
    assert {"sane", "count"} <= state.leaves(state.scraped_rows(ProtobufReader().read(body), NOW, 0.1))


def test_a_histogram_that_fits_into_no_frame_stays_here() -> None:
    many = 40_000
    native = {
        "sample_count": many, "schema": 3, "positive_span": [{"offset": 0, "length": many}],
        "positive_count": [1.0] * many, "sample_count_float": float(many),
    }  # fmt: skip
    body = delimited(family("sane", GAUGE, gauge={"value": 1}), family("native", HISTOGRAM, histogram=native))
    state = Hostile()
    assert "sane" in state.leaves(state.scraped_rows(ProtobufReader().read(body), NOW, 0.1))


@pytest.mark.parametrize("size", [1_000, 1_024, 1_025, 40_000])
def test_what_is_told_of_a_family_is_cut_or_stays_here(size: int) -> None:
    name, text = "n" * size, "ü" * size
    told = CLIENT["MetricFamily"](name=name, type=GAUGE, unit=text, help=text, metric=[{"gauge": {"value": 1}}])
    body = delimited(family("sane", GAUGE, gauge={"value": 1}), told)
    state = Hostile()
    assert "sane" in state.leaves(state.scraped_rows(ProtobufReader().read(body), NOW, 0.1))
