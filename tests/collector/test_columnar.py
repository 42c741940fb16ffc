"""Bodies read by column: equal to the strict parser, bit for bit, from scrape to scrape, whatever a target does."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from bench.exposition import Exposition
from collector.exposition import ExpositionError, Reader, columnar, openmetrics, plain_lines, text
from collector.exposition.columnar import ColumnReader
from collector.exposition.key_column import KeyColumn
from collector.exposition.keys import KeyMatcher
from tests.collector.exposing import READERS, read_both_ways
from tests.effort import costly

OM = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=0.0.4"
REAL = rb"""# HELP go_gc_duration_seconds A summary of pauses.
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} NaN
go_gc_duration_seconds{quantile="1"} +Inf
go_gc_duration_seconds_sum 0.017
go_gc_duration_seconds_count 5
# HELP go_info With blanks, {braces} and "quotes".
# TYPE go_info gauge
go_info{version="go1.21 X:a",path="/a b/\"c\"\\"} 1
# TYPE milvus_h histogram
milvus_h_bucket{le="1"} 0
milvus_h_bucket{le="+Inf"} 12

milvus_h_sum -1.5e-7
milvus_h_count 12
# ordinary comment
milvus_dated{a="1"} 3 1700000000000
milvus_dated{a="2"} 4 1700000000001
{"milvus.quoted","l.x"="v"} 5
milvus_last 9007199254740993
"""
REAL_OM = rb"""# HELP milvus_c Calls.
# TYPE milvus_c counter
milvus_c_total{a="b"} 1 # {trace_id="x y"} 2 3.5
milvus_c_created{a="b"} 1520872607.123
# TYPE milvus_l_bytes gauge
# UNIT milvus_l_bytes bytes
milvus_l_bytes{a="}#"} 5
milvus_l_bytes{a="c d"} NaN 1700000000.5
{"milvus.quoted"} -Inf
# EOF
"""
PIECES = [
    b" ", b"\t", b"\n", b"\r", b"#", b"# ", b"{", b"}", b'"', b"\\", b",", b"=", b"1", b"e400", b"-nan", b"nan(1)",
    b"+Inf", b"\xff", b"\xc3\xa9", b"\x00", b"\n\n", b"# EOF\n", b" 5", b" # {}", b"# TYPE go_info counter\n",
    b"# TYPE milvus_last gauge\n", b" 1700000000000", b"0x1", b"1_0", b"\xef\xbb\xbf",
]  # fmt: skip

cuts = st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from([b"", *PIECES]))


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param]()


def mutated(body: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Each edit removes some bytes at a place and puts others there."""
    for where, length, new in edits:
        at = int(where * len(body))
        body = body[:at] + new + body[at + length :]
    return body


def shuffled(body: bytes, seed: int) -> bytes:
    """Lines dropped, doubled and moved; # EOF stays where it is."""
    dice = random.Random(seed)
    lines = body.split(b"\n")
    tail = lines[-2:] if lines[-2] == b"# EOF" else lines[-1:]
    lines = lines[: -len(tail)]
    for _ in range(dice.randrange(6)):
        line = lines.pop(dice.randrange(len(lines)))
        for _ in range(dice.choice([0, 1, 1, 2])):
            lines.insert(dice.randrange(len(lines) + 1), line)
    return b"\n".join(lines + tail)


@pytest.mark.parametrize(("body", "content_type"), [(REAL, TEXT), (REAL_OM, OM)])
def test_a_real_body_is_read_by_column_alone(
    body: bytes, content_type: str, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "parse_text", None)
    monkeypatch.setattr(openmetrics, "parse_openmetrics", None)
    for _ in range(2):
        reading = reader.read(bytearray(body), content_type)
        reader.keep(reading)
    assert reading.is_same


@costly(250)
@given(
    st.sampled_from([(REAL, TEXT), (REAL_OM, OM)]),
    st.lists(st.tuples(st.integers(0, 999), st.lists(cuts, max_size=2)), min_size=1, max_size=4),
)
def test_mutations_of_real_bodies_are_read_or_refused_the_same(
    start: tuple[bytes, str], changes: list[tuple[int, list[tuple[float, int, bytes]]]]
) -> None:
    body, content_type = start
    bodies = [mutated(shuffled(body, seed), edits) for seed, edits in changes]
    read_both_ways([body, *bodies, body], content_type, or_refused=True)


numbers = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:e}"),
    st.text("0123456789.eE+-nNaAiIfF()x_ \t", max_size=12),
)


@costly(400)
@given(st.lists(numbers, max_size=5), st.sampled_from([TEXT, OM]))
def test_numbers_have_the_same_bits_or_are_refused(spelled: list[str], content_type: str) -> None:
    ending = "# EOF\n" if content_type == OM else ""
    for body in ["".join(f'a{{n="{n}"}} {number}\n' for n, number in enumerate(spelled)) + ending] + [
        f"a {number}\n{ending}" for number in spelled
    ]:
        read_both_ways([body.encode()], content_type, or_refused=True)


@cache
def pages(churn: float) -> list[bytes]:
    exposition = Exposition(2_000, churn)
    return [exposition.page() for _ in range(4)]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    options = csv.ReadOptions(use_threads=False, block_size=16_384, column_names=["key", "value"])
    monkeypatch.setattr(plain_lines, "_READ", options)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("churn", [0.0, 0.001, 0.05, 0.6])
def test_large_bodies_whose_series_come_and_go(churn: float) -> None:
    read_both_ways(pages(churn), TEXT)


@pytest.mark.usefixtures("small_pieces")
def test_bodies_that_jump() -> None:
    """Halves swapped, most of it gone, everything back, all keys in another order, every key new."""
    body = pages(0.0)[0]
    lines = body.splitlines(keepends=True)
    half = len(lines) // 2
    other = list(lines)
    random.Random(1).shuffle(other)
    renamed = body.replace(b"cluster=", b"klustar=")
    read_both_ways(
        [body, b"".join(lines[half:] + lines[:half]), b"".join(lines[:9]), b"", body, b"".join(other), renamed],
        TEXT,
    )


def test_keys_whose_marks_collide_are_told_apart_and_more_of_them_is_marked_from_then_on() -> None:
    """They differ only where the marks do not look: the bytes decide."""
    names = [f"x{number:07d}" for number in range(2000)]
    bodies = [
        "".join(f'a{{aaaaaa="{name}",tail="the-same-for-all-of-them"}} 1\n' for name in some).encode()
        for some in (names, [*names[5:900], *names[901:], *names[:5]])
    ]
    read_both_ways([*bodies, *bodies], TEXT)
    reader = ColumnReader()
    for body in (*bodies, *bodies):
        reader.keep(reader.read(bytearray(body), TEXT))
    assert reader._stride < columnar._WIDEST_STRIDE


@costly(150)
@given(st.data())
def test_a_column_is_matched_however_it_is_cut(data: st.DataObject) -> None:
    some = st.lists(st.binary(min_size=1, max_size=40), max_size=30)
    old, new = data.draw(some), data.draw(some)
    new = data.draw(st.permutations(new + data.draw(st.lists(st.sampled_from(old), max_size=20)) if old else new))
    stride = data.draw(st.sampled_from([8, 16, 32]))
    first = KeyMatcher(KeyColumn.empty(), None, stride)
    first.add(column(old))
    matcher = KeyMatcher(first.finish().column if old else KeyColumn.empty(), None, stride)
    at = 0
    while at < len(new):
        length = data.draw(st.integers(1, 10))
        matcher.add(column(new[at : at + length]))
        at += length
    matched = matcher.finish()
    assert [matched.column.key(row) for row in range(len(new))] == new
    previous = range(len(new)) if matched.previous is None else matched.previous.tolist()
    assert [row for row, place in enumerate(previous) if place < 0] == matched.fresh.tolist()
    for row, place in enumerate(previous):
        assert place < 0 or old[place] == new[row]
        assert place < 0 or new[row] in old
        assert place >= 0 or new[row] not in old or new.count(new[row]) > 1


def column(keys: list[bytes]) -> KeyColumn:
    offsets = np.cumsum([0, *map(len, keys)]).astype(np.int32)
    return KeyColumn(offsets, pa.py_buffer(b"".join(keys)))


def test_a_type_that_changes_makes_the_rows_of_its_family_new(reader: Reader) -> None:
    body = b"# TYPE a counter\na_total 1\nb 2\nab 3\n"
    reader.keep(reader.read(bytearray(body), TEXT))
    reading = reader.read(bytearray(body.replace(b"counter", b"gauge")), TEXT)
    fresh = {reading.key(row) for row in reading.fresh.tolist()}
    assert {b"a_total"} <= fresh <= {b"a_total", b"ab"}  # ab only begins like it: one reader looks no closer
    reader.keep(reading)
    assert reader.read(bytearray(body.replace(b"counter", b"gauge")), TEXT).is_same


def test_a_help_text_that_changes_changes_nothing(reader: Reader) -> None:
    reader.keep(reader.read(bytearray(b"# HELP a x\n# TYPE a gauge\na 1\n"), TEXT))
    reading = reader.read(bytearray(b"# HELP a y\n# TYPE a gauge\na 1\n"), TEXT)
    assert reading.is_same
    assert reading.types == {"a": "gauge"}


def test_a_key_that_one_format_allows_is_not_known_to_the_other(reader: Reader) -> None:
    body = b'a{b="c"d="e"} 1\n'
    reader.keep(reader.read(bytearray(body), TEXT))
    with pytest.raises(ExpositionError):
        reader.read(bytearray(body + b"# EOF\n"), OM)


def test_a_page_in_another_format_without_rows_takes_all_rows_away(reader: Reader) -> None:
    reader.keep(reader.read(bytearray(b"a 1\nb 2\n"), TEXT))
    reading = reader.read(bytearray(b"# EOF\n"), OM)
    assert not reading.is_same
    assert reading.numbered.gone.tolist() == [0, 1]
    reader.keep(reading)
    assert reader.read(bytearray(b"# EOF\n"), OM).is_same


def test_a_number_is_used_again_once_its_key_is_gone_and_not_before(reader: Reader) -> None:
    reader.keep(reader.read(bytearray(b"a 1\nb 2\n"), TEXT))
    second = reader.read(bytearray(b"c 1\nb 2\n"), TEXT)
    assert (second.numbered.rows.tolist(), second.numbered.gone.tolist()) == ([2, 1], [0])
    other = reader.read(bytearray(b"d 1\nb 2\n"), TEXT)  # the second was not kept
    assert (other.numbered.rows.tolist(), other.numbered.gone.tolist()) == ([2, 1], [0])
    reader.keep(reader.read(bytearray(b"c 1\nb 2\n"), TEXT))
    third = reader.read(bytearray(b"b 2\nc 1\nd 3\n"), TEXT)
    assert (third.numbered.rows.tolist(), third.numbered.born.tolist()) == ([1, 2, 0], [0])


def test_a_refused_body_leaves_the_reader_usable(reader: Reader) -> None:
    reader.keep(reader.read(bytearray(b"a 1\n"), TEXT))
    for body in (b"a 1\nb{", b"a 1\xff\n", b"a\xff 1 2\n"):
        with pytest.raises(ExpositionError):
            reader.read(bytearray(body), TEXT)
    assert reader.read(bytearray(b"a 2\n"), TEXT).is_same


def test_blanks_before_braces_are_refused_both_ways() -> None:
    for body in (b'\t{"q"} 2\n', b' {"q"} 2\n', b'a 1\n\t{"q"} 2\n'):
        assert read_both_ways([body], "text/plain", or_refused=True) == []
