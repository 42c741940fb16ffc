"""What a gateway finds in the extras: nothing that a reader would take, and damage in each part."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.frames import (
    Dated,
    ExemplarRow,
    FamilyMetadata,
    FrameLimits,
    GroupReader,
    HistogramRow,
    Starts,
    check_extras,
    join_blocks,
    open_body,
)
from collector.wire.frames.body import EXTRAS, Head
from collector.wire.frames.extras import Extras, render_extras
from collector.wire.frames.layout import planes, slot_list, varint, zigzag
from collector.wire.frames.model import MAX_DATE_MS
from tests.effort import costly
from tests.gateway.messages import RW2
from tests.wire.frames.test_hostile import of_blocks, section
from tests.wire.frames.world import Numbers, Target, entry

LIMITS = FrameLimits()
AT = 1_700_000_000_000
A, B = entry("a"), entry("b", pod="ü")


def histogram(at_ms: int) -> bytes:
    encoded: bytes = RW2["Histogram"](timestamp=at_ms, schema=3, sum=2.5).SerializeToString()
    return encoded


STALE = Extras(stale=np.array([1]))
DATED = Extras(dated=Dated(np.array([0, 1], np.int32), np.array([AT, AT - 5]), np.array([1.0, 2.5])))
TOLD = Extras(
    stale=np.array([0, 1]),
    histograms=[HistogramRow(0, histogram(AT)), HistogramRow(1, histogram(AT - 7))],
    exemplars=[ExemplarRow(1, 2.5, AT - 3, "trace_id\xffü\xff".encode("latin-1").replace(b"\xfc", "ü".encode()))],
    starts=Starts(np.array([0, 1], np.int32), np.array([AT - 9, AT - 8])),
    metadata=[FamilyMetadata("a", 1, "seconds", "Whether."), FamilyMetadata("b", 2, "", "ü")],
)


def known(limits: FrameLimits = LIMITS) -> GroupReader:
    """A reader that knows two series of a stream, whose state has the same version each time."""
    target, read = Target(versions=itertools.count(1024, 1024)), GroupReader(Numbers().assign, limits=limits)
    read.read(join_blocks(1, target.encoder.encode(target.scrape({A: 1.0, B: 2.5})[0], 1)))
    return read


def raw_of(extras: Extras) -> bytes:
    return render_extras(extras, known()._streams[1].bases, AT)


def body_of(raw: bytes, samples: int, *, times: int = 1) -> bytes:
    stream = known()._streams[1]
    head = Head(EXTRAS, 1, AT, samples, stream.version, stream.version, b"", stream.name[:4], b"").render()
    return of_blocks(*[head + section(raw)] * times, samples=samples * times)


def is_seen(body: bytes) -> bool:
    """Whether a gateway refuses the body."""
    try:
        check_extras(open_body(body, LIMITS), LIMITS)
    except WireError:
        return True
    return False


@pytest.mark.parametrize("extras", [STALE, DATED, TOLD], ids=["stale", "dated", "told"])
def test_what_an_encoder_makes_is_passed_and_can_be_read(extras: Extras) -> None:
    raw = raw_of(extras)
    body = body_of(raw, extras.samples)
    assert check_extras(open_body(body, LIMITS), LIMITS) == len(raw)
    known().read(body)


@pytest.mark.parametrize("extras", [STALE, DATED, TOLD], ids=["stale", "dated", "told"])
@given(data=st.data(), noise=st.binary(max_size=4))
@costly(400)
def test_a_gateway_refuses_nothing_that_a_reader_takes(extras: Extras, data: st.DataObject, noise: bytes) -> None:
    """But for times and messages of histograms, which its readers look into later."""
    raw = raw_of(extras)
    at = data.draw(st.integers(0, len(raw)))
    cut = data.draw(st.integers(0, 3))
    body = body_of(raw[:at] + noise + raw[at + cut :], extras.samples)
    try:
        check_extras(open_body(body, LIMITS), LIMITS)
    except WireError as error:
        if "a histogram" in str(error) or "times from" in str(error):
            return
        with pytest.raises(WireError):
            known().read(body)


def exemplar(labels: bytes, size: int | None = None) -> bytes:
    told = varint(len(labels) if size is None else size)
    return b"\0\0\0\1" + varint(0) + struct.pack("<d", 1.0) + varint(zigzag(-1)) + told + labels


def family(name: bytes, unit: bytes = b"", text: bytes = b"", kind: int = 1) -> bytes:
    return bytes([kind]) + b"".join(varint(len(one)) + one for one in (name, unit, text))


def metadata(*families: bytes) -> bytes:
    part = varint(len(families)) + b"".join(families)
    return b"\0\0\0\0" + varint(2) + varint(len(part)) + part


def starts(part: bytes) -> bytes:
    return b"\0\0\0\0" + varint(1) + varint(len(part)) + part


def message(content: bytes) -> bytes:
    return b"\0\0\1" + varint(0) + varint(len(content)) + content + b"\0"


def dated(times: list[int]) -> bytes:
    moved = np.array([(at - AT << 1) ^ (at - AT >> 63) for at in times], np.int64).view(np.uint64)
    return b"\0" + varint(len(times)) + planes(np.zeros(len(times), np.uint64)) + planes(moved)


DAMAGED = {
    "stale slots out of order": varint(2) + planes(np.array([2**63, 5], np.uint64)) + b"\0\0\0",
    "more stale slots than samples": slot_list(np.arange(9)) + b"\0\0\0",
    "a stale slot far away": slot_list(np.array([1 << 24])) + b"\0\0\0",
    "dated rows cut off": b"\0" + varint(2) + b"\1",
    "a dated row before 1970": dated([-1]),
    "a dated row after the year 9999": dated([MAX_DATE_MS + 1]),
    "a histogram that is longer than its section": b"\0\0\1" + varint(0) + varint(50) + b"x",
    "a histogram over the limit": b"\0\0\1" + varint(0) + varint(300_000) + bytes(300_000),
    "a histogram that is no message": message(b"\xff\xff"),
    "a histogram cut off": message(histogram(AT)[:-3]),
    "a histogram of no date": message(histogram(-1)),
    "a histogram of the year 10000": message(histogram(MAX_DATE_MS + 1)),
    "an exemplar of no UTF-8": exemplar(b"trace_id\xff\x80\xff"),
    "an exemplar of odd labels": exemplar(b"trace_id\xff"),
    "an exemplar of unsorted labels": exemplar(b"b\xffx\xffa\xffx\xff"),
    "an exemplar over the limit": exemplar(b"x" * 40_000),
    "an exemplar that is longer than its section": exemplar(b"a\xffx\xff", 90),
    "too many exemplars": b"\0\0\0" + varint(100_001),
    "a part that is longer than its section": b"\0\0\0\0" + varint(9) + varint(40) + b"x",
    "starts of no slot": starts(b"\0\0"),
    "starts cut off": starts(slot_list(np.arange(3)) + b"\1\1"),
    "starts of too many slots": starts(varint(65_537) + b"\0\0"),
    "starts twice": starts(slot_list(np.arange(1)) + b"\0") + starts(slot_list(np.arange(1)) + b"\0")[4:],
    "no family": metadata(),
    "a family without a name": metadata(family(b"")),
    "families out of order": metadata(family(b"b"), family(b"a")),
    "a family twice": metadata(family(b"a"), family(b"a")),
    "a family's name of no UTF-8": metadata(family(b"\xff")),
    "a unit of no UTF-8": metadata(family(b"a", b"\xc3")),
    "a help text of no UTF-8": metadata(family(b"a", b"s", b"\xed\xa0\x80")),
    "a help text over the limit": metadata(family(b"a", b"", b"x" * 4_097)),
    "a unit over the limit": metadata(family(b"a", b"x" * 1_025)),
    "an unknown type": metadata(family(b"a", kind=8)),
    "more families than there are": b"\0\0\0\0" + varint(2) + b"\2" + varint(2) + b"\1",
    "bytes behind the families": b"\0\0\0\0" + varint(2) + varint(6) + varint(1) + family(b"a") + b"x",
}


@pytest.mark.parametrize("which", DAMAGED)
def test_damage_in_each_part_is_found(which: str) -> None:
    assert is_seen(body_of(DAMAGED[which], 2))


def test_parts_of_a_kind_that_nobody_knows_are_passed_over() -> None:
    body = body_of(b"\0\0\0\0" + varint(77) + varint(3) + b"\xff\xff\xff", 0)
    assert not is_seen(body)
    known().read(body)


@pytest.mark.parametrize(
    "raw",
    [
        starts(slot_list(np.arange(65_536)) + b"\0"),
        b"\0\0\0" + varint(20_000) + exemplar(b"")[4:] * 20_000,
        metadata(*[family(b"%05d" % number) for number in range(10_000)]),
    ],
    ids=["starts", "exemplars", "families"],
)
def test_a_few_bytes_that_say_the_same_ten_thousand_times_are_too_much(raw: bytes) -> None:
    """Each block is within its limits; ten thousand of them would keep a reader busy for an hour."""
    few = FrameLimits(max_told=150_000, max_starts=1_000_000)
    body = body_of(raw, 0, times=20)
    assert len(body) < LIMITS.max_body_bytes
    with pytest.raises(BodyTooLarge):
        check_extras(open_body(body, few), few)
    read = known(few)
    with pytest.raises(WireError):
        read.read(body)
    read.read(body_of(metadata(family(b"a")), 0))  # the next body has as much again
