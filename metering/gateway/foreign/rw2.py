"""Remote write 2.0 (`io.prometheus.write.v2.Request`, decompressed) by column.

    Request     repeated string symbols = 4; repeated TimeSeries timeseries = 5
    TimeSeries  repeated uint32 labels_refs = 1; Sample samples = 2; Histogram histograms = 3;
                Exemplar exemplars = 4; Metadata metadata = 5;
                int64 created_timestamp = 6 (older senders; now Sample.start_timestamp = 3)

Source: prometheus/docs, specs/prw/remote_write_spec_2_0.md (2.0-rc.4). References mean nothing outside their body,
as most senders number the symbols anew in each. Symbols get numbers that last; a series is known by the hash of
those. A body whose symbols are, byte for byte, those of one before is matched against that one (`skeleton`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from collector.wire.errors import WireError
from collector.wire.model import DecodeLimits
from collector.wire.protobuf import decode_whole, read_varint
from metering.gateway.foreign.frames import find_frames
from metering.gateway.foreign.loose import Loose
from metering.gateway.foreign.pushed import Pushed, SeriesNumbers
from metering.gateway.foreign.rw2_columns import (
    MISSING,
    Bytes,
    KnownSets,
    References,
    Usual,
    find_usual,
    pack_pairs,
    read_references,
    rows_of,
    texts_of,
)
from metering.gateway.foreign.rw2_sections import Section, Sections
from metering.gateway.foreign.rw2_series import Span, is_usual_metadata, read_metadata, read_series, resolve
from metering.gateway.foreign.skeleton import Places, Rows, Series, Skeleton

_SYMBOL, _SERIES, _REFS = 0x22, 0x2A, 0x0A
_SYMBOL_BYTES, _SET_BYTES = 200, 150  # of a dictionary entry, beside the text


class Rw2Decoder:
    """Reads the bodies of one tenant's senders. Not for concurrent use."""

    def __init__(self, numbers: SeriesNumbers, max_bytes: int) -> None:
        self._numbers = numbers
        self._symbols: dict[bytes, int] = {}
        self._symbol_bytes = 0
        self._sets = KnownSets()
        self._sections = Sections(max_bytes)

    @property
    def known_bytes(self) -> int:
        """About what the series take that are known."""
        return self._symbol_bytes + _SET_BYTES * len(self._sets)

    def decode(self, body: bytes | memoryview, limits: DecodeLimits) -> Pushed:
        """The columns of a decompressed body. Raises BodyTooLarge, WireError."""
        body = bytes(body)
        section = self._sections.find(body)
        if section is not None:
            loose = Loose(body, limits)
            pushed = decode_whole(
                lambda: section.read(body, loose, self._numbers), len(body), limits.max_decompressed_bytes
            )
            if pushed is not None:
                return pushed
        loose = Loose(body, limits)
        return decode_whole(lambda: self._read(body, loose, limits), len(body), limits.max_decompressed_bytes)

    def _read(self, body: bytes, loose: Loose, limits: DecodeLimits) -> Pushed:
        padded = Bytes(body)
        symbols, begins, ends = _split_at_once(body, padded, loose) or _split(body, loose, limits)
        if len(begins) and (not symbols or symbols[0]):
            raise WireError.at("symbols[0]", repr(symbols[0]) if symbols else "nothing", "the empty string")
        ids = self._ids_of(symbols)
        usual = _with_usual_metadata(body, find_usual(padded, begins, ends), len(symbols))
        references = read_references(padded, usual, len(symbols)) if len(usual.places) else None
        row_counts = np.zeros(len(begins), np.int64)
        rows = Rows(np.empty(0, np.int32), begins[:0], begins[:0], None)
        if references is not None:
            rows = rows_of(usual, self._numbers_of(body, usual, references, ids, symbols, loose))
            row_counts[usual.places] = 1
        loose.check_samples(len(rows))
        unusual = np.flatnonzero(row_counts == 0).tolist()
        if unusual:
            texts = texts_of(symbols)
            for series in unusual:
                read_series(body, Span(int(begins[series]), int(ends[series])), texts, self._numbers, loose)
        self._remember(body, symbols, Series(_frames(padded, begins), row_counts, rows))
        return loose.join(rows)

    def _ids_of(self, symbols: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The lasting number of each symbol. Raises WireError for bytes that are no UTF-8."""
        known = self._symbols
        try:
            return np.fromiter(map(known.__getitem__, symbols), np.int64, len(symbols))
        except KeyError:
            new = [symbol for symbol in symbols if symbol not in known]
            texts_of(new)
            for symbol in new:
                if symbol not in known:
                    known[symbol] = len(known) + 1  # a pair of nothing must not hash to nothing
                    self._symbol_bytes += _SYMBOL_BYTES + len(symbol)
            return np.fromiter(map(known.__getitem__, symbols), np.int64, len(symbols))

    def _numbers_of(
        self,
        body: bytes,
        usual: Usual,
        references: References,
        ids: npt.NDArray[np.int64],
        symbols: Sequence[bytes],
        loose: Loose,
    ) -> npt.NDArray[np.int32]:
        hashes, checks = self._sets.hashes(pack_pairs(ids[references.refs]), references.ends // 2)
        numbers = self._sets.find(hashes, checks)
        new = np.flatnonzero(numbers == MISSING).tolist()
        if not new:
            return numbers
        texts = texts_of(symbols)
        for series in new:
            refs = references.of(series)
            loose.check_labels(len(refs) // 2)
            number = self._numbers.number_of([symbols[ref] for ref in refs])
            if number is None:
                number = self._numbers.number(resolve(refs, texts))
            numbers[series] = number
            if number >= 0:  # a refused series may be of any size, and there may be any number of them
                self._sets.add(int(hashes[series]), int(checks[series]), number)
                place, size = int(usual.metadata[series]), int(usual.metadata_bytes[series])
                if size:
                    read_metadata(body, Span(place, place + size), resolve(refs, texts), texts, loose)
        return numbers

    def _remember(self, body: bytes, symbols: Sequence[bytes], series: Series) -> None:
        """Keep a body whose symbols came before: they will come again."""
        if not len(series.begins):
            return
        start = int(series.begins[0])
        if self._sections.is_worth_keeping(body, start):
            self._sections.add(Section(body[:start], texts_of(symbols), Skeleton(body, series)))


def _with_usual_metadata(body: bytes, usual: Usual, symbols: int) -> Usual:
    """Those of them whose metadata need not be read field by field."""
    spans = zip(usual.metadata.tolist(), (usual.metadata + usual.metadata_bytes).tolist(), strict=True)
    contents = [body[start:end] for start, end in spans]  # short ones, and the same for all series of a family
    strange = {content for content in set(contents) if not is_usual_metadata(content, symbols)}
    if not strange:
        return usual
    return usual.take(np.flatnonzero([content not in strange for content in contents]))


_Split = tuple[list[bytes], Places, Places]


def _split_at_once(body: bytes, padded: Bytes, loose: Loose) -> _Split | None:
    """The same as `_split` for a body of symbols, then series, then nothing; None for any other. BodyTooLarge."""
    symbols = find_frames(padded.bytes, _SYMBOL, 0)
    if symbols is None:
        return None
    loose.check_symbols(len(symbols.tags))
    series = find_frames(padded.bytes, _SERIES, symbols.stop(0), _REFS)
    if series is None or series.stop(symbols.stop(0)) != len(body):
        return None
    loose.check_series(len(series.tags))
    spans = zip(symbols.begins.tolist(), symbols.ends.tolist(), strict=True)
    return [body[start:end] for start, end in spans], series.begins, series.ends


def _split(body: bytes, loose: Loose, limits: DecodeLimits) -> _Split:
    """The symbols, and where the contents of the series begin and end. They may stand in any order."""
    symbols: list[bytes] = []
    begins: list[int] = []
    ends: list[int] = []
    position, end = 0, len(body)
    while position < end:
        tag = body[position]
        if tag == _SERIES:
            size, start = body[position + 1], position + 2
            if size >= 0x80:
                size, start = read_varint(body, position + 1)
            position = start + size
            begins.append(start)
            ends.append(position)
        elif tag == _SYMBOL:
            size, start = body[position + 1], position + 2
            if size >= 0x80:
                size, start = read_varint(body, position + 1)
            position = start + size
            symbols.append(body[start:position])
            if len(symbols) > limits.max_symbols:
                loose.check_symbols(len(symbols))
        else:
            position = skip_other(body, position, loose)
        if begins and not len(begins) & 0xFFF:
            loose.check_series(len(begins))
    loose.check_series(len(begins))
    if position > end:
        raise WireError.at("body", f"a field that ends at byte {position}", f"an end at byte {end}")
    return symbols, np.array(begins, np.int64), np.array(ends, np.int64)


def skip_other(body: bytes, position: int, loose: Loose) -> int:
    """The position after a field that is neither symbol nor series. Raises BodyTooLarge, WireError."""
    tag, position = read_varint(body, position)
    if tag in {_SYMBOL, _SERIES}:
        raise WireError.at(f"byte {position}", f"the tag {tag} in more bytes than it takes", "one byte")
    if tag >> 3 in {1, 2, 3, 4, 5}:  # 1 to 3 are remote write 1.0's: the content type is wrong
        raise WireError.at(f"byte {position}", f"the tag {tag}", "symbols and timeseries of remote write 2.0")
    return loose.skip(tag, position, len(body))


def _frames(body: Bytes, begins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where the fields begin whose contents begin here."""
    frames = begins - 2
    while True:
        longer = body.at(frames) != _SERIES
        # The length's bytes lie between the tag and the content; all but its last one have the top bit set.
        if not longer.any():
            return frames
        frames = frames - longer
