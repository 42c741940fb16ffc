"""Bodies that nobody vouches for: refused with the right error, and never more memory than a limit allows."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.frames import (
    FrameLimits,
    GroupGuard,
    GroupReader,
    StreamEncoder,
    UnknownState,
    join_blocks,
    open_body,
)
from collector.wire.frames.body import COLUMNS, EXTRAS, PATCH, ROOT, Head
from collector.wire.frames.layout import planes, slot_list, varint
from tests.effort import costly
from tests.wire.frames.world import Numbers, Target, entry, reader

LIMITS = FrameLimits()
A, B = entry("a"), entry("b", pod="ü")


def resealed(body: bytes) -> bytes:
    """The body with a checksum that fits it."""
    return body[:20] + struct.pack("<I", zlib.crc32(body[24:], zlib.crc32(body[:20]))) + body[24:]


def of_blocks(*blocks: bytes, samples: int = 0) -> bytes:
    """A body of blocks that no encoder would make."""
    content = b"".join(varint(len(block)) + block for block in blocks)
    return resealed(struct.pack("<3sBQIII", b"BYF", 1, 1, len(blocks), samples, 0) + content)


def section(raw: bytes, size: int | None = None) -> bytes:
    """A compressed section, with a size that may be a lie."""
    coded = zstandard.ZstdCompressor().compress(raw)
    return varint(len(raw) if size is None else size) + varint(len(coded)) + coded


def head(flags: int, samples: int = 0, name: bytes = bytes(16)) -> bytes:
    return Head(flags, 1, 1000, samples, 1024, 1023, b"", bytes(4), name).render()


def made() -> list[bytes]:
    """The bodies of some scrapes with everything in them."""
    target, found = Target(keyframe_every=2), []
    for turn in range(4):
        values = {A: 1.5 + turn, **({B: 7.0} if turn % 2 else {})}
        tick, _ = target.scrape(
            values,
            dated=[(A, 17, 2.0)],
            histograms=[(A, b"histogram")],
            exemplars=[(A, 1.0, 3, b"id\xffx\xff")],
        )
        found.append(join_blocks(1, target.encoder.encode(tick, 1)))
    return found


GOOD = made()


def outcome(call: Callable[[], object]) -> type[Exception] | None:
    try:
        call()
    except (WireError, UnknownState) as error:
        return type(error)
    return None


@costly(600)
@given(st.integers(0, len(GOOD) - 1), st.randoms(use_true_random=False), st.integers(1, 4), st.booleans())
def test_damage_is_always_told_in_the_same_way(
    which: int, dice: random.Random, flips: int, is_sealed: bool
) -> None:
    """Flipped, cut or lengthened, with the old checksum or one that fits: no other error, in any of the three."""
    body = bytearray(GOOD[which])
    for _ in range(flips):
        body[dice.randrange(len(body))] = dice.randrange(256)
    if dice.random() < 0.3:
        del body[dice.randrange(len(body)) :]
    damaged = resealed(bytes(body)) if is_sealed else bytes(body)
    if not is_sealed and damaged != GOOD[which]:
        with pytest.raises(WireError):
            open_body(damaged, LIMITS)
        return
    read, guard = GroupReader(Numbers().assign), GroupGuard()
    for good in GOOD[:which]:
        read.read(good)
        guard.apply(open_body(good, LIMITS))
    verdict = outcome(lambda: guard.check(open_body(damaged, LIMITS)))
    outcome(lambda: read.read(damaged))
    if verdict is None:
        guard.apply(open_body(damaged, LIMITS))
    outcome(read.roots)
    for good in GOOD[which:]:
        outcome(lambda good=good: read.read(good))  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 100))
def test_any_bytes_after_a_head_are_told_in_the_same_way(tail: bytes, flags: int, samples: int) -> None:
    name = bytes(16) if flags & PATCH else b""
    body = of_blocks(head(flags, samples, name) + tail, samples=samples)
    outcome(lambda: open_body(body, LIMITS))
    read, _ = reader()
    read.read(GOOD[0])
    outcome(lambda: read.read(body))


BOMB = bytes(16 * 1024 * 1024)
BOMBS = {
    "a patch of zeros": (head(PATCH | ROOT) + section(BOMB), WireError),
    "a patch over the limit": (head(PATCH | ROOT) + section(bytes(33 * 1024 * 1024)), BodyTooLarge),
    "a patch that lies about its size": (head(PATCH | ROOT) + section(BOMB, 1000), WireError),
    "columns over what the samples need": (head(COLUMNS, 10, b"") + section(BOMB), BodyTooLarge),
    "extras over the limit": (head(EXTRAS, 10, b"") + section(BOMB), BodyTooLarge),
    "a million entries without bytes": (
        head(PATCH | ROOT) + section(b"\0" + varint(1_000_000) + b"\0" + b"\0"),
        WireError,
    ),
    "a slot far away": (
        head(PATCH | ROOT) + section(slot_list(np.array([], np.int64)) + slot_list(np.array([1 << 40]))),
        WireError,
    ),
    "a length of nine bytes": (b"\xff" * 8 + b"\x7f", WireError),
    "slots that overflow": (
        head(PATCH | ROOT) + section(b"\0\2" + planes(np.array([2**63, 2**63], np.uint64)) + b"\0" * 9),
        WireError,
    ),
}


@pytest.mark.parametrize("which", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(which: str) -> None:
    block, error = BOMBS[which]
    samples = 10 if "samples" in which or "extras" in which else 0
    body = of_blocks(block, samples=samples)
    assert len(body) < 10_000
    tracemalloc.start()
    try:
        with pytest.raises(error):
            open_body(body, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80 * 1024 * 1024


def test_a_million_freed_slots_in_each_of_many_blocks_are_too_many() -> None:
    freed = varint(1_000_000) + b"\0" + b"\0" + b"\0"
    block = head(PATCH | ROOT) + section(freed)
    assert len(open_body(of_blocks(*[block] * 4), LIMITS).blocks) == 4
    with pytest.raises(WireError):
        open_body(of_blocks(*[block] * 5), LIMITS)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x01",
        b"\x08a\xffb\xff",
        b"\x01a\xffb",
        b"\x01a\xff\xff",
        b"\x01\xffb\xff",
        b"\x01b\xffx\xffa\xffx\xff",
        b"\x01a\xffx\xffa\xffy\xff",
        b"\x01a\xff\xc3\xff\xa9\xffx\xff",
        b"\x01a\xff\x80\xff",
        b"\x01" + b"".join(b"%05d\xffx\xff" % number for number in range(1001)),
        b"\x01a\xff" + b"x" * 40_000 + b"\xff",
    ],
)
def test_entries_that_are_not_canonical_are_refused(bad: bytes) -> None:
    lengths = planes(np.array([len(bad)], np.uint64))
    raw = slot_list(np.array([], np.int64)) + slot_list(np.array([0])) + lengths + bad + b"\0\0"
    with pytest.raises(WireError):
        open_body(of_blocks(head(PATCH | ROOT) + section(raw)), LIMITS)


def test_the_same_entry_in_good_order_is_taken() -> None:
    good = b"\x01a\xffx\xff"
    lengths = planes(np.array([len(good)], np.uint64))
    raw = slot_list(np.array([], np.int64)) + slot_list(np.array([0])) + lengths + good + b"\0\0"
    [view] = open_body(of_blocks(head(PATCH | ROOT) + section(raw)), LIMITS).blocks
    assert view.patch is not None
    assert list(view.patch.entries) == [good]


def test_patches_that_do_not_fit_the_dictionary_are_refused_by_guard_and_reader() -> None:
    target, (read, _), guard = Target(), reader(), GroupGuard()
    tick, _ = target.scrape({A: 1.0})
    root = join_blocks(1, target.encoder.encode(tick, 1))
    read.read(root)
    guard.apply(open_body(root, LIMITS))
    other = Target()
    for values in ({A: 1.0}, {A: 1.0, B: 1.0}, {B: 1.0}):
        other.encoder.encode(other.scrape(values)[0], 1)
    name, version = read._streams[1].name, read._streams[1].version
    for freed, born in (([5], []), ([], [0])):
        lengths = planes(np.array([len(A)] * len(born), np.uint64))
        raw = slot_list(np.array(freed, np.int64)) + slot_list(np.array(born, np.int64)) + lengths
        raw += A * len(born) + bytes(2 * len(born))
        made_up = Head(PATCH, 1, 1000, 0, version + 1, version, b"", name[:4], bytes(16)).render()
        body = of_blocks(made_up + section(raw))
        with pytest.raises(WireError, match="fit the dictionary"):
            guard.check(open_body(body, LIMITS))
        with pytest.raises(WireError, match="fit the dictionary"):
            read.read(body)


def test_a_name_that_is_not_the_dictionarys_is_found_by_the_reader() -> None:
    raw = slot_list(np.array([], np.int64)) + slot_list(np.array([0])) + planes(np.array([len(A)], np.uint64))
    body = of_blocks(head(PATCH | ROOT) + section(raw + A + b"\0\0"))
    with pytest.raises(WireError, match="name"):
        reader()[0].read(body)


def test_samples_that_are_not_there_are_found_by_the_reader() -> None:
    target, (read, _) = Target(), reader()
    body = bytearray(join_blocks(1, target.encoder.encode(target.scrape({A: 1.0})[0], 1)))
    assert body[24 + 9] == 1  # the count in the block's head, after its length, flags, stream and time
    body[24 + 9] = body[16] = 3
    with pytest.raises(WireError, match="samples"):
        read.read(resealed(bytes(body)))


def test_encoders_and_tables_refuse_what_they_can_not_send() -> None:
    target = Target()
    assert isinstance(target.encoder, StreamEncoder)
    with pytest.raises(ValueError, match="bytes can be sent"):
        target.table.take([b"\x01" + b"x" * 40_000])
    with pytest.raises(ValueError, match="not live"):
        target.table.free(np.array([0]))
    with pytest.raises(KeyError):
        target.table.entry(0)
    with pytest.raises(ValueError, match="can't be sent"):
        target.encoder.encode(replace(target.scrape({A: 1.0})[0], at_ms=-1), 1)


def test_a_slot_that_is_named_twice_counts_once() -> None:
    target, (read, numbers) = Target(), reader()
    read.read(join_blocks(1, target.encoder.encode(target.scrape({A: 1.0, B: 2.0})[0], 1)))
    tick, expected = target.scrape({B: 3.0})
    twice = replace(tick, stale=np.repeat(tick.stale, 2), freed=np.repeat(tick.freed, 2))
    assert numbers.samples(read.read(join_blocks(1, target.encoder.encode(twice, 1)))) == sorted(expected)
