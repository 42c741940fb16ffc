"""What Prometheus accepts is read, what it refuses is refused, and a repeated key changes nothing."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_witness
from prometheus_client.parser import text_string_to_metric_families as text_witness

from collector.exposition import ExpositionError, family_of
from collector.exposition.lexing import parse_key
from collector.exposition.reading import grammar_of
from tests.collector.exposing import Parsed, read_both_ways
from tests.effort import costly

Key = tuple[str, tuple[tuple[str, str], ...]]
OM = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4"


@dataclass(frozen=True)
class Columns:
    """Rows with their keys read: (name, sorted labels)."""

    entries: list[Key]
    values: list[float]
    timestamps: dict[int, int]


def parse(body: bytes, content_type: str = TEXT) -> Columns:
    """Read line by line and by column, and again when all keys are known: nothing may differ."""
    found: Parsed = read_both_ways([body, body], content_type)[0]
    keys = [parse_key(key, grammar_of(content_type)) for key in found.keys]
    return Columns([(name, tuple(sorted(labels.items()))) for name, labels in keys], found.values, found.timestamps)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


ACCEPTED: list[tuple[bytes, Key, float, int | None]] = [
    (b'a{b="c",} 1', ("a", (("b", "c"),)), 1, None),
    (b'a { b = "c" , d="e" }\t1  123', ("a", (("b", "c"), ("d", "e"))), 1, 123),
    (b'a{b="c" d="e"} 2', ("a", (("b", "c"), ("d", "e"))), 2, None),
    (b'a{b="c"d="e"} 2', ("a", (("b", "c"), ("d", "e"))), 2, None),
    (b"a\t1", ("a", ()), 1, None),
    (b"a   1  ", ("a", ()), 1, None),
    (b'a{b="x\\"y\\\\z\\nw\\t"} 1', ("a", (("b", 'x"y\\z\nw\\t'),)), 1, None),
    (b'a{b="\x00"} 1', ("a", (("b", "\x00"),)), 1, None),
    (b'a{b="x\ny"} 1', ("a", (("b", "x\ny"),)), 1, None),
    (b'a{b="}"} 1', ("a", (("b", "}"),)), 1, None),
    (b'a{b=" # {"} 1', ("a", (("b", " # {"),)), 1, None),
    (b'{"a.b",l="v"} 1', ("a.b", (("l", "v"),)), 1, None),
    (b'{"a.b"} 1', ("a.b", ()), 1, None),
    ('{q="0.9","Rückstoß 10€"} 1'.encode(), ("Rückstoß 10€", (("q", "0.9"),)), 1, None),
    (b'{"a","l.x"="v"} 1', ("a", (("l.x", "v"),)), 1, None),
    (b"a{} 1", ("a", ()), 1, None),
    (b"a:b_9 +1.5e+03", ("a:b_9", ()), 1500, None),
    (b"a .5", ("a", ()), 0.5, None),
    (b"a 5.", ("a", ()), 5, None),
    (b"a +Inf", ("a", ()), math.inf, None),
    (b"a -inf", ("a", ()), -math.inf, None),
    (b"a 4.9e-324", ("a", ()), 5e-324, None),
    (b"a 1 1520879607789", ("a", ()), 1, 1520879607789),
]


@pytest.mark.parametrize(("line", "key", "value", "timestamp"), ACCEPTED)
def test_accepted_in_text(line: bytes, key: Key, value: float, timestamp: int | None) -> None:
    columns = parse(b"before 0\n" + line + b"\nafter 9\n")
    assert columns.entries == [("before", ()), key, ("after", ())]
    assert columns.values == [0, value, 9]
    assert columns.timestamps == ({} if timestamp is None else {1: timestamp})


@pytest.mark.parametrize(
    "comment",
    [b"#", b"# ", b"#x", b"# HELP", b"# HELPER a b", b"# HELP a", b"# HELP a  text {", b"# \tTYPE a counter",
     b"#\tTYPE a\tgauge", b"# TYPEs #", b'# TYPE "a.b" gauge', b"# TYPE a untyped", b"# EOF"],
)  # fmt: skip
def test_comments_of_every_kind_are_no_samples(comment: bytes) -> None:
    assert parse(comment + b"\na 1").entries == [("a", ())]


def test_types_name_the_family_of_a_sample() -> None:
    body = b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n# TYPE g gauge\ng_count 1\n'
    found = read_both_ways([body], TEXT)[0]
    names = [key.decode().partition("{")[0] for key in found.keys]
    assert [family_of(name, found.types) for name in names] == ["h", "h", "h", "g_count"]


TEXT_REFUSED: list[bytes] = [
     b"a", b"a ", b" a 1", b"\ta 1",
     b"a{b='c'} 1", b"a{b=", b'a{b="', b'a{b="\xff"} 1', b"\xff 1", b"a true", b"foo 1_2",
     b"foo 0x1p-3", b"foo 0x10", b"foo 0 1_2", b'{a="ok"} 1', b"# TYPE #", b"# TYPE a", b"# TYPE a wrong",
     b"# TYPE a info", b"a\x00 1", b"\x00", b"a 1\r", b"\xef\xbb\xbfa 1", b"a 1 2 3", b"a 1 -5", b"a 1 2.5",
     b"a 1e400", b"a 1 99999999999999999999", b"a +nan", b"a 1\x0b", b"a \xd9\xa1", b'a{b="c",,d="e"} 1',
     b'a{,} 1', b'a{="x"} 1', b'a{b} 1', b'a{b,c="d"} 1', b'a{1="x"} 1', b'a{b="c"} 1 # {x="y"} 1', b"9a 1",
     b'a{"b"} 1', b'{"a","b"} 1', b'{"a"}', b'{} 1', b'a{b="1",b="2"} 1', b'a{__name__="b"} 1', b'{""} 1',
     b"a-b 1", b"# HELP a \xff", b'a{b="c"} 1 }',
]  # fmt: skip


@pytest.mark.parametrize("line", TEXT_REFUSED)
def test_refused_in_text_with_the_line(line: bytes) -> None:
    with pytest.raises(ExpositionError, match=r"line 2: found .*; allowed: ") as refusal:
        parse(b"before 0\n" + line)
    assert len(refusal.value.findings) == 1


OM_ACCEPTED: list[tuple[bytes, Key, float, int | None]] = [
    (b"a 1", ("a", ()), 1, None),
    (b"a 1 1.5", ("a", ()), 1, 1500),
    (b'a_total{b="c"} 1 # {trace="}x"} 4 1.5', ("a_total", (("b", "c"),)), 1, None),
    (b"request_count 1000 # {} 4", ("request_count", ()), 1000, None),
    (b'a{b=" # {",} 1 2 # {x="y"} 3', ("a", (("b", " # {"),)), 1, 2000),
    (b'{"a.b","c d"="e"} 1', ("a.b", (("c d", "e"),)), 1, None),
    (b"a_created 1520872607.123", ("a_created", ()), 1520872607.123, None),
]


@pytest.mark.parametrize(("line", "key", "value", "timestamp"), OM_ACCEPTED)
def test_accepted_in_openmetrics(line: bytes, key: Key, value: float, timestamp: int | None) -> None:
    columns = parse(b"# TYPE request_count counter\nbefore 0\n" + line + b"\n# EOF\n", OM)
    assert (columns.entries[1], columns.values[1], columns.timestamps.get(1)) == (key, value, timestamp)


OM_REFUSED: list[bytes] = [
     b"", b"\n", b"metric", b"metric 1", b"metric 1\n", b"a\n# EOF\n", b"\n\n# EOF\n", b" a 1\n# EOF\n",
     b"# TYPE u untyped\n# EOF\n", b"# TYPE c counter \n# EOF\n", b"#  TYPE c counter\n# EOF\n",
     b"# TYPE \n# EOF\n", b"# TYPE m\n# EOF\n", b"# UNIT metric suffix\n# EOF\n",
     b"# UNIT metricsuffix suffix\n# EOF\n", b"# HELP m\n# EOF\n", b"a\t1\n# EOF\n", b"a 1\t2\n# EOF\n",
     b"a 1 2 \n# EOF\n", b"a 1 2 #\n# EOF\n", b"a 1 1z\n# EOF\n", b" # EOF\n", b"# EOF\na 1", b"# EOF\n\n",
     b"# EOFa 1", b"#\tTYPE c counter\n# EOF\n", b"# TYPE c  counter\n# EOF\n", b"a 1 1 1\n# EOF\n",
     b"a{b='c'} 1\n# EOF\n", b'a{,b="c"} 1\n# EOF\n', b'a{b="c"d="e"} 1\n# EOF\n', b'a{b="c",,d="e"} 1\n# EOF\n',
     b"a{b=\n# EOF\n", b'a{\xff="foo"} 1\n# EOF\n', b'a{b="\xff"} 1\n# EOF\n', b'{"a","b = "c"}\n# EOF\n',
     b"a true\n# EOF\n", b'a{problem="\n# EOF\n', b'empty{=""} 0\n# EOF\n', b"foo 1_2\n# EOF\n",
     b"foo 0x1p-3\n# EOF\n", b"foo 0 1_2\n# EOF\n", b"a_total 1 # {aa=bb}\n# EOF\n",
     b'a_total 1 # {aa="bb"}\n# EOF\n', b"a_total 1 # {bb} 1\n# EOF\n",
     b'a_total 1 # {aa="bb",,cc="dd"} 1\n# EOF\n',
     b'a_total 1 # {aa="bb"} 1_2\n# EOF\n', b'a_total 1 # {aa="bb"} true\n# EOF\n', b'{b="c",} 1\n# EOF\n',
     b"a 1 NaN\n# EOF\n", b"a 1 -Inf\n# EOF\n", b'h 1 # {aa="bb"} 4 NaN\n# EOF\n', b'a{b=\x00"s"} 1\n# EOF\n',
     b"a 1\r\n# EOF\n", b"#\n# EOF", b"# H\n# EOF",
]  # fmt: skip


@pytest.mark.parametrize("body", OM_REFUSED)
def test_refused_in_openmetrics(body: bytes) -> None:
    with pytest.raises(ExpositionError):
        parse(body, OM)


def test_an_ordinary_nan_is_the_one_that_prometheus_stores() -> None:
    assert bits(parse(b"a NaN").values[0]) == struct.pack("<Q", 0x7FF8000000000001)


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
LINE_ENDS = "\r\x00\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e"  # the witness splits lines by them
LABELS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=LINE_ENDS), max_size=8),
    max_size=3,
)  # fmt: skip
VALUES = st.floats(allow_nan=False)
SAMPLES = st.lists(st.tuples(NAMES, LABELS, VALUES), max_size=6)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render(samples: list[tuple[str, dict[str, str], float]]) -> str:
    lines = []
    for name, labels, value in samples:
        inner = ",".join(f'{key}="{escape(text)}"' for key, text in labels.items())
        spelled = {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, repr(value))
        lines.append(f"{name}{{{inner}}} {spelled}\n" if inner else f"{name} {spelled}\n")
    return "".join(lines)


@costly(150)
@given(SAMPLES)
def test_agrees_with_another_parser_on_text(samples: list[tuple[str, dict[str, str], float]]) -> None:
    body = render(samples)
    witnessed = [
        ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
        for family in text_witness(body)
        for sample in family.samples
    ]
    columns = parse(body.encode())
    assert sorted(zip(columns.entries, columns.values, strict=True)) == sorted(witnessed)


@costly(80)
@given(st.lists(st.tuples(LABELS, VALUES), max_size=4, unique_by=lambda pair: tuple(sorted(pair[0].items()))))
def test_agrees_with_another_parser_on_openmetrics(samples: list[tuple[dict[str, str], float]]) -> None:
    body = "# TYPE a gauge\n" + render([("a", labels, value) for labels, value in samples]) + "# EOF\n"
    witnessed = [
        ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
        for family in openmetrics_witness(body)  # type: ignore[no-untyped-call]
        for sample in family.samples
    ]
    columns = parse(body.encode(), OM)
    assert sorted(zip(columns.entries, columns.values, strict=True)) == sorted(witnessed)


FRAGMENTS = st.lists(
    st.sampled_from(
        [b"a", b"b_total", b"{", b"}", b'"', b"x", b'="v"', b"=", b",", b" ", b"\t", b"\n", b"#",
         b"# TYPE a gauge\n",
         b"# EOF\n", b"1", b"1.5", b"NaN", b" # {", b"\\", b"\x00", b"\xff", b'a{b="c"} 1\n', b'{"q"} 2\n']
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@costly(300)
@given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=60)), max_size=3), st.sampled_from([TEXT, OM]))
def test_any_bytes_are_read_or_refused_the_same_line_by_line_and_by_column(
    bodies: list[bytes], content_type: str
) -> None:
    read_both_ways([b'a{b="c"} 1\na 1\nb_total 2\n{"q"} 2\n', *bodies], content_type, or_refused=True)
