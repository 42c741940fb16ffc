"""Samples while they are decoded: values as the 8 bytes that were sent, so that no NaN loses its bits."""

from __future__ import annotations

import sys
from array import array

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import Decoded, DecodeLimits, Labels
from collector.wire.protobuf import check_within, read_int64, read_varint, skip_field

_VALUE, _TIMESTAMP, _START = 0x09, 0x10, 0x18  # Sample: double value = 1, int64 timestamp = 2, start_timestamp = 3
_ZERO = bytes(8)


class SampleColumns:
    """Grows by one message at a time, within the limits of a body."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.decoded = Decoded()
        self.limits = limits
        self._labels = 0
        self._values = bytearray()
        self._known_times: dict[bytes, int] = {}  # the six bytes of a timestamp repeat through a body

    def add_series(self, labels: Labels) -> int:
        """The index of a new series. Raises BodyTooLarge."""
        series = self.decoded.series
        self._labels += len(labels)
        if len(series) >= self.limits.max_series or self._labels > self.limits.max_labels:
            allowed = f"at most {self.limits.max_series} series with {self.limits.max_labels} labels in one body"
            raise BodyTooLarge.at("timeseries", f"series {len(series) + 1}, {self._labels} labels", allowed)
        series.append(labels)
        return len(series) - 1

    def check_labels(self, count: int) -> None:
        """Raises BodyTooLarge when one series has that many labels."""
        if count > self.limits.max_labels_per_series:
            allowed = f"at most {self.limits.max_labels_per_series} in one series"
            raise BodyTooLarge.at("labels", f"{count} or more", allowed)

    def replace_series(self, index: int, labels: Labels) -> None:
        """Give series `index` its real labels, which came late. Raises BodyTooLarge."""
        self.add_series(labels)
        self.decoded.series[index] = self.decoded.series.pop()

    def add_sample(self, body: bytes, start: int, end: int, series: int) -> None:
        """Append the Sample message in `[start, end)`. Raises BodyTooLarge, WireError."""
        decoded = self.decoded
        if len(decoded.timestamps_ms) >= self.limits.max_samples:
            raise BodyTooLarge.at("samples", f"over {self.limits.max_samples}", "no more than that in one body")
        # What nearly every sample looks like: a value, then a time between 1971 and 2109 as six bytes.
        if end - start == 16 and body[start] == _VALUE and body[start + 9] == _TIMESTAMP:
            time = self._known_times.get(body[start + 10 : end])
            if time is None:
                time, position = read_int64(body, start + 10)
                check_within(position, end)
                if position != end:
                    self._add_slowly(body, start, end, series)
                    return
                self._known_times[body[start + 10 : end]] = time
            self._values += body[start + 1 : start + 9]
            decoded.timestamps_ms.append(time)
            decoded.series_index.append(series)
            return
        self._add_slowly(body, start, end, series)

    def _add_slowly(self, body: bytes, start: int, end: int, series: int) -> None:
        value, time, position = _ZERO, 0, start  # proto3 leaves out what is zero
        while position < end:
            tag, position = read_varint(body, position)
            if tag == _VALUE:
                value, position = body[position : position + 8], position + 8
            elif tag == _TIMESTAMP:
                time, position = read_int64(body, position)
            elif tag == _START:
                _, position = read_int64(body, position)
            elif tag >> 3 in {1, 2, 3}:
                raise WireError.at(
                    f"byte {position}", f"the tag {tag} in a sample", "value, timestamp as specified"
                )
            else:
                position = skip_field(body, tag, position, end)
            check_within(position, end)
        self._values += value
        self.decoded.timestamps_ms.append(time)
        self.decoded.series_index.append(series)

    def finish(self) -> Decoded:
        """All that was added."""
        values = array("d")
        values.frombytes(bytes(self._values))
        if sys.byteorder == "big":
            values.byteswap()
        self.decoded.values = values
        return self.decoded
