"""A reader of frames written from docs/wire.md alone: no numpy, nothing of the product. Good bodies only.

It is slow and trusts what it reads; it exists to prove that the page is enough. Section numbers are the page's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from hashlib import blake2b

import zstandard

ROOT, PATCH, COLUMNS, KEYFRAME, ABSENT, EXTRAS = 1, 2, 4, 8, 16, 32
WORD = (1 << 64) - 1
STALE = 0x7FF0000000000002
Row = tuple[bytes, int, int]  # entry, ms, the bits of the value


class Unknown(Exception):
    """The state that a block needs is not there."""


class Bytes:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.content)
        return self.content[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            [octet] = self.take(1)
            value |= (octet & 127) << shift
            if octet < 128:
                return value
            shift += 7

    def planes(self, count: int) -> list[int]:
        [used] = self.take(1)
        octets = self.take(used * count)
        return [sum(octets[plane * count + i] << 8 * plane for plane in range(used)) for i in range(count)]

    def slots(self) -> list[int]:
        found: list[int] = []
        count = self.varint()
        for gap in self.planes(count) if count else []:
            found.append(gap + (found[-1] + 1 if found else 0))
        return found

    def section(self) -> Bytes:
        size, coded = self.varint(), self.varint()
        if not coded:
            return Bytes(self.take(size))
        return Bytes(zstandard.ZstdDecompressor().decompress(self.take(coded)))


def signed(word: int) -> int:
    word &= WORD
    return word - (1 << 64) if word >> 63 else word


def unzigzag(coded: int) -> int:
    return signed((coded >> 1) ^ -(coded & 1))


def bits_of(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def arranged(places: list[int], classes: list[int]) -> list[list[int]]:
    """2.3: the three groups."""
    groups: list[list[int]] = [[], [], []]
    for place, kind in zip(places, classes, strict=True):
        groups[0 if kind == 0 else 2 if kind == 255 else 1].append(place)
    return groups


@dataclass
class Stream:
    version: int
    name: bytes = b""
    entries: dict[int, bytes] = field(default_factory=dict)
    bases: dict[int, tuple[int, int]] = field(default_factory=dict)  # class, integer


def value_of(base: tuple[int, int]) -> int:
    kind, integer = base
    return integer & WORD if kind == 255 else bits_of(integer / 10**kind if kind else float(integer))


def read_bases(section: Bytes, count: int) -> list[tuple[int, int]]:
    classes = list(section.take(count))
    found: list[tuple[int, int]] = [(0, 0)] * count
    for group in arranged(list(range(count)), classes):
        for place, coded in zip(group, section.planes(len(group)) if group else [], strict=True):
            kind = classes[place]
            found[place] = (kind, coded if kind == 255 else unzigzag(coded))
    return found


def read_values(section: Bytes, bases: list[tuple[int, int]]) -> list[int]:
    """2.3: the bits of a value for each base."""
    found = [0] * len(bases)
    groups = arranged(list(range(len(bases))), [kind for kind, _ in bases])
    for group in groups:
        for place, coded in zip(group, section.planes(len(group)) if group else [], strict=True):
            kind, base = bases[place]
            integer = (coded ^ base) & WORD if kind == 255 else signed(base + unzigzag(coded))
            found[place] = value_of((kind, integer))
    order = [place for group in groups for place in group]
    for exception in section.slots():
        found[order[exception]] = -1
    for place in [place for place in order if found[place] == -1]:
        found[place] = int.from_bytes(section.take(8), "little")
    return found


class Plain:
    """The state of one group."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}

    def read(self, body: bytes) -> tuple[list[Row], list[tuple[bytes, bytes]], list[tuple[bytes, int, int, bytes]]]:
        """Samples, histograms and exemplars of a body."""
        magic, version, _, blocks, samples, checksum = struct.unpack("<3sBQIII", body[:24])
        assert (magic, version) == (b"BYF", 1)
        assert zlib.crc32(body[:20] + body[24:]) == checksum
        self.rows: list[Row] = []
        self.histograms: list[tuple[bytes, bytes]] = []
        self.exemplars: list[tuple[bytes, int, int, bytes]] = []
        self.starts: list[tuple[bytes, int]] = []
        self.metadata: list[tuple[str, int, str, str]] = []
        content, counted = Bytes(body[24:]), 0
        for _ in range(blocks):
            counted += self.block(Bytes(content.take(content.varint())))
        assert content.at == len(content.content)
        assert counted == samples == len(self.rows) + len(self.histograms)
        return self.rows, self.histograms, self.exemplars

    def block(self, block: Bytes) -> int:
        [flags] = block.take(1)
        number, at_ms, samples, version = (block.varint() for _ in range(4))
        step = block.varint() if flags & (PATCH | KEYFRAME) and not flags & ROOT else 0
        before = b"" if flags & ROOT else block.take(4)
        name = block.take(16) if flags & PATCH else b""
        known = self.streams.get(number)
        if flags & ROOT:
            stream = Stream(version - step)
        elif known is None or known.version != version - step or known.name[:4] != before:
            raise Unknown(number)  # repeats are left to readers that meet them
        else:
            stream = known
        old = dict(stream.entries)
        if flags & PATCH:
            self.patch(stream, block.section(), name)
        stream.version = version
        self.streams[number] = stream
        if flags & COLUMNS:
            self.columns(stream, block.section(), flags, at_ms)
        if flags & EXTRAS:
            self.extras(stream, block.section(), old, at_ms)
        assert block.at == len(block.content)
        return samples

    def patch(self, stream: Stream, section: Bytes, name: bytes) -> None:
        freed, born = section.slots(), section.slots()
        entries = [section.take(length) for length in section.planes(len(born))]
        for slot in freed:
            del stream.entries[slot], stream.bases[slot]
        stream.entries.update(zip(born, entries, strict=True))
        stream.bases.update(zip(born, read_bases(section, len(born)), strict=True))
        digests = [
            blake2b(slot.to_bytes(4, "little") + entry, digest_size=16) for slot, entry in stream.entries.items()
        ]
        total = sum(int.from_bytes(digest.digest(), "little") for digest in digests) % (1 << 128)
        count = len(digests).to_bytes(4, "little")
        stream.name = blake2b(total.to_bytes(16, "little") + count, digest_size=16).digest()
        assert stream.name == name

    def columns(self, stream: Stream, section: Bytes, flags: int, at_ms: int) -> None:
        cell = section.varint()
        slots = [slot for slot in sorted(stream.entries) if slot // 65_536 == cell]
        if flags & ABSENT:
            present = int.from_bytes(section.take((len(slots) + 7) // 8), "little")
            slots = [slot for place, slot in enumerate(slots) if present >> place & 1]
        if flags & KEYFRAME:
            stream.bases.update(zip(slots, read_bases(section, len(slots)), strict=True))
            values = [value_of(stream.bases[slot]) for slot in slots]
        else:
            values = read_values(section, [stream.bases[slot] for slot in slots])
        self.rows += [(stream.entries[slot], at_ms, value) for slot, value in zip(slots, values, strict=True)]

    def extras(self, stream: Stream, section: Bytes, old: dict[int, bytes], at_ms: int) -> None:
        self.rows += [(old[slot], at_ms, STALE) for slot in section.slots()]
        if count := section.varint():
            slots: list[int] = []
            for coded in section.planes(count):
                slots.append((slots[-1] if slots else 0) + unzigzag(coded))
            times = [at_ms + unzigzag(coded) for coded in section.planes(count)]
            values = read_values(section, [stream.bases[slot] for slot in slots])
            names = [stream.entries[slot] for slot in slots]
            self.rows += zip(names, times, values, strict=True)
        for _ in range(section.varint()):
            slot = section.varint()
            self.histograms.append((stream.entries[slot], section.take(section.varint())))
        for _ in range(section.varint()):
            slot, value = section.varint(), int.from_bytes(section.take(8), "little")
            time = at_ms + unzigzag(section.varint())
            self.exemplars.append((stream.entries[slot], value, time, section.take(section.varint())))
        while section.at < len(section.content):
            kind, part = section.varint(), Bytes(section.take(section.varint()))
            if kind == 1:
                slots = part.slots()
                times = [at_ms - unzigzag(coded) for coded in part.planes(len(slots))]
                self.starts += [(stream.entries[slot], start) for slot, start in zip(slots, times, strict=True)]
            elif kind == 2:
                for _ in range(part.varint()):
                    [of] = part.take(1)
                    family, unit, text = (part.take(part.varint()).decode() for _ in range(3))
                    self.metadata.append((family, of, unit, text))
