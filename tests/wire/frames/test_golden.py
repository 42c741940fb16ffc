"""The bytes of the protocol do not change, and docs/wire.md says all that a reader needs."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.errors import WireError
from collector.wire.frames import FrameLimits, join_blocks, open_body
from collector.wire.frames.layout import Cursor, varint
from tests.wire.frames import golden
from tests.wire.frames.plain import Plain, Row
from tests.wire.frames.test_round_trip import VALUES
from tests.wire.frames.world import Target, counting, entry, reader

GOLDEN: list[dict[str, Any]] = json.loads(golden.PATH.read_text(encoding="utf-8"))
PARTS = sorted({one["part"] for one in GOLDEN})


def of(part: str) -> list[dict[str, Any]]:
    return [one for one in GOLDEN if one["part"] == part]


@pytest.mark.parametrize("part", PARTS)
def test_an_encoder_gives_the_golden_bytes_again(part: str) -> None:
    """Of `crowd` only what they hold: compressed bytes may differ between versions of zstd."""
    made = [one for one in golden.render() if one["part"] == part]
    if part == "crowd":
        assert [{**one, "body": ""} for one in made] == [{**one, "body": ""} for one in of(part)]
    else:
        assert made == of(part)


@pytest.mark.parametrize("part", PARTS)
def test_the_golden_bytes_are_read_as_they_were_written(part: str) -> None:
    readers: dict[int, Any] = {}
    for one in of(part):
        read, numbers = readers.setdefault(one["group"], reader())
        rows = numbers.samples(read.read(bytes.fromhex(one["body"])))
        found = [[name.hex(), time, f"{bits:016x}"] for name, time, bits in rows]
        assert found[: len(one["samples"])] == one["samples"]


@pytest.mark.parametrize("part", PARTS)
def test_a_reader_written_from_the_page_reads_the_same(part: str) -> None:
    plains: dict[int, Plain] = {}
    readers: dict[int, Any] = {}
    for one in of(part):
        body = bytes.fromhex(one["body"])
        rows, histograms, exemplars = plains.setdefault(one["group"], Plain()).read(body)
        read, numbers = readers.setdefault(one["group"], reader())
        ours = read.read(body)
        assert sorted(rows) == numbers.samples(ours)
        assert histograms == [
            (numbers.entries[series], message) for some in ours for series, message in some.histograms
        ]
        assert [exemplar[0] for exemplar in exemplars] == [
            numbers.entries[found.series] for some in ours for found in some.exemplars
        ]
        starts = [[name.hex(), start] for name, start in plains[one["group"]].starts]
        assert starts == golden.starts_of(ours, numbers) == one.get("starts", [])
        metadata = [list(told) for told in plains[one["group"]].metadata]
        assert metadata == golden.metadata_of(ours) == one.get("metadata", [])


def test_what_was_resynchronised_reads_what_follows() -> None:
    plain = Plain()
    for one in of("resync"):
        assert plain.read(bytes.fromhex(one["body"]))[0] == []
    following = of("scenario")[5]
    rows, _, _ = plain.read(bytes.fromhex(following["body"]))
    assert [[name.hex(), time, f"{bits:016x}"] for name, time, bits in sorted(rows)] == following["samples"]


def test_a_part_of_a_later_kind_is_passed_over_and_a_broken_one_is_not() -> None:
    def body(further: bytes) -> bytes:
        content = bytes.fromhex(of("started")[0]["body"])
        (block,) = open_body(content, FrameLimits()).blocks
        assert block.extras is not None
        size = block.extras.size
        raw = content[-size:]
        stored = varint(size + len(further)) + b"\0" + raw + further
        head = content[24 : -size - len(varint(size)) - 1]
        inside = Cursor(head, "block")
        inside.varint()
        whole = head[inside.position :] + stored
        framed = varint(len(whole)) + whole
        return content[:20] + struct.pack("<I", zlib.crc32(content[:20] + framed)) + framed

    for further in (b"", b"\x07\x03abc", b"\x80\x01\x00"):
        read, numbers = reader()
        rows = read.read(body(further))
        assert golden.starts_of(rows, numbers) == of("started")[0]["starts"]
    for broken in (b"\x07", b"\x07\x04abc", b"\x01\x01\x00", b"\x01\x02\x01\x00", b"\x01\x03\x02\x01\x00"):
        with pytest.raises(WireError):
            reader()[0].read(body(broken))
    told = {
        b"\x01\x01\x01a\x00\x00": True,
        b"\x02\x01\x01a\x00\x00\x02\x01b\x00\x01h": True,
        b"\x01\x01\x01a\x00\x80\x20" + b"h" * 4096: True,
        b"\x01\x01\x01a\x00\x81\x20" + b"h" * 4097: False,  # a text over the limit
        b"\x00": False,  # nothing
        b"\x01\x08\x01a\x00\x00": False,  # no such type
        b"\x01\x01\x00\x00\x00": False,  # no name
        b"\x02\x01\x01a\x00\x00\x01\x01a\x00\x00": False,  # twice
        b"\x01\x01\x01\xff\x00\x00": False,  # not UTF-8
        b"\x02\x01\x01a\x00\x00": False,  # less than announced
        b"\x01\x01\x01a\x00\x00\x00": False,  # more
    }
    for content, is_right in told.items():
        part = b"\x02" + varint(len(content)) + content
        if is_right:
            assert golden.metadata_of(reader()[0].read(body(part)))
        for wrong in (part + part,) if is_right else (part,):
            with pytest.raises(WireError):
                reader()[0].read(body(wrong))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 30), VALUES, min_size=1), min_size=1, max_size=6))
def test_the_page_is_right_about_any_values(pages: list[dict[int, float]]) -> None:
    target, plain = Target(), Plain()
    for page in pages:
        tick, expected = target.scrape({entry(f"m{number}"): value for number, value in page.items()})
        rows: list[Row] = []
        for block in target.encoder.encode(tick, 1):
            rows += plain.read(join_blocks(1, [block]))[0]
        assert sorted(rows) == sorted(expected)


def test_the_example_of_the_page_is_what_an_encoder_sends() -> None:
    page = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    lines = page[page.index("### 3.6 An example") :].splitlines()
    shown = [re.match(r"(?: +[0-9a-f]{2}\b)*", line) for line in lines if line.startswith("    ")]
    target = Target(versions=counting(), now_ms=0)
    blocks = [target.encoder.encode(target.scrape({entry("a"): value})[0], 1) for value in (1.0, 3.0)]
    sent = b"".join(join_blocks(1, one) for one in blocks)
    assert bytes.fromhex("".join(found.group() for found in shown if found)) == sent


def test_the_golden_bytes_use_every_flag() -> None:
    """A flag that no golden body has would not be held by them."""
    used = 0
    for one in GOLDEN:
        content = bytes.fromhex(one["body"])[24:]
        used |= content[1] if content[0] < 128 else content[2]
    assert used == 63
