"""What stands in a body in no usual form, read field by field: odd samples, histograms, exemplars, metadata."""

from __future__ import annotations

import struct
from array import array

import numpy as np

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import DecodeLimits, Labels
from collector.wire.protobuf import check_within, read_int64, read_varint, skip_field
from metering.gateway.foreign.histogram import check_histogram
from metering.gateway.foreign.pushed import Pushed, PushedExemplar, PushedHistogram
from metering.gateway.foreign.skeleton import Rows, read_times, read_values
from metering.gateway.series import Refusal
from metering.samples import Metadata

_VALUE, _TIMESTAMP, _START = 0x09, 0x10, 0x18  # Sample: double value = 1, int64 timestamp = 2, start_timestamp = 3
_MOST_UNREAD = 10_000


class Loose:
    """Grows by one message at a time, within the limits of a body."""

    def __init__(self, body: bytes, limits: DecodeLimits) -> None:
        self._body = body
        self._limits = limits
        self._numbers, self._times, self._starts = array("i"), array("q"), array("q")
        self._values = bytearray()
        self._labels = self._unread = 0
        self.histograms: list[PushedHistogram] = []
        self.faults: list[str] = []
        self.exemplars: list[PushedExemplar] = []
        self.metadata: list[Metadata] = []

    def skip(self, tag: int, position: int, end: int) -> int:
        """The position after a field that nobody reads. Raises BodyTooLarge when there are too many, WireError."""
        self._unread += 1
        if self._unread > _MOST_UNREAD:
            allowed = f"at most {_MOST_UNREAD} in one body"
            raise BodyTooLarge.at(f"byte {position}", f"over {_MOST_UNREAD} fields that nobody reads", allowed)
        return skip_field(self._body, tag, position, end)

    def check_series(self, count: int) -> None:
        """Raises BodyTooLarge when the body has that many series."""
        if count > self._limits.max_series:
            raise BodyTooLarge.at("timeseries", f"over {self._limits.max_series} series", "no more in one body")

    def check_symbols(self, count: int) -> None:
        """Raises BodyTooLarge when the body has that many symbols."""
        if count > self._limits.max_symbols:
            raise BodyTooLarge.at("symbols", f"over {self._limits.max_symbols} symbols", "no more in one body")

    def check_samples(self, count: int) -> None:
        """Raises BodyTooLarge when the body has that many rows besides those here."""
        count += len(self._numbers) + len(self.histograms) + len(self.exemplars)
        if count > self._limits.max_samples:
            raise BodyTooLarge.at("samples", f"over {self._limits.max_samples} samples", "no more in one body")

    def check_labels(self, count: int) -> None:
        """Add the labels of a series that had to be read. Raises BodyTooLarge."""
        self.check_labels_so_far(count)
        self._labels += count
        if self._labels > self._limits.max_labels:
            allowed = f"at most {self._limits.max_labels} in one body"
            raise BodyTooLarge.at("labels", f"{self._labels} or more labels", allowed)

    def check_labels_so_far(self, count: int) -> None:
        """Raises BodyTooLarge when one series has that many."""
        if count > self._limits.max_labels_per_series:
            allowed = f"at most {self._limits.max_labels_per_series} in one series"
            raise BodyTooLarge.at("labels", f"{count} or more labels", allowed)

    def add_sample(self, start: int, end: int, number: int, started_ms: int = 0) -> None:
        """The Sample message in `[start, end)`; `started_ms` is its series', for one that has none of its own."""
        body = self._body
        value, time, position = bytes(8), 0, start  # proto3 leaves out what is zero
        while position < end:
            tag, position = read_varint(body, position)
            if tag == _VALUE:
                value, position = body[position : position + 8], position + 8
            elif tag == _TIMESTAMP:
                time, position = read_int64(body, position)
            elif tag == _START:
                started_ms, position = read_int64(body, position)
            elif tag >> 3 in {1, 2, 3}:
                raise WireError.at(
                    f"byte {position}", f"the tag {tag} in a sample", "value, timestamp as specified"
                )
            else:
                position = self.skip(tag, position, end)
            check_within(position, end)
        self._numbers.append(number)
        self._times.append(time)
        self._starts.append(started_ms)
        self._values += value
        self.check_samples(0)

    def add_histogram(self, start: int, end: int, number: int, started_ms: int = 0) -> None:
        """The Histogram message in `[start, end)`, the same in both versions. Raises WireError."""
        message = self._body[start:end]
        timestamp_ms, fault = check_histogram(message)
        if fault and number >= 0:
            self.faults.append(fault)
            self.check_series(len(self.faults))
            return
        if started_ms:
            message += _histogram_start(started_ms)
        self.histograms.append(PushedHistogram(number, timestamp_ms, message))
        self.check_samples(0)

    def add_exemplar(self, number: int, value: float, timestamp_ms: int, labels: Labels) -> None:
        """An exemplar that was read."""
        self.exemplars.append(PushedExemplar(number, value, timestamp_ms, labels))
        self.check_samples(0)

    def add_metadata(self, told: Metadata) -> None:
        """What is told of a metric family."""
        self.metadata.append(told)
        self.check_series(len(self.metadata))

    def join(self, rows: Rows) -> Pushed:
        """These and the rows of usual form, which come first."""
        body = self._body
        starts = read_times(body, rows.starts) if rows.starts is not None else None
        return self.join_columns(
            Pushed(rows.numbers, read_times(body, rows.times), read_values(body, rows.values), starts)
        )

    def join_columns(self, usual: Pushed) -> Pushed:
        """The same when the rows of usual form were read."""
        numbers, times, values, starts = usual.numbers, usual.timestamps_ms, usual.values, usual.starts_ms
        if len(self._numbers):
            own = np.frombuffer(self._starts, np.int64)
            if starts is not None or own.any():
                starts = np.concatenate([np.zeros(len(usual), np.int64) if starts is None else starts, own])
            numbers = np.concatenate([numbers, np.frombuffer(self._numbers, np.int32)])
            values = np.concatenate([values, np.frombuffer(bytes(self._values), "<f8")])
            times = np.concatenate([times, np.frombuffer(self._times, np.int64)])
        refused = {Refusal.HISTOGRAM: len(self.faults)} if self.faults else {}
        fault = self.faults[0] if self.faults else ""
        return Pushed(
            numbers, times, values, starts, self.histograms, self.exemplars, self.metadata, refused, fault
        )


def _histogram_start(started_ms: int) -> bytes:
    """Histogram.start_timestamp = 17: where newer senders put what older ones say of the series."""
    encoded, value = bytearray(b"\x88\x01"), started_ms & 2**64 - 1
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_double(body: bytes, position: int) -> tuple[float, int]:
    """Raises IndexError at the end of the body."""
    if position + 8 > len(body):
        raise IndexError
    value: float = struct.unpack_from("<d", body, position)[0]
    return value, position + 8
