"""The pages that the agents race over, and the sink that counts what they send."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench.exposition import Exposition
from bench.sink import BodyNotUnderstood, count_samples
from collector.exposition import new_reader
from collector.wire.snappy import compress
from tests.gateway.messages import encode_rw1, encode_rw2

SERIES = 2_000
TEXT = "text/plain; version=0.0.4"


def pages(count: int, churn: float) -> list[dict[bytes, bytes]]:
    """Value by series, for each page."""
    exposition = Exposition(SERIES, churn)
    found = []
    for _ in range(count):
        lines = [line for line in exposition.page().splitlines() if not line.startswith(b"#")]
        found.append(dict(line.rsplit(b" ", 1) for line in lines))
        assert len(found[-1]) == len(lines) == SERIES
    return found


def test_both_agents_get_the_same_pages_and_no_page_comes_twice() -> None:
    mine, theirs = Exposition(SERIES, 0.01), Exposition(SERIES, 0.01)
    shown = [mine.page() for _ in range(5)]
    assert shown == [theirs.page() for _ in range(5)]
    assert len(set(shown)) == 5


@pytest.mark.parametrize("churn", [0.0, 0.01, 0.05])
def test_so_many_series_are_replaced_at_each_scrape(churn: float) -> None:
    for before, after in pairwise(pages(4, churn)):
        gone = before.keys() - after.keys()
        # one that is born in a page may also be among those that go in it
        assert churn * SERIES * 0.9 <= len(gone) == len(after.keys() - before.keys()) <= churn * SERIES


def test_about_half_of_the_values_move() -> None:
    first, second = pages(2, 0.0)
    moved = sum(first[series] != second[series] for series in first)
    assert 0.4 < moved / SERIES < 0.55


def test_the_collector_reads_the_pages_whole() -> None:
    reader = new_reader()
    exposition = Exposition(SERIES, 0.05)
    for _ in range(3):
        reading = reader.read(bytearray(exposition.page()), TEXT)
        assert len(reading) == SERIES
        reader.keep(reading)


def test_the_sink_counts_samples_of_both_versions() -> None:
    rows = [((("__name__", "a"), ("b", str(number))), [(number, 1.5)]) for number in range(300)]
    assert count_samples(compress(encode_rw1(rows)), is_version_2=False, is_checked=True) == 300
    assert count_samples(compress(encode_rw2(rows)), is_version_2=True, is_checked=True) == 300
    assert count_samples(compress(encode_rw2(rows)), is_version_2=True, is_checked=False) == 300


def test_the_sink_notices_a_sender_that_packs_several_samples_in_a_series() -> None:
    body = compress(encode_rw2([((("__name__", "a"),), [(1, 1.0), (2, 2.0)])]))
    with pytest.raises(BodyNotUnderstood):
        count_samples(body, is_version_2=True, is_checked=True)
