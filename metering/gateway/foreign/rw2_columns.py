"""All series of a remote write 2.0 body at once, those that hold one sample: numpy over the bytes of the body."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import repeat

import numpy as np
import numpy.typing as npt

from collector.wire.errors import WireError
from metering.gateway.foreign.skeleton import Places, Rows

MISSING = -(2**31)
_PADDING = 8
_TOPS, _ALL_BUT_LAST = np.uint64(0x8080_8080_8080), np.uint64(0x0080_8080_8080)  # top bits of a varint of six bytes
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Usual:
    """Series of usual form: references, one sample, perhaps metadata and a start. Arrays by series."""

    places: Places  # among all series of the body
    refs: Places
    ref_bytes: Places
    metadata: Places  # where its content begins, 0: none
    metadata_bytes: Places
    values: Places
    times: Places
    starts: Places

    def take(self, chosen: Places) -> Usual:
        """These of them, by their places here."""
        columns = (getattr(self, column.name)[chosen] for column in fields(self))
        return Usual(*columns)


class Bytes:
    """A body with room behind it, so that no look beyond its end needs a check."""

    def __init__(self, body: bytes) -> None:
        padded = np.zeros(len(body) + _PADDING, np.uint8)
        padded[: len(body)] = np.frombuffer(body, np.uint8)
        self.bytes = padded
        self._words = np.ndarray(len(body) + _PADDING - 7, "<u8", padded.data, strides=(1,))

    def at(self, places: Places) -> Places:
        """The byte at each place."""
        return self.bytes[np.minimum(places, len(self.bytes) - 1)].astype(np.int64)

    def is_time(self, places: Places) -> npt.NDArray[np.bool_]:
        """Whether a varint of exactly six bytes stands at each place."""
        words = self._words[np.minimum(places, len(self._words) - 1)]
        found: npt.NDArray[np.bool_] = (words & _TOPS) == _ALL_BUT_LAST
        return found


def find_usual(body: Bytes, begins: Places, ends: Places) -> Usual:
    """The series `[begins, ends)` (contents of their messages) that are of usual form."""
    width = body.at(begins + 1)
    refs = begins + 2
    place = refs + width
    good = (body.at(begins) == 0x0A) & (width < 0x80) & (width > 0)
    early, early_bytes, place = _metadata(body, place, ends)
    size = body.at(place + 1)
    has_value, has_start = (size == 16) | (size == 23), (size == 23) | (size == 14)
    good &= (body.at(place) == 0x12) & (has_value | (size == 7) | (size == 14))
    good &= ~has_value | (body.at(place + 2) == 0x09)
    values = np.where(has_value, place + 3, -1)
    times = place + 3 + 9 * has_value
    good &= (body.at(times - 1) == 0x10) & body.is_time(times)
    starts = np.where(has_start, times + 7, -1)
    good &= ~has_start | (body.at(times + 6) == 0x18) & body.is_time(times + 7)
    late, late_bytes, place = _metadata(body, place + 2 + size, ends)
    is_created = (place < ends) & (body.at(place) == 0x30) & body.is_time(place + 1)
    starts = np.where(is_created & ~has_start, place + 1, starts)
    good &= (place + 7 * is_created == ends) & ((early == 0) | (late == 0))
    metadata, metadata_bytes = np.where(early > 0, early, late), np.where(early > 0, early_bytes, late_bytes)
    chosen = np.flatnonzero(good)
    columns = (refs, width, metadata, metadata_bytes, values, times, starts)
    return Usual(chosen, *(column[chosen] for column in columns))


def _metadata(body: Bytes, place: Places, ends: Places) -> tuple[Places, Places, Places]:
    """Where the content of a metadata field is that begins here, how long it is, and the place behind it."""
    size = body.at(place + 1)
    here = (place < ends) & (body.at(place) == 0x2A) & (size < 0x80)
    return np.where(here, place + 2, 0), np.where(here, size, 0), place + np.where(here, 2 + size, 0)


@dataclass(frozen=True, slots=True)
class References:
    """The references of all series one after the other; series i ends before `ends[i]`."""

    refs: Places
    ends: Places

    def of(self, series: int) -> list[int]:
        found: list[int] = self.refs[self.ends[series - 1] if series else 0 : self.ends[series]].tolist()
        return found


def read_references(body: Bytes, usual: Usual, symbols: int) -> References | None:
    """All references; None when any is spelt in a strange way. Raises WireError for one of no symbol or no pair."""
    ends = usual.ref_bytes.cumsum()
    total = int(ends[-1])
    found = body.bytes[np.repeat(usual.refs - ends + usual.ref_bytes, usual.ref_bytes) + np.arange(total)]
    is_last = found < 0x80
    if not is_last[ends - 1].all():
        raise WireError.at("labels_refs", "a reference that runs over its field", "whole references")
    if is_last.all():
        refs, ref_ends = found.astype(np.int64), ends
    else:
        lasts = np.flatnonzero(is_last)
        firsts = np.concatenate([[0], lasts[:-1] + 1])
        widths = lasts - firsts
        if int(widths.max()) > 2:
            return None
        refs = (found[firsts] & 0x7F).astype(np.int64)
        for byte in (1, 2):
            longer = np.flatnonzero(widths >= byte)
            refs[longer] |= (found[firsts[longer] + byte] & 0x7F).astype(np.int64) << 7 * byte
        ref_ends = is_last.cumsum()[ends - 1]
    if int(refs.max()) >= symbols:
        raise WireError.at("labels_refs", int(refs.max()), f"an index of the {symbols} symbols")
    if (ref_ends & 1).any():
        raise WireError.at("labels_refs", "an odd number of references", "pairs of a name and a value")
    return References(refs, ref_ends)


class KnownSets:
    """Label sets by 128 bits that depend on their pairs, on the order of these, and on secret numbers."""

    def __init__(self) -> None:
        self._secrets = [np.uint64(secrets.randbits(64) | 1) for _ in range(5)]
        self._entries: dict[int, int] = {}
        self._numbers = np.zeros(1024, np.int32)
        self._checks = np.zeros(1024, np.uint64)

    def __len__(self) -> int:
        return len(self._entries)

    def hashes(self, pairs: Words, ends: Places) -> tuple[Words, Words]:
        """The hash of each set of pairs; set i ends before `ends[i]` and is not empty."""
        begins = np.concatenate([[0], ends[:-1]])
        one, two, three, four, five = self._secrets
        places = (np.arange(len(pairs)) - np.repeat(begins, ends - begins)).astype(np.uint64)
        mixed = pairs * one + places * five
        mixed ^= mixed >> np.uint64(32)
        mixed *= two
        mixed ^= mixed >> np.uint64(29)
        other = mixed * three
        other ^= other >> np.uint64(31)
        other *= four
        return np.add.reduceat(mixed, begins), np.add.reduceat(other, begins)

    def find(self, hashes: Words, checks: Words) -> npt.NDArray[np.int32]:
        """The number of each set, MISSING for an unknown one."""
        found = np.fromiter(map(self._entries.get, hashes.tolist(), repeat(-1)), np.int64, len(hashes))
        is_known = (found >= 0) & (self._checks[found] == checks)
        return np.where(is_known, self._numbers[found], np.int32(MISSING))

    def add(self, key: int, check: int, number: int) -> None:
        """Remember a set."""
        entry = self._entries.setdefault(key, len(self._entries))
        if entry >= len(self._numbers):
            self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
            self._checks = np.concatenate([self._checks, np.zeros_like(self._checks)])
        self._numbers[entry], self._checks[entry] = number, check


def rows_of(usual: Usual, numbers: npt.NDArray[np.int32]) -> Rows:
    """The samples of series with these numbers."""
    starts = usual.starts if len(usual.starts) and int(usual.starts.max()) >= 0 else None
    return Rows(numbers, usual.values, usual.times, starts)


def pack_pairs(ids: Places) -> Words:
    """Names and values, by number and in turn, as one word a pair."""
    found: Words = (ids[0::2] << 32 | ids[1::2]).astype(np.uint64)
    return found


def texts_of(symbols: Sequence[bytes]) -> list[str]:
    """The symbols as text. Raises WireError."""
    try:
        return [symbol.decode() for symbol in symbols]
    except UnicodeDecodeError as error:
        raise WireError.at("symbols", repr(error.object[:40]), "UTF-8 text") from None
