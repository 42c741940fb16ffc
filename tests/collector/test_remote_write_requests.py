"""Requests of remote write: any row of ticks, decoded by the protobuf runtime, says what the ticks said."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from struct import pack, unpack
from typing import Any

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.relabel import Action, RelabelRule
from collector.remote_write.request import as_version_1, join_requests
from collector.remote_write.stream import Cutting, Request, StreamRequests
from collector.remote_write.template import wide_varint, wide_varints
from collector.remote_write.writer import relabeller
from collector.wire.frames import Dated, EntryTable, ExemplarRow, HistogramRow, Tick
from tests.collector.client_messages import WRITE
from tests.collector.receiver import Receiver
from tests.collector.receiver import Request as Read
from tests.effort import costly

AT = 1_790_000_000_000
STALE = unpack("<d", pack("<Q", 0x7FF0000000000002))[0]
HEADERS_2 = {
    "Content-Encoding": "snappy", "User-Agent": "test", "X-Prometheus-Remote-Write-Version": "2.0.0",
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
}  # fmt: skip
HEADERS_1 = {
    **HEADERS_2, "Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Write-Version": "0.1.0",
}  # fmt: skip


def entry(name: str, kind: int = 2, **labels: str) -> bytes:
    pairs = sorted({"__name__": name, **labels}.items())
    return bytes((kind,)) + b"".join(f"{n}".encode() + b"\xff" + f"{v}".encode() + b"\xff" for n, v in pairs)


def shown(one: bytes) -> str:
    parts = one[1:].split(b"\xff")
    return ",".join(f"{n.decode()}={v.decode()}" for n, v in zip(parts[0:-1:2], parts[1::2], strict=True))


def bits(value: float) -> bytes:
    return pack("<d", value)


@dataclass
class Stream:
    """A stream as the scrape keeps it."""

    table: EntryTable = field(default_factory=EntryTable)
    values: Any = field(default_factory=lambda: np.empty(0))
    at_ms: int = AT

    def tick(self, born: list[bytes], freed: list[int], stale: list[int]) -> Tick:
        self.at_ms += 15_000
        self.table.free(np.array(freed, np.int32))
        slots = self.table.take(born)
        self.values = np.arange(self.table.capacity, dtype=np.float64) * 1.5 + self.at_ms % 7
        ended, free = np.array(stale, np.int32), np.array(freed, np.int32)
        return Tick(self.at_ms, self.values, None, ended, free, slots)


def decoded(requests: list[Request], most: int = 10_000) -> Read:
    """All of them together; a broken rule fails."""
    receiver = Receiver(most_series=most)
    reads = [receiver._read(HEADERS_2, bytes(cramjam.snappy.compress_raw(one.body))) for one in requests]
    assert receiver.broken == []
    for request, read in zip(requests, reads, strict=True):
        assert (request.samples, request.histograms, request.exemplars) == (
            len(read.rows), len(read.histograms), len(read.exemplars),
        )  # fmt: skip
    return Read(
        2, [row for one in reads for row in one.rows], [row for one in reads for row in one.histograms],
        [row for one in reads for row in one.exemplars], {k: v for one in reads for k, v in one.types.items()},
        {k: v for one in reads for k, v in one.starts.items()}, {}, sum(one.series for one in reads),
    )  # fmt: skip


@costly(60)
@given(st.data())
def test_what_comes_and_goes_is_said_as_it_was_meant(data: st.DataObject) -> None:
    stream, requests, most = Stream(), StreamRequests(Cutting(max_series=7)), 7
    live: dict[int, bytes] = {}
    number = 0
    for _ in range(data.draw(st.integers(1, 6))):
        gone = data.draw(st.lists(st.sampled_from(sorted(live)), unique=True)) if live else []
        expected = [(shown(live[slot]), stream.at_ms + 15_000, STALE) for slot in gone]
        for slot in gone:
            del live[slot]
        fresh = [
            entry(f"m{number + one}", data.draw(st.integers(0, 7)), instance=f"i{one % 3}", very_long="x" * 130)
            for one in range(data.draw(st.integers(0, 20)))
        ]
        number += len(fresh)
        tick = stream.tick(fresh, gone, gone)
        live |= dict(zip(tick.born.tolist(), fresh, strict=True))
        present = np.zeros(stream.table.capacity, np.bool_)
        chosen = data.draw(st.lists(st.sampled_from(sorted(live)), unique=True)) if live else []
        present[chosen] = True
        tick.present = present
        read = decoded(requests.take(stream.table, tick), most)
        expected += [(shown(live[slot]), stream.at_ms, stream.values[slot]) for slot in chosen]
        assert sorted((n, at, bits(v)) for n, at, v in read.rows) == sorted(
            (n, at, bits(v)) for n, at, v in expected
        )
        assert all(read.types[shown(live[slot])] == live[slot][0] for slot in chosen)


def test_a_stream_that_is_already_there_is_taken_up_whole() -> None:
    stream = Stream()
    stream.tick([entry("a"), entry("b")], [], [])
    read = decoded(StreamRequests(Cutting()).take(stream.table, stream.tick([entry("c")], [], [])))
    assert [row[0] for row in read.rows] == ["__name__=a", "__name__=b", "__name__=c"]


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, -0.0, 4.9e-324, unpack("<d", pack("<Q", 0x7FF8000000000001))[0]]
)
def test_the_bits_of_a_value_are_kept(value: float) -> None:
    stream = Stream()
    tick = stream.tick([entry("a")], [], [])
    tick.values[:] = value
    (row,) = decoded(StreamRequests(Cutting()).take(stream.table, tick)).rows
    assert bits(row[2]) == bits(value)


def test_start_timestamps_come_from_the_created_series_of_the_same_metric() -> None:
    stream = Stream()
    born = [
        entry("a_created", 1, x="1"), entry("a_total", 1, x="1"), entry("a_total", 1, x="2"),
        entry("h_created", 3), entry("h_bucket", 3, le="1.0"), entry("h_count", 3), entry("g", 2),
    ]  # fmt: skip
    tick = stream.tick(born, [], [])
    tick.values[[0, 3]] = 1_700_000_000.25, math.nan
    requests = StreamRequests(Cutting())
    read = decoded(requests.take(stream.table, tick))
    assert read.starts == {"__name__=a_total,x=1": 1_700_000_000_250}
    again = stream.tick([], [0], [0])
    again.values[3] = 5.0
    assert decoded(requests.take(stream.table, again)).starts == {
        "__name__=h_bucket,le=1.0": 5000, "__name__=h_count": 5000,
    }  # fmt: skip


def test_dated_rows_histograms_and_exemplars() -> None:
    stream = Stream()
    message = WRITE["Histogram"](count_int=3, sum=1.5, schema=2, timestamp=AT).SerializeToString()
    custom = WRITE["Histogram"](
        count_int=3, schema=-53, custom_values=[1, 2], positive_spans=[{"offset": 0, "length": 2}],
        positive_deltas=[1, 1], timestamp=AT, start_timestamp=5,
    ).SerializeToString()  # fmt: skip
    tick = stream.tick([entry("h", 3), entry("d"), entry("c", 3)], [], [])
    tick.present = np.zeros(3, np.bool_)
    tick.dated = Dated(np.array([1, 1], np.int32), np.array([AT + 5, AT - 5]), np.array([2.0, STALE]))
    tick.histograms = [HistogramRow(0, message), HistogramRow(2, custom)]
    tick.exemplars = [ExemplarRow(0, 0.5, AT, b"trace_id\xffabc\xff")]
    found = StreamRequests(Cutting()).take(stream.table, tick)
    read = decoded(found)
    assert [(at, bits(value)) for _, at, value in read.rows] == [(AT - 5, bits(STALE)), (AT + 5, bits(2.0))]
    assert read.histograms == [("__name__=h", AT), ("__name__=c", AT)]
    assert read.exemplars == [("__name__=h", {"trace_id": "abc"}, 0.5)]
    assert any(custom in one.body for one in found)
    without = StreamRequests(Cutting(exemplars=False, histograms=False)).take(stream.table, tick)
    assert sum(one.histograms + one.exemplars for one in without) == 0


def test_relabelling_is_for_this_receiver_alone() -> None:
    rules = [
        RelabelRule(Action.DROP, ("__name__",), ";", "secret_.*", 0, "", ""),
        RelabelRule(Action.REPLACE, ("a",), ";", "(.*)", 0, "zone", "z-$1"),
        RelabelRule(Action.LABELDROP, (), ";", "a", 0, "", ""),
    ]
    stream = Stream()
    tick = stream.tick([entry("m", a="1"), entry("secret_m", a="2")], [], [])
    read = decoded(StreamRequests(Cutting(relabel=relabeller(rules))).take(stream.table, tick))
    assert [row[0] for row in read.rows] == ["__name__=m,zone=z-1"]


def test_requests_join_into_one_with_every_text_once_and_become_version_1() -> None:
    bodies, rows = [], []
    for number in range(3):
        stream = Stream()
        tick = stream.tick(
            [entry("a_created", 1, i=str(number)), entry("a_total", 1, i=str(number), same="x"), entry("h", 3)],
            [],
            [],
        )
        tick.histograms = [
            HistogramRow(2, WRITE["Histogram"](count_int=3, schema=1, timestamp=AT).SerializeToString())
        ]
        tick.exemplars = [ExemplarRow(1, 0.5, AT, b"trace_id\xffabc\xff")]
        found = StreamRequests(Cutting()).take(stream.table, tick)
        bodies += [one.body for one in found]
        rows.append(decoded(found))
    receiver = Receiver()
    joined = join_requests(bodies)
    read = receiver._read(HEADERS_2, bytes(cramjam.snappy.compress_raw(joined)))
    old = receiver._read(HEADERS_1, bytes(cramjam.snappy.compress_raw(as_version_1(joined))))
    assert receiver.broken == []
    for one in (read, old):
        assert one.rows == [row for part in rows for row in part.rows]
        assert one.histograms == [row for part in rows for row in part.histograms]
        assert one.exemplars == [row for part in rows for row in part.exemplars]
    assert read.types == {k: v for part in rows for k, v in part.types.items()}


@given(st.lists(st.integers(0, 2**42 - 1), min_size=1))
def test_times_take_six_bytes_whatever_they_are(times: list[int]) -> None:
    for at_ms in times:
        encoded, value = wide_varint(at_ms), 0
        for place, byte in enumerate(encoded):
            value |= (byte & 0x7F) << 7 * place
        assert (len(encoded), value, encoded[-1] < 0x80) == (6, at_ms, True)
    assert bytes(wide_varints(np.array(times)).tobytes()) == b"".join(map(wide_varint, times))
