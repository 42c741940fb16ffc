"""A body read line by line and by each reader, and compared: rows, their order, types, which row was which."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pytest

from collector.exposition import (
    ExpositionError,
    MetricType,
    PageNeeded,
    RawExemplar,
    Reader,
    Reading,
    parse_strictly,
)
from collector.exposition.columnar import ColumnReader
from collector.exposition.native import NativeReader
from collector.native import KeyTable

WITHOUT_KERNEL = "the kernel is not built: a C compiler or Python's headers are missing"


def native_reader() -> NativeReader:
    """A reader by the kernel; the test is left out where there is none."""
    if KeyTable is None:
        pytest.skip(WITHOUT_KERNEL)
    return NativeReader(KeyTable)


READERS: Mapping[str, Callable[[], Reader]] = {"pure": ColumnReader, "native": native_reader}


@dataclass(frozen=True)
class Parsed:
    """The rows of a body in its order; a NaN is compared by its bits."""

    keys: list[bytes]
    values: list[float]
    bits: list[bytes]
    timestamps: dict[int, int]
    exemplars: dict[int, list[RawExemplar]]
    types: dict[str, MetricType]


def read_both_ways(bodies: Iterable[bytes], content_type: str, *, or_refused: bool = False) -> list[Parsed]:
    """What the bodies say, one after the other of one target. Raises ExpositionError, unless `or_refused`.

    Fails when a reader and the strict parser disagree about anything.
    """
    some = [(body, _strict(body, content_type)) for body in bodies]
    pure = _read_and_compare(ColumnReader(), some, content_type, or_refused=or_refused)
    if KeyTable is not None:
        for reader in (NativeReader(KeyTable), PiecewiseReader(KeyTable)):
            assert _read_and_compare(reader, some, content_type, or_refused=or_refused) == pure
    return pure


class PiecewiseReader(NativeReader):
    """Reads each body as it comes, in pieces of all sizes, and whole where that is asked for."""

    _dice = random.Random(5)
    streamed = 0  # bodies that were not asked for whole

    def read(self, body: bytearray, content_type: str) -> Reading:
        stream = self.stream(content_type)
        if stream is None:
            return super().read(body, content_type)
        at, most = 0, self._dice.choice((3, 50, 10_000, 10**9))
        while at < len(body):
            size = self._dice.randint(1, most) if len(body) < 100_000 else max(most, 5_000)
            piece = bytearray(body[at : at + size])
            stream.add(memoryview(piece))
            piece[:] = bytes(len(piece))  # it is not looked at any more
            at += size
        try:
            reading = stream.finish()
        except PageNeeded:
            return super().read(body, content_type)
        self.streamed += 1
        return reading


def _read_and_compare(
    reader: Reader, bodies: Iterable[tuple[bytes, Parsed | ExpositionError]], content_type: str, *, or_refused: bool
) -> list[Parsed]:
    read: list[Parsed] = []
    last: list[bytes] = []
    numbers: dict[int, bytes] = {}
    for body, expected in bodies:
        scratch = bytearray(body)
        try:
            reading = reader.read(scratch, content_type)
        except ExpositionError:
            if or_refused and isinstance(expected, ExpositionError):
                continue
            raise
        finally:
            assert scratch == body
        numbers = keys_by_number(reading, numbers)
        keys = [numbers[number] for number in reading.numbered.rows.tolist()]
        assert _by_column(reading, keys) == expected, body
        assert not reading.is_same or keys == last
        last = keys
        reader.keep(reading)
        assert not isinstance(expected, ExpositionError)
        read.append(expected)
    return read


def _strict(body: bytes, content_type: str) -> Parsed | ExpositionError:
    try:
        rows = parse_strictly(body, content_type)
    except ExpositionError as refusal:
        return refusal
    bits = [struct.pack("<d", value) for value in rows.values]
    return Parsed(rows.keys, rows.values, bits, rows.timestamps, rows.exemplars, rows.types)


class _Nothing:
    """Equal to any list: of values that were compared by their bits."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _by_column(reading: Reading, keys: list[bytes]) -> Parsed:
    order = reading.order()
    rows = list(range(len(reading))) if order is None else sorted(range(len(reading)), key=order.__getitem__)
    place = {row: at for at, row in enumerate(rows)}
    values = [float(reading.values[row]) for row in rows]
    return Parsed(
        [keys[row] for row in rows],
        _Nothing(),  # type: ignore[arg-type]
        [struct.pack("<d", value) for value in values],
        {place[row]: at for row, at in reading.timestamps.items()},
        {place[row]: list(some) for row, some in reading.exemplars.items()},
        dict(reading.types),
    )


def keys_by_number(reading: Reading, last: dict[int, bytes]) -> dict[int, bytes]:
    """The keys by number, as whoever looks at what was born and what is gone alone knows them.

    Of new rows the reader tells the key; what it says of others is compared with what the strict parser reads.
    """
    numbered = reading.numbered
    born, gone = set(numbered.born.tolist()), set(numbered.gone.tolist())
    assert len(born) == len(numbered.born)
    assert not born & (gone | last.keys())
    assert gone <= last.keys()
    keys = {number: key for number, key in last.items() if number not in gone}
    assert len(numbered.rows) == len(reading)
    fresh = dict(zip(reading.fresh.tolist(), reading.keys(reading.fresh), strict=True))
    for row, number in enumerate(numbered.rows.tolist()):
        assert 0 <= number < numbered.limit
        assert number in keys or number in born
        if row in fresh:
            assert keys.setdefault(number, fresh[row]) == fresh[row] == reading.key(row)
    assert keys.keys() == set(numbered.rows.tolist())
    assert all(row in fresh or number in last for row, number in enumerate(numbered.rows.tolist()))
    if not reading.is_same:
        assert {keys[number] for number in born} <= set(fresh.values())
    return keys
