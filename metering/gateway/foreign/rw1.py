"""Remote write 1.0 (`prometheus.WriteRequest`, decompressed) by column.

    WriteRequest  repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3
    TimeSeries    repeated Label labels = 1; Sample samples = 2; Exemplar exemplars = 3; Histogram histograms = 4

Source: prometheus/docs, specs/prw/remote_write_spec.md. Runs of series that stood in this order before are matched
against what is remembered (`skeleton`); where a run breaks, one series is read, by the bytes of its labels.
"""

from __future__ import annotations

from collector.wire.errors import WireError
from collector.wire.model import DecodeLimits
from collector.wire.protobuf import decode_whole, read_span, read_varint
from metering.gateway.foreign.loose import Loose
from metering.gateway.foreign.pushed import Pushed, SeriesNumbers
from metering.gateway.foreign.rw1_series import (
    has_labels,
    leading_labels,
    number_of_labels,
    read_contents,
    read_metadata,
    scattered_labels,
)
from metering.gateway.foreign.skeleton import Skeleton
from metering.gateway.foreign.skeletons import Skeletons
from metering.gateway.foreign.walk import Walk

_SERIES, _METADATA = 0x0A, 0x1A
_SAMPLE, _ZERO_SAMPLE = b"\x12\x10\x09", b"\x12\x07\x10"  # as they begin, with a time of six bytes
_USUAL, _USUAL_ZERO = 18, 9  # bytes of such a sample
_ENTRY_BYTES = 180  # of a dictionary, beside the key


class Rw1Decoder:
    """Reads the bodies of one tenant's senders. Not for concurrent use."""

    def __init__(self, numbers: SeriesNumbers, max_bytes: int) -> None:
        self._numbers = numbers
        self._known: dict[bytes, int] = {}
        self._known_bytes = 0
        self._skeletons = Skeletons(max_bytes)

    @property
    def known_bytes(self) -> int:
        """About what the series take that are known."""
        return self._known_bytes

    def decode(self, body: bytes | memoryview, limits: DecodeLimits) -> Pushed:
        """The columns of a decompressed body. Raises BodyTooLarge, WireError."""
        body = bytes(body)
        loose = Loose(body, limits)
        walk = Walk(body)
        decode_whole(lambda: self._read(body, walk, loose), len(body), limits.max_decompressed_bytes)
        rows = walk.rows()
        if walk.is_worth_keeping:
            self._skeletons.add(Skeleton(body, walk.series_of(rows)))
        return loose.join(rows)

    def _read(self, body: bytes, walk: Walk, loose: Loose) -> None:
        position, end = 0, len(body)
        find = self._skeletons.find
        while position < end:
            if body[position] != _SERIES:
                position = read_other(body, position, loose)
                continue
            number, position = self._read_series(body, position, walk, loose)
            found = find(number)
            if found:
                position = walk.follow(*found, position)
            loose.check_series(walk.series)
            loose.check_samples(walk.row_count)

    def _read_series(self, body: bytes, position: int, walk: Walk, loose: Loose) -> tuple[int, int]:
        """The number of a series, and the position after it."""
        length, start = body[position + 1], position + 2
        if length >= 0x80:
            high = body[start]
            if high < 0x80:
                length, start = length & 0x7F | high << 7, start + 1
            else:
                length, start = read_varint(body, position + 1)
        stop = start + length
        if stop > len(body):
            raise WireError.at(f"byte {position}", f"a series of {length} bytes", "one within its request")
        # Known labels and then a sample of the usual form, to the end: the labels' bytes were read once, so this is
        # how anyone would read them again.
        if body[stop - _USUAL : stop - 15] == _SAMPLE and body[stop - 7] == 0x10 and walk.is_time(stop - 6):
            number = self._known.get(body[start : stop - _USUAL])
            if number is not None:
                walk.add_one(position, number, stop - 15, stop - 6)
                return number, stop
        elif body[stop - _USUAL_ZERO : stop - 6] == _ZERO_SAMPLE and walk.is_time(stop - 6):
            number = self._known.get(body[start : stop - _USUAL_ZERO])
            if number is not None:
                walk.add_one(position, number, -1, stop - 6)
                return number, stop
        return self._read_unusual(body, (position, start, stop), walk, loose), stop

    def _read_unusual(self, body: bytes, places: tuple[int, int, int], walk: Walk, loose: Loose) -> int:
        """The number of a series that is new, or holds other things than one sample."""
        position, start, stop = places
        spans, rest = leading_labels(body, start, stop, loose)
        samples = walk.usual_samples(rest, stop)
        if samples is None and has_labels(body, rest, stop, loose):
            number = self._numbers.number(scattered_labels(body, start, stop, loose))
        else:
            number = self._number_of(body, body[start:rest], spans)
        walk.add_series(position, number, samples or [])
        if samples is None:
            read_contents(body, rest, stop, number, loose)
        return number

    def _number_of(self, body: bytes, block: bytes, spans: list[tuple[int, int]]) -> int:
        number = self._known.get(block)
        if number is None:
            number = number_of_labels(body, spans, self._numbers)
            if number >= 0:  # a refused series may be of any size, and there may be any number of them
                self._known[block] = number
                self._known_bytes += _ENTRY_BYTES + len(block)
        return number


def read_other(body: bytes, position: int, loose: Loose) -> int:
    """The position after a field that is no series. Raises BodyTooLarge, WireError."""
    tag, position = read_varint(body, position)
    if tag == _METADATA:
        start, position = read_span(body, position, len(body))
        read_metadata(body, start, position, loose)
        return position
    if tag >> 3 in {1, 3, 4, 5}:  # 4 and 5 are remote write 2.0's: the content type is wrong
        raise WireError.at(f"byte {position}", f"the tag {tag}", "timeseries and metadata of remote write 1.0")
    return loose.skip(tag, position, len(body))
