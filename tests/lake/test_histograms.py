"""Native histograms: from frames and from records of samples into a table of their own, each once."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import DeadLetter
from kernel.ids import CollectorId
from metering.frames import vendor_labels
from metering.lake.histogram_head import HistogramHead, parse_head
from metering.record import BatchHeader, Lane, canonical_labels, encode_samples, series_id
from metering.record import Sequence as Number
from metering.samples import HistogramRow, SampleColumns, make_page
from tests.lake.frames_world import Sender, append
from tests.lake.setting import ACME, DAY, T0, gauge, memory_log, open_lake, writer_of
from tests.wire.frames.world import entry


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + content


def message(at_ms: int, count: int = 3, total: float = 4.5) -> bytes:
    """Schema 3, one span of two buckets, a zero bucket."""
    span = field(1, 0, varint(2)) + field(2, 0, varint(2))
    return b"".join(
        [
            field(1, 0, varint(count)),
            field(3, 1, struct.pack("<d", total)),
            field(4, 0, varint(3 << 1)),
            field(5, 1, struct.pack("<d", 0.25)),
            field(6, 0, varint(1)),
            field(11, 2, varint(len(span)) + span),
            field(12, 2, varint(2) + b"\x02\x00"),
            field(15, 0, varint(at_ms)),
            field(17, 0, varint(at_ms - 5)),
        ]
    )


def test_the_head_of_a_message() -> None:
    assert parse_head(message(T0)) == HistogramHead(T0, T0 - 5, 3, 3.0, 4.5, 0.25, 1.0)
    floats = field(2, 1, struct.pack("<d", 2.5)) + field(7, 1, struct.pack("<d", 0.5)) + field(4, 0, varint(0xA5))
    assert parse_head(floats) == HistogramHead(0, 0, -83, 2.5, 0.0, 0.0, 0.5)
    assert parse_head(b"") == HistogramHead(0, 0, 0, 0.0, 0.0, 0.0, 0.0)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_a_dead_letter_or_a_head(content: bytes) -> None:
    try:
        parse_head(content)
    except DeadLetter:
        return


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_message_that_was_cut_off_never_reads_past_its_end(cut: int) -> None:
    try:
        parse_head(message(T0)[:-cut])
    except DeadLetter:
        return


async def test_histograms_of_frames_and_of_samples_are_stored_once(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    sender = Sender()
    sent = [sender.push_histogram(entry("latency"), message(T0 + at, count=at)) for at in (1, 2)]
    await append(log, *sent, sent[0])
    labels = canonical_labels(gauge("foreign"))
    columns = SampleColumns(
        (make_page([labels]),),
        np.empty(0, np.int32),
        np.empty(0, np.int64),
        np.empty(0, np.float64),
        histograms=(HistogramRow(0, message(T0 + 7)),),
    )
    header = BatchHeader(ACME, CollectorId("col-b"), Lane.BILLING, T0, "", Number(1, 1))
    await append(log, encode_samples(header, columns))
    await writer_of(lake, log).drain()
    found = (await lake.histograms("acme", DAY)).to_pylist()
    own = vendor_labels(entry("latency"), ACME)
    ids = {
        series_id(ACME, CollectorId("col-a"), own): [
            (T0 + 1, 1.0),
            (T0 + 2, 2.0),
        ],
        series_id(ACME, CollectorId("col-b"), labels): [(T0 + 7, 3.0)],
    }
    assert [(row["series_id"], row["timestamp_ms"], row["count"]) for row in found] == [
        (each, at, count) for each in sorted(ids) for at, count in ids[each]
    ]
    assert {row["message"] for row in found} >= {message(T0 + 7)}
    assert (await lake.info()).series == 2
    assert (await lake.histograms("org-b", DAY)).num_rows == 0
