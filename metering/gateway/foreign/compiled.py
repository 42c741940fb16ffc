"""Remote write bodies by the compiled reader: it finds all that is usual and known, the rest is read here.

New series are given their number; series with histograms, exemplars or samples of another form, and fields that are
no series, are read field by field, in the order of the body. A body that is malformed or over a limit is read again
from its beginning by the decoders that are not compiled: they say what is wrong, in the same words everywhere.
"""

from __future__ import annotations

import secrets
import sys
from abc import abstractmethod
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from collector.wire.model import DecodeLimits
from collector.wire.protobuf import decode_whole
from metering.gateway.foreign.loose import Loose
from metering.gateway.foreign.pushed import Pushed, SeriesNumbers
from metering.gateway.foreign.rw1 import Rw1Decoder, read_other
from metering.gateway.foreign.rw1_series import (
    has_labels,
    leading_labels,
    number_of_labels,
    read_contents,
    scattered_labels,
)
from metering.gateway.foreign.rw2 import Rw2Decoder, skip_other
from metering.gateway.foreign.rw2_columns import texts_of
from metering.gateway.foreign.rw2_series import Span, read_metadata, read_refs, read_series, resolve
from metering.gateway.native import Found, Reader, Scanner

SECRET_BYTES = 16


class Decoder(Protocol):
    """Reads the bodies of one tenant's senders. Not for concurrent use."""

    @property
    def known_bytes(self) -> int:
        """About what the series take that are known."""
        ...

    def decode(self, body: bytes | memoryview, limits: DecodeLimits) -> Pushed:
        """The columns of a decompressed body. Raises BodyTooLarge, WireError."""
        ...


def rw1_decoder(numbers: SeriesNumbers, max_bytes: int) -> Decoder:
    """A decoder of remote write 1.0, compiled where the kernel was built; `max_bytes` bounds templates."""
    return Rw1Decoder(numbers, max_bytes) if Reader is None else CompiledRw1(numbers, Reader)


def rw2_decoder(numbers: SeriesNumbers, max_bytes: int) -> Decoder:
    """The same of remote write 2.0."""
    return Rw2Decoder(numbers, max_bytes) if Reader is None else CompiledRw2(numbers, Reader)


class Kind(IntEnum):
    """What the compiled reader leaves: a new series of usual form, any other series, a field that is no series."""

    NEW = 3
    ODD = 4
    OTHER = 5


class Event(NamedTuple):
    """Its field begins at `begin`, its content is `[start, stop)`; `rows` rows from `row` on are its own.

    Where its packed references are and the content of its metadata (0 and 0: none), in remote write 2.0.
    """

    kind: int
    begin: int
    start: int
    stop: int
    row: int
    rows: int
    refs: int
    refs_bytes: int
    metadata: int
    metadata_bytes: int


class _NewReader(Protocol):
    def __call__(self, secret: bytes, /) -> Scanner: ...


class _Compiled:
    def __init__(self, numbers: SeriesNumbers, make: _NewReader) -> None:
        self._numbers = numbers
        self._reader = make(secrets.token_bytes(SECRET_BYTES))

    @property
    def known_bytes(self) -> int:
        return sys.getsizeof(self._reader)

    def decode(self, body: bytes | memoryview, limits: DecodeLimits) -> Pushed:
        found = self._scan(body, limits) if len(body) <= limits.max_decompressed_bytes else None
        if found is None:
            return self._pure().decode(bytes(body), limits)
        columns = _Columns(found)
        if not columns.events:
            return columns.pushed()
        content = bytes(body)
        loose = Loose(content, limits)
        decode_whole(lambda: self._read(content, columns, loose), len(content), limits.max_decompressed_bytes)
        return loose.join_columns(columns.pushed())

    @abstractmethod
    def _scan(self, body: bytes | memoryview, limits: DecodeLimits) -> Found | None: ...

    @abstractmethod
    def _pure(self) -> Decoder:
        """A decoder that knows nothing, for a body that has something wrong."""

    @abstractmethod
    def _read(self, body: bytes, columns: _Columns, loose: Loose) -> None: ...


class CompiledRw1(_Compiled):
    """Remote write 1.0."""

    def _scan(self, body: bytes | memoryview, limits: DecodeLimits) -> Found | None:
        return self._reader.rw1(body, limits.max_series, limits.max_samples, 0, limits.max_labels_per_series)

    def _pure(self) -> Decoder:
        return Rw1Decoder(self._numbers, 0)

    def _read(self, body: bytes, columns: _Columns, loose: Loose) -> None:
        for event in columns.events:
            if event.kind == Kind.OTHER:
                read_other(body, event.begin, loose)
            else:
                self._read_series(body, event, columns, loose)
            loose.check_samples(event.row + event.rows)
        loose.check_samples(len(columns))

    def _read_series(self, body: bytes, event: Event, columns: _Columns, loose: Loose) -> None:
        spans, rest = leading_labels(body, event.start, event.stop, loose)
        is_odd = event.kind == Kind.ODD
        if is_odd and has_labels(body, rest, event.stop, loose):
            number = self._numbers.number(scattered_labels(body, event.start, event.stop, loose))
        else:
            block = body[event.start : rest]
            known = self._reader.find(block)
            number = number_of_labels(body, spans, self._numbers) if known is None else known
            if known is None and number >= 0:  # a refused series may be of any size, and there may be any number
                self._reader.learn(block, number)
        if is_odd:
            read_contents(body, rest, event.stop, number, loose)
        else:
            columns.set_number(event, number)


class CompiledRw2(_Compiled):
    """Remote write 2.0."""

    def _scan(self, body: bytes | memoryview, limits: DecodeLimits) -> Found | None:
        return self._reader.rw2(
            body, limits.max_series, limits.max_samples, limits.max_symbols, limits.max_labels_per_series
        )

    def _pure(self) -> Decoder:
        return Rw2Decoder(self._numbers, 0)

    def _read(self, body: bytes, columns: _Columns, loose: Loose) -> None:
        symbols = [body[begin:end] for begin, end in columns.symbols]
        texts = texts_of(symbols)
        for event in columns.events:
            if event.kind == Kind.OTHER:
                skip_other(body, event.begin, loose)
            elif event.kind == Kind.ODD:
                read_series(body, Span(event.start, event.stop), texts, self._numbers, loose)
            else:
                self._number(body, event, columns, symbols, texts, loose)
            loose.check_samples(event.row + event.rows)
        loose.check_samples(len(columns))

    def _number(
        self, body: bytes, event: Event, columns: _Columns, symbols: list[bytes], texts: list[str], loose: Loose
    ) -> None:
        refs = read_refs(body[event.refs : event.refs + event.refs_bytes])
        key = columns.ids[refs].tobytes()
        number = self._reader.find(key)
        if number is None:
            loose.check_labels(len(refs) // 2)
            number = self._numbers.number_of([symbols[ref] for ref in refs])
            if number is None:
                number = self._numbers.number(resolve(refs, texts))
            if number >= 0:
                self._reader.learn(key, number)
                if event.metadata_bytes:
                    told = Span(event.metadata, event.metadata + event.metadata_bytes)
                    read_metadata(body, told, resolve(refs, texts), texts, loose)
        columns.set_number(event, number)


class _Columns:
    """What the compiled reader found, as arrays."""

    def __init__(self, found: Found) -> None:
        numbers, times, values, starts, events, symbols, ids = found
        self.events = [
            Event(*one) for one in np.frombuffer(events, np.int64).reshape(-1, len(Event._fields)).tolist()
        ]
        self._numbers: npt.NDArray[np.int32] = np.frombuffer(numbers, np.int32)
        if self.events:
            self._numbers = self._numbers.copy()
        self._times = np.frombuffer(times, np.int64)
        self._values = np.frombuffer(values, np.float64)
        self._starts = np.frombuffer(starts, np.int64) if starts else None
        self.symbols: list[list[int]] = np.frombuffer(symbols, np.uint32).reshape(-1, 2).tolist()
        self.ids = np.frombuffer(ids, np.uint32)

    def __len__(self) -> int:
        return len(self._numbers)

    def set_number(self, event: Event, number: int) -> None:
        """The number of a series that was new."""
        self._numbers[event.row : event.row + event.rows] = number

    def pushed(self) -> Pushed:
        return Pushed(self._numbers, self._times, self._values, self._starts)
