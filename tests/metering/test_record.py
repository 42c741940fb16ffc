"""The record format: what goes in comes out, bit for bit, and nothing else gets through."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, Tenant
from kernel.log import Record
from metering.record import (
    STALE_NAN_BITS,
    BatchHeader,
    Lane,
    Sequence,
    canonical_labels,
    decode_batch,
    decode_header,
    encode_record,
    make_batch,
    parse_canonical_labels,
    series_id,
)
from tests.effort import costly

HEADER = BatchHeader(Tenant.parse("org-a/prod"), CollectorId("vpc-1"), Lane.BILLING, 5, "ab" * 32)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
label_sets = st.dictionaries(texts, texts, min_size=1, max_size=4).map(lambda labels: tuple(sorted(labels.items())))
bits = st.integers(0, 2**64 - 1)
rows = st.lists(st.tuples(label_sets, st.integers(-(2**62), 2**62), bits), max_size=20)


def as_float(pattern: int) -> float:
    return float(np.uint64(pattern).view(np.float64))


@given(rows)
@costly(100)
def test_a_batch_comes_back_bit_for_bit(written: list[tuple[tuple[tuple[str, str], ...], int, int]]) -> None:
    """Every label, every time and every bit of every value, NaN payloads included."""
    batch = make_batch((labels, at, 0.0) for labels, at, _ in written)
    values = np.array([pattern for _, _, pattern in written], np.uint64).view(np.float64)
    batch = type(batch)(batch.series, batch.series_index, batch.timestamps_ms, values)
    back = decode_batch(encode_record(HEADER, batch).value)
    assert back.values.view(np.uint64).tolist() == [pattern for _, _, pattern in written]
    assert back.timestamps_ms.tolist() == [at for _, at, _ in written]
    named = [parse_canonical_labels(back.series[slot]) for slot in back.series_index.tolist()]
    assert named == [labels for labels, _, _ in written]


def test_a_stale_marker_survives() -> None:
    batch = make_batch([((("__name__", "up"),), 1, as_float(STALE_NAN_BITS))])
    back = decode_batch(encode_record(HEADER, batch).value)
    assert back.values.view(np.uint64).tolist() == [STALE_NAN_BITS]


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        BatchHeader(
            HEADER.tenant,
            HEADER.collector,
            Lane.HISTORY,
            5,
            "ab",
            Sequence(1795363195159, 7, 4097),
            complete_through_ms=9,
            previous=(1795363195158, 12),
            resync=True,
        ),
    ],
)
def test_a_header_comes_back(header: BatchHeader) -> None:
    assert decode_header(encode_record(header, make_batch([]))) == header


def test_a_record_of_before_there_was_bulk_is_of_the_billing_lane() -> None:
    record = encode_record(HEADER, make_batch([]))
    old = Record(record.key, record.value, {**record.headers, "lane": b"live"})
    assert decode_header(old) == HEADER


@given(st.binary(max_size=300))
@costly(150)
def test_bytes_that_are_no_batch_are_a_dead_letter(value: bytes) -> None:
    with pytest.raises(DeadLetter):
        decode_batch(value)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_batch_is_a_dead_letter_or_still_a_batch(data: st.DataObject) -> None:
    """One flipped bit may hide in padding or in a value; what gets past is a batch of equal columns."""
    value = bytearray(encode_record(HEADER, make_batch([((("a", "b"),), at, float(at)) for at in range(50)])).value)
    place = data.draw(st.integers(0, len(value) * 8 - 1))
    value[place // 8] ^= 1 << place % 8
    try:
        back = decode_batch(bytes(value))
    except DeadLetter:
        return
    assert len(back.series_index) == len(back.timestamps_ms) == len(back.values)
    assert all(0 <= slot < len(back.series) for slot in back.series_index.tolist())


def test_nulls_are_a_dead_letter() -> None:
    schema = pa.schema(
        [("series", pa.dictionary(pa.int32(), pa.binary())), ("timestamp_ms", pa.int64()), ("value", pa.float64())]
    )
    columns = [
        pa.array([b"a\xffb\xff"]).dictionary_encode(),
        pa.array([1], pa.int64()),
        pa.array([None], pa.float64()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    with pytest.raises(DeadLetter, match="nulls"):
        decode_batch(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    "missing", ["version", "organization", "project", "collector", "lane", "received_ms", "sha256"]
)
def test_a_header_that_lacks_a_field_is_a_dead_letter(missing: str) -> None:
    record = encode_record(HEADER, make_batch([]))
    fields = {name: value for name, value in record.headers.items() if name != missing}
    with pytest.raises(DeadLetter):
        decode_header(Record(record.key, record.value, fields))


@pytest.mark.parametrize("text", [b"1.2", b"1.2.3.4", b"a.b.c", b"", b"1.2."])
def test_a_malformed_sequence_is_a_dead_letter(text: bytes) -> None:
    record = encode_record(HEADER, make_batch([]))
    with pytest.raises(DeadLetter):
        decode_header(Record(record.key, record.value, {**record.headers, "sequence": text}))


@pytest.mark.parametrize(
    "encoded", [b"a", b"a\xff", b"a\xffb", b"a\xffb\xffc\xff", b"\xc3\xff\xff", b"a\xed\xa0\x80\xffb\xff"]
)
def test_malformed_label_bytes_are_a_dead_letter(encoded: bytes) -> None:
    with pytest.raises(DeadLetter):
        parse_canonical_labels(encoded)


def test_a_series_has_one_name_whatever_the_order_and_another_for_each_source() -> None:
    one = canonical_labels([("b", "2"), ("a", "1"), ("empty", "")])
    assert one == canonical_labels([("a", "1"), ("b", "2")])
    names = {
        series_id(Tenant.parse(tenant), CollectorId(collector), one)
        for tenant in ("org-a/prod", "org-a/test", "org-b/prod")
        for collector in ("vpc-1", "vpc-2")
    }
    assert len(names) == 6
    assert all(len(name) == 16 for name in names)
