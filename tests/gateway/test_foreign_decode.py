"""Decoding by column against decoding series by series, on bodies that follow one another as a sender's do."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import Decoded, DecodeLimits, Labels
from collector.wire.protobuf import read_span
from collector.wire.rw1 import decode_write_request
from collector.wire.rw2 import decode_request
from collector.wire.varint import length_delimited
from metering.gateway.foreign.frames import find_frames
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.foreign.rw1 import Rw1Decoder
from metering.gateway.foreign.rw2 import Rw2Decoder
from metering.gateway.foreign.rw2_columns import Bytes
from tests.effort import costly
from tests.gateway.messages import RW1, RW2, Rows, encode_rw1, encode_rw2

LIMITS = DecodeLimits()
CACHE_BYTES = 1_000_000
NOW = 1_790_000_000_000
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


class Numbers:
    """Numbers by labels as sent; sets without a name are refused."""

    def __init__(self) -> None:
        self.labels: list[Labels] = []

    def number(self, labels: Labels) -> int:
        if labels not in self.labels:
            self.labels.append(labels)
        return self.labels.index(labels)

    def number_of(self, parts: Sequence[bytes]) -> int | None:
        try:
            texts = [part.decode() for part in parts]
        except UnicodeDecodeError:
            return None
        return self.number(tuple(zip(texts[0::2], texts[1::2], strict=True)))


class Versions:
    """A decoder of each version with its memory, and one that has none for each body."""

    def __init__(self, version: int) -> None:
        self.numbers = Numbers()
        self.version = version
        kind = Rw1Decoder if version == 1 else Rw2Decoder
        self.decoder = kind(self.numbers, CACHE_BYTES)

    def encode(self, rows: Rows) -> bytes:
        return encode_rw1(rows) if self.version == 1 else encode_rw2(rows)

    def rows(self, body: bytes) -> list[tuple[Labels, int, bytes]]:
        return sorted(self.flat(self.decoder.decode(body, LIMITS)))

    def flat(self, pushed: Pushed) -> list[tuple[Labels, int, bytes]]:
        columns = zip(pushed.numbers.tolist(), pushed.timestamps_ms.tolist(), pushed.values, strict=True)
        return [(self.numbers.labels[number], time, struct.pack("<d", value)) for number, time, value in columns]

    def expected(self, body: bytes) -> list[tuple[Labels, int, bytes]]:
        decoded = decode_write_request(body, LIMITS) if self.version == 1 else decode_request(body, LIMITS)
        return sorted(flatten(decoded))


def flatten(decoded: Decoded) -> list[tuple[Labels, int, bytes]]:
    columns = zip(decoded.series_index, decoded.timestamps_ms, decoded.values, strict=True)
    return [(decoded.series[index], time, struct.pack("<d", value)) for index, time, value in columns]


versions = st.sampled_from([1, 2])
names = st.sampled_from(["__name__", "job", "a", "é", "x" * 130, ""])
texts = st.text(max_size=6) | st.sampled_from(["up", "v" * 200])
label_sets = st.lists(st.tuples(names, texts), max_size=4).map(tuple)
usual_times = st.integers(NOW, NOW + 10**9)
times = usual_times | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 2**42 - 1, 2**42, 2**35])
numbers = st.floats(allow_nan=True) | st.sampled_from([0.0, -0.0, STALE, 1.0])
samples = st.lists(st.tuples(usual_times, numbers), min_size=1, max_size=1) | st.lists(
    st.tuples(times, numbers), max_size=3
)
rows = st.lists(st.tuples(label_sets, samples), max_size=12)


@given(versions, st.lists(rows, min_size=1, max_size=4), st.data())
@costly(200)
def test_whatever_came_before_each_row_comes_back_bit_by_bit(version: int, series: list[Rows], data: Any) -> None:
    """Bodies of parts of the bodies before, in any order, with other values and times."""
    known = Versions(version)
    for body in (known.encode(one) for one in series):
        assert known.rows(body) == known.expected(body)
    every = [row for one in series for row in one]
    for _ in range(3):
        start = data.draw(st.integers(0, len(every)))
        part = every[start:] + every[:start]
        changed = [
            (labels, [(time + 1000 if 0 < time < 2**50 else time, value * 2) for time, value in held])
            for labels, held in part
        ]
        for body in (known.encode(part), known.encode(changed)):
            assert known.rows(body) == known.expected(body)


@pytest.mark.parametrize("version", [1, 2])
def test_labels_in_another_order_are_another_series_until_somebody_sorts_them(version: int) -> None:
    known = Versions(version)
    one, other = ("__name__", ""), ("job", "")
    for labels in ((one, other), (other, one)):
        body = known.encode([(labels, [(NOW, 1.0)])])
        assert known.rows(body) == known.expected(body)


def many(count: int, at: int, dice: random.Random) -> list[tuple[Labels, list[tuple[int, float]]]]:
    return [
        (
            (("__name__", f"metric_{number % 7}"), ("instance", f"i{number}"), ("job", "x" * (number % 50))),
            [(at, 0.0 if dice.random() < 0.05 else dice.random())],
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_a_senders_day_of_bodies(version: int) -> None:
    """Requests cut at shifting places, series that come and go, values that fall to nothing and rise from it."""
    known, dice = Versions(version), random.Random(1)
    alive = list(range(900))
    for scrape in range(12):
        every = many(1000, NOW + scrape * 15_000, dice)
        alive = [number for number in alive if dice.random() > 0.01] + [900 + scrape]
        order = [every[number] for number in alive]
        cut = dice.randrange(1, 400)
        for start in range(0, len(order), cut):
            body = known.encode(order[start : start + cut])
            assert known.rows(body) == known.expected(body)


@pytest.mark.parametrize("version", [1, 2])
def test_the_same_body_again_is_matched_and_not_read(version: int) -> None:
    known, dice = Versions(version), random.Random(1)
    bodies = [known.encode(many(300, NOW + scrape, random.Random(7))) for scrape in range(5)]
    for body in bodies[:3]:
        known.rows(body)
    known.numbers.number = known.numbers.number_of = None  # type: ignore[method-assign, assignment]
    del dice
    for body in bodies[3:]:
        assert known.rows(body) == known.expected(body)


@given(versions, st.binary(min_size=1, max_size=8), st.integers(0, 4000), st.booleans())
@costly(400)
def test_a_damaged_body_is_read_like_one_that_nobody_knows(
    version: int, noise: bytes, at: int, is_inserted: bool
) -> None:
    """What is remembered must not make a body readable that is not, nor change what it says."""
    known = Versions(version)
    sane = known.encode(many(40, NOW, random.Random(3)))
    for _ in range(3):
        known.rows(sane)
    at %= len(sane)
    body = sane[:at] + noise + sane[at if is_inserted else at + len(noise) :]
    fresh = Versions(version)
    try:
        expected = fresh.expected(body)
    except WireError:
        with pytest.raises(WireError):
            known.rows(body)
        with pytest.raises(WireError):
            fresh.rows(body)
        return
    try:
        found = fresh.rows(body)
    except WireError:  # stricter: a native histogram or metadata by accident
        with pytest.raises(WireError):
            known.rows(body)
        return
    assert found == expected
    assert known.rows(body) == expected


@given(versions, st.binary(max_size=120))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_decoded_but_nothing_else(version: int, noise: bytes) -> None:
    known = Versions(version)
    try:
        found = known.rows(noise)
    except WireError:
        return
    assert found == known.expected(noise)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (DecodeLimits(max_decompressed_bytes=10), "decompressed"),
        (DecodeLimits(max_series=2), "series"),
        (DecodeLimits(max_samples=3), "samples"),
        (DecodeLimits(max_labels=3), "labels"),
        (DecodeLimits(max_labels_per_series=1), "labels"),
    ],
)
def test_a_body_over_a_limit_is_too_large(version: int, limits: DecodeLimits, said: str) -> None:
    known = Versions(version)
    body = known.encode([((("__name__", f"up{n}"), ("job", "x")), [(NOW, 1.5), (0, 0.0)]) for n in range(3)])
    with pytest.raises(BodyTooLarge, match=said):
        known.decoder.decode(body, limits)


def test_a_body_of_tiny_fields_does_not_grow_in_memory() -> None:
    """Two bytes on the wire must not become a hundred in a list, a million times over."""
    one, two = Versions(1).decoder, Versions(2).decoder
    for body in (b"\x0a\x00" * 200_000, b"\x0a" + b"\x80\xb5\x18" + b"\x0a\x00" * 200_000, b"\x1a\x00" * 200_000):
        with pytest.raises(BodyTooLarge):
            one.decode(body, LIMITS)
    few = DecodeLimits(max_samples=1000)
    for body in (b"\x2a\x00" * 200_000, b"\x22\x00" * 600_000, b"\x22\x00\x2a\x80\xb5\x18" + b"\x12\x00" * 200_000):
        with pytest.raises(BodyTooLarge):
            two.decode(body, few)


def refs_request(symbols: Sequence[str], refs: Sequence[int]) -> bytes:
    request = RW2["Request"](symbols=symbols)
    request.timeseries.add(labels_refs=refs).samples.add(value=1, timestamp=NOW)
    encoded: bytes = request.SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("symbols", "refs", "said"),
    [
        (["", "a"], [1], "pairs"),
        (["", "a"], [1, 2], "index of the 2 symbols"),
        (["", "a"], [1, 2**32 - 1], "index of the 2 symbols"),
        (["a", "b"], [0, 1], "empty string"),
        ([], [], "empty string"),
    ],
)
def test_references_that_name_no_symbol_are_refused(symbols: list[str], refs: list[int], said: str) -> None:
    with pytest.raises(WireError, match=said):
        Versions(2).rows(refs_request(symbols, refs))


def test_references_of_every_width_are_read() -> None:
    known = Versions(2)
    symbols = [""] + [f"s{number}" for number in range(20_000)]
    [(labels, _, _)] = known.rows(refs_request(symbols, [1, 127, 128, 16_383, 16_384, 20_000]))
    assert labels == (("s0", "s126"), ("s127", "s16382"), ("s16383", "s19999"))


def test_symbols_that_are_no_utf8_are_refused() -> None:
    body = b"\x22\x00\x22\x01\xff" + encode_rw2([((("a", "b"),), [(NOW, 1.0)])])
    with pytest.raises(WireError, match="UTF-8"):
        Versions(2).rows(body)


def test_starts_of_both_drafts_are_kept() -> None:
    """Sample.start_timestamp, and before it TimeSeries.created_timestamp; for histograms too."""
    known = Versions(2)
    request = RW2["Request"](symbols=["", "__name__", "up", "down", "sideways"])
    request.timeseries.add(labels_refs=[1, 2], created_timestamp=NOW - 5).samples.add(value=1, timestamp=NOW)
    request.timeseries.add(labels_refs=[1, 3]).samples.add(value=1, timestamp=NOW, start_timestamp=NOW - 7)
    request.timeseries.add(labels_refs=[1, 4]).samples.add(value=1, timestamp=NOW)
    histogram = request.timeseries.add(labels_refs=[1, 4], created_timestamp=NOW - 9)
    histogram.histograms.add(timestamp=NOW)
    body = request.SerializeToString()
    for _ in range(3):
        pushed = known.decoder.decode(body, LIMITS)
        assert pushed.starts_ms is not None
        assert pushed.starts_ms.tolist() == [NOW - 5, NOW - 7, 0]
        [one] = pushed.histograms
        assert RW2["Histogram"].FromString(one.message).start_timestamp == NOW - 9
        assert one.timestamp_ms == NOW


@pytest.mark.parametrize("version", [1, 2])
def test_exemplars_and_metadata_are_kept(version: int) -> None:
    known = Versions(version)
    if version == 1:
        one = RW1["WriteRequest"]()
        series = one.timeseries.add(labels=[RW1["Label"](name="__name__", value="up")])
        series.samples.add(value=1, timestamp=NOW)
        series.exemplars.add(value=2, timestamp=NOW, labels=[RW1["Label"](name="trace_id", value="x")])
        one.metadata.add(type=1, metric_family_name="up", help="Whether.", unit="1")
        body = one.SerializeToString()
    else:
        two = RW2["Request"](symbols=["", "__name__", "up", "trace_id", "x", "Whether.", "1"])
        series = two.timeseries.add(labels_refs=[1, 2])
        series.samples.add(value=1, timestamp=NOW)
        series.exemplars.add(value=2, timestamp=NOW, labels_refs=[3, 4])
        series.metadata.type, series.metadata.help_ref, series.metadata.unit_ref = 1, 5, 6
        body = two.SerializeToString()
    pushed = known.decoder.decode(body, LIMITS)
    [exemplar] = pushed.exemplars
    assert (exemplar.value, exemplar.timestamp_ms, exemplar.labels) == (2.0, NOW, (("trace_id", "x"),))
    [told] = pushed.metadata
    assert (told.family, told.type, told.help, told.unit) == ("up", "counter", "Whether.", "1")
    assert len(pushed) == 1


@given(st.lists(st.binary(max_size=300), max_size=20), st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_all_fields_at_once_are_those_of_a_walk(contents: list[bytes], rest: bytes) -> None:
    body = b"".join(length_delimited(b"\x22", content) for content in contents) + rest
    expected, position = [], 0
    while position < len(body) and body[position] == 0x22:
        try:
            begin, end = read_span(body, position + 1, len(body))
        except (WireError, IndexError):
            break
        expected.append((position, begin, end))
        position = end
    found = find_frames(Bytes(body).bytes, 0x22, 0)
    if found is not None:
        assert list(zip(*(column.tolist() for column in found), strict=True)) == expected[: len(found.tags)]
        assert len(found.tags) >= len(contents)


def test_a_label_of_nothing_is_a_label() -> None:
    known = Versions(2)
    for labels in ((("__name__", ""),), (("__name__", ""), ("", ""))):
        body = known.encode([(labels, [(NOW, 1.0)])])
        assert known.rows(body) == known.expected(body)
