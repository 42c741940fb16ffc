"""The decoders against the protobuf runtime, and against noise."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import Decoded, DecodeLimits, LabelCache, Labels
from collector.wire.rw1 import decode_write_request
from collector.wire.rw2 import decode_request
from tests.effort import costly
from tests.gateway.messages import RW1, RW2, Rows, encode_rw1, encode_rw2

LIMITS = DecodeLimits()
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

texts = st.text(max_size=12) | st.text("é漢", min_size=60, max_size=70)
label_sets = st.lists(st.tuples(texts, texts), max_size=6).map(tuple)
times = st.integers(-(2**63), 2**63 - 1) | st.integers(1_500_000_000_000, 2_000_000_000_000)
numbers = st.floats(allow_nan=True) | st.just(0.0) | st.just(-0.0)
rows = st.lists(st.tuples(label_sets, st.lists(st.tuples(times, numbers), max_size=3)), max_size=8)
Decode = Callable[[bytes], Decoded]


def rw1(body: bytes) -> Decoded:
    return decode_write_request(body, LIMITS)


def rw2(body: bytes) -> Decoded:
    return decode_request(body, LIMITS)


def flatten(rows: Rows) -> list[tuple[Labels, int, bytes]]:
    return [(labels, time, struct.pack("<d", value)) for labels, samples in rows for time, value in samples]


def decoded_rows(decoded: Decoded) -> list[tuple[Labels, int, bytes]]:
    columns = zip(decoded.series_index, decoded.timestamps_ms, decoded.values, strict=True)
    return [(decoded.series[index], time, struct.pack("<d", value)) for index, time, value in columns]


@given(rows)
@costly(150)
def test_rw1_gives_back_every_row_bit_by_bit(rows: Rows) -> None:
    decoded = rw1(encode_rw1(rows))
    assert decoded_rows(decoded) == flatten(rows)
    assert [labels for labels, _ in rows] == decoded.series


@given(rows)
@costly(150)
def test_rw2_gives_back_every_row_bit_by_bit(rows: Rows) -> None:
    decoded = rw2(encode_rw2(rows))
    assert decoded_rows(decoded) == flatten(rows)
    assert [labels for labels, _ in rows] == decoded.series


@given(rows, rows)
@costly(50)
def test_a_label_cache_changes_nothing(first: Rows, second: Rows) -> None:
    cache = LabelCache(4096)
    for rows in (first, second, first):
        body = encode_rw1(rows)
        assert decode_write_request(body, LIMITS, cache).series == rw1(body).series


def messages_of(rows: Rows) -> dict[str, bytes]:
    return {"rw1": encode_rw1(rows), "rw2": encode_rw2(rows)}


SOME: Rows = [((("__name__", "up"), ("job", "x" * 200)), [(1_760_000_000_000, 1.5), (0, 0.0)])] * 3


@pytest.mark.parametrize(("name", "decode"), [("rw1", rw1), ("rw2", rw2)])
def test_a_body_cut_anywhere_is_refused_or_is_a_shorter_body(name: str, decode: Decode) -> None:
    body = messages_of(SOME)[name]
    whole = len(decode(body).series)
    for cut in range(len(body)):
        try:
            assert len(decode(body[:cut]).series) < whole
        except WireError:
            continue


@given(st.binary(max_size=120), st.integers(0, 400), st.sampled_from(["rw1", "rw2"]))
@settings(max_examples=200)
def test_noise_is_refused_or_decoded_but_nothing_else(noise: bytes, at: int, name: str) -> None:
    body = messages_of(SOME)[name]
    for attempt in (noise, body[:at] + noise + body[at + len(noise) :]):
        try:
            decoded = rw1(attempt) if name == "rw1" else rw2(attempt)
        except WireError:
            continue
        else:
            assert len(decoded.series_index) == len(decoded.timestamps_ms) == len(decoded.values)
            assert all(0 <= index < len(decoded.series) for index in decoded.series_index)


@given(st.binary(max_size=60), st.integers(0, 100))
@settings(max_examples=200)
def test_where_the_runtime_and_we_both_read_a_body_we_read_the_same(noise: bytes, at: int) -> None:
    body = encode_rw2(SOME[:1])
    attempt = body[:at] + noise + body[at + len(noise) :]
    try:
        ours = rw2(attempt)
        theirs: Any = RW2["Request"].FromString(attempt)
    except Exception:  # the runtime has its own errors; being stricter than it is allowed
        return
    assert [time for _, time, _ in decoded_rows(ours)] == [
        sample.timestamp for series in theirs.timeseries for sample in series.samples
    ]
    assert [list(map(tuple, labels)) for labels in ours.series] == [
        list(zip(*[iter(theirs.symbols[ref] for ref in series.labels_refs)] * 2, strict=True))
        for series in theirs.timeseries
    ]


def test_the_bits_of_a_stale_marker_survive() -> None:
    for decode, body in ((rw1, encode_rw1), (rw2, encode_rw2)):
        decoded = decode(body([((("__name__", "up"),), [(1, STALE)])]))
        assert decoded.values.tobytes() == struct.pack("<Q", 0x7FF0000000000002)


def test_start_timestamps_of_both_drafts_are_accepted() -> None:
    request = RW2["Request"](symbols=["", "__name__", "up"])
    series = request.timeseries.add(labels_refs=[1, 2], created_timestamp=5)
    series.samples.add(value=1, timestamp=10, start_timestamp=5)
    series.metadata.type = 1
    decoded = rw2(request.SerializeToString())
    assert decoded_rows(decoded) == [((("__name__", "up"),), 10, struct.pack("<d", 1.0))]
    assert decoded.metadata == 1


def test_what_is_not_kept_is_counted() -> None:
    one = RW1["WriteRequest"]()
    series = one.timeseries.add()
    series.exemplars.add(value=1)
    series.histograms.add(count_int=1)
    one.metadata.add(type=1)
    two = RW2["Request"](symbols=[""])
    series = two.timeseries.add()
    series.exemplars.add(value=1)
    series.histograms.add(count_int=1)
    for decoded in (rw1(one.SerializeToString()), rw2(two.SerializeToString())):
        assert (decoded.histograms, decoded.exemplars, decoded.samples) == (1, 1, 0)


def test_labels_behind_the_samples_are_found() -> None:
    label = RW1["TimeSeries"](labels=[RW1["Label"](name="__name__", value="up")]).SerializeToString()
    samples = RW1["TimeSeries"](samples=[RW1["Sample"](value=1, timestamp=2)]).SerializeToString()
    body = bytes([0x0A, len(label + samples)]) + samples + label
    assert decoded_rows(rw1(body)) == [((("__name__", "up"),), 2, struct.pack("<d", 1.0))]


def test_references_of_every_width_are_read() -> None:
    symbols = [""] + [f"s{number}" for number in range(20_000)]
    request = RW2["Request"](symbols=symbols)
    request.timeseries.add(labels_refs=[1, 127, 128, 16_383, 16_384, 20_000])
    assert rw2(request.SerializeToString()).series == [(("s0", "s126"), ("s127", "s16382"), ("s16383", "s19999"))]
    unpacked = b"\x2a\x04\x08\x01\x08\x02" + b"\x22\x00\x22\x01a\x22\x01b"
    assert rw2(unpacked).series == [(("a", "b"),)]


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
    request = RW2["Request"](symbols=symbols)
    request.timeseries.add(labels_refs=refs)
    with pytest.raises(WireError, match=said):
        rw2(request.SerializeToString())


@pytest.mark.parametrize(
    "body",
    [b"\x0b\x0c", b"\x00\x00", b"\xff" * 12, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x02\x12\x09"],
)
def test_malformed_fields_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        rw1(body)
    with pytest.raises(WireError):
        rw2(body)


def test_a_body_of_the_other_version_is_refused() -> None:
    with pytest.raises(WireError, match="of remote write 2"):
        rw2(encode_rw1(SOME))
    with pytest.raises(WireError, match="of remote write 1"):
        rw1(encode_rw2(SOME))


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
def test_a_body_over_a_limit_is_too_large(limits: DecodeLimits, said: str) -> None:
    with pytest.raises(BodyTooLarge, match=said):
        decode_write_request(encode_rw1(SOME), limits)
    with pytest.raises(BodyTooLarge, match=said):
        decode_request(encode_rw2(SOME), limits)


def test_a_body_of_tiny_fields_does_not_grow_in_memory() -> None:
    """Two bytes on the wire must not become a hundred in a list, a million times over."""
    for body in (b"\x0a\x00" * 200_000, b"\x0a" + b"\x80\xb5\x18" + b"\x0a\x00" * 200_000):
        with pytest.raises(BodyTooLarge):
            rw1(body)
    for body in (b"\x2a\x00" * 200_000, b"\x22\x00" * 600_000, b"\x22\x00\x2a\x80\xb5\x18" + b"\x12\x00" * 200_000):
        with pytest.raises(BodyTooLarge):
            decode_request(body, DecodeLimits(max_samples=1000))
