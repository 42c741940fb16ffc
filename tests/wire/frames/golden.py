"""The golden bodies: `python -m tests.wire.frames.golden` writes them, the tests compare."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from collector.wire.frames import STALE_NAN_BITS, FamilyMetadata, GroupReader, Rows, join_blocks
from tests.wire.frames.world import Numbers, Target, counting, entry, from_bits

PATH = Path(__file__).parents[1] / "golden" / "frames.json"
COUNTER = entry("requests_total", 1, code="200")
GAUGE = entry("temperature", 2, room="küche")
ODD = entry("odd", 0)
LATE = entry("late", 2)
HISTOGRAM = entry("latency", 3)
_NAN, _STALE = from_bits(0x7FF8000000000001), from_bits(STALE_NAN_BITS)

STEPS: list[dict[str, Any]] = [
    {"say": "a root: an integer, two decimals, a fraction without end", "values": (1000.0, 21.25, math.pi)},
    {"say": "against the bases", "values": (1017.0, 21.5, math.e)},
    {"say": "exceptions: what a class can not hold", "values": (-0.0, math.inf, _NAN)},
    {"say": "a keyframe", "values": (3.0, 1e-9, _STALE)},
    {"say": "one goes, two come into its slot and a new one", "values": (4.0, None, 2.0, 7.5)},
    {
        "say": "absent, rows of their own times, a histogram, an exemplar",
        "values": (5.0, None, None),
        "extras": True,
    },
    {"say": "a failed scrape", "fail": True},
    {"say": "a new group, in which stale markers need their series again", "values": (6.0, None, 3.0), "group": 2},
]


def scenario() -> Iterator[tuple[str, int, bytes]]:
    """What it is, the group, the body."""
    target, group = Target(stream=7, keyframe_every=3, versions=counting()), 1
    for step in STEPS:
        group = step.get("group", group)
        if "fail" in step:
            tick, _ = target.fail()
        else:
            named = zip((COUNTER, GAUGE, ODD, LATE), step["values"], strict=False)
            values = {one: value for one, value in named if value is not None}
            now = target.now_ms + 1000
            extras: dict[str, Any] = {}
            if "extras" in step:
                extras = {
                    "kept": [ODD],
                    "dated": [(LATE, now - 30_000, 1.25), (LATE, now - 15_000, 1.5), (HISTOGRAM, now, -1.0)],
                    "histograms": [(HISTOGRAM, b"\x08\x05")],
                    "exemplars": [(COUNTER, 0.5, now - 7, b"trace_id\xffabc\xff"), (COUNTER, 1.0, now, b"")],
                }
            tick, _ = target.scrape(values, **extras)
        yield step["say"], group, join_blocks(group, target.encoder.encode(tick, group))


def crowd() -> Iterator[tuple[str, int, bytes]]:
    """Enough series that sections are compressed."""
    target = Target(stream=8, keyframe_every=2, versions=counting())
    names = [
        entry("milvus_collection_rows", 2, collection=f"c{number}", pod=f"p{number % 7}") for number in range(300)
    ]
    for turn in range(4):
        values = {one: float(place * 37 + turn * (place % 5)) for place, one in enumerate(names) if place != turn}
        yield "three hundred series", 3, join_blocks(3, target.encoder.encode(target.scrape(values)[0], 3))


def started() -> Iterator[tuple[str, int, bytes]]:
    """Start timestamps: all in a root, then what changed."""
    target, group = Target(stream=9, keyframe_every=100, versions=counting()), 1
    other = entry("errors_total", 1)
    for say, begun in (
        ("starts of two counters", {COUNTER: 5_000, other: 1_699_999_999_999}),
        ("the same starts: nothing of them", {COUNTER: 5_000, other: 1_699_999_999_999}),
        ("one counter began again", {COUNTER: 1_700_000_002_500, other: 1_699_999_999_999}),
        ("a new group: all of them", {COUNTER: 1_700_000_002_500, other: 1_699_999_999_999}),
    ):
        group = 2 if "new group" in say else group
        tick, _ = target.scrape({COUNTER: 1.0, other: 2.0}, starts=begun)
        yield say, group, join_blocks(group, target.encoder.encode(tick, group))


def told() -> Iterator[tuple[str, int, bytes]]:
    """What a target says of families: all in a root, then what changed."""
    target, group = Target(stream=10, keyframe_every=100, versions=counting()), 1
    requests = FamilyMetadata("requests_total", 1, "", "Requests by code.")
    temperature = FamilyMetadata("temperature_celsius", 2, "celsius")
    warmer = FamilyMetadata("temperature_celsius", 2, "celsius", "Küche")
    for say, families in (
        ("two families", (requests, temperature)),
        ("the same two: nothing of them", (requests, temperature)),
        ("one has a help text now", (requests, warmer)),
        ("a new group: both", (requests, warmer)),
    ):
        group = 2 if "new group" in say else group
        tick, _ = target.scrape({COUNTER: 1.0, GAUGE: 2.0}, metadata=families)
        yield say, group, join_blocks(group, target.encoder.encode(tick, group))


def resync() -> Iterator[tuple[str, int, bytes]]:
    """The roots that rebuild the state after the first five of `scenario`."""
    reader = GroupReader(Numbers().assign)
    for _, _, body in list(scenario())[:5]:
        reader.read(body)
    for body in reader.roots():
        yield "roots for a resync", 1, body


def starts_of(rows: Iterable[Rows], numbers: Numbers) -> list[list[Any]]:
    """Entry and start of what a body says of starts."""
    parts = [one.starts for one in rows if one.starts is not None]
    return [
        [numbers.entries[series].hex(), start]
        for part in parts
        for series, start in zip(part.series.tolist(), part.starts_ms.tolist(), strict=True)
    ]


def metadata_of(rows: Iterable[Rows]) -> list[list[Any]]:
    """Family, type, unit and help of what a body says of families."""
    return [[one.family, one.type, one.unit, one.help] for some in rows for one in some.metadata]


def render() -> list[dict[str, Any]]:
    """What the file holds: bodies in hex, and their samples."""
    found = []
    for part in (scenario, crowd, started, told, resync):
        numbers = Numbers()
        readers: dict[int, GroupReader] = {}
        for say, group, body in part():
            rows = readers.setdefault(group, GroupReader(numbers.assign)).read(body)
            samples = [[one.hex(), time, f"{bits:016x}"] for one, time, bits in numbers.samples(rows)]
            if part is crowd:
                samples = samples[:5]
            one = {"part": part.__name__, "say": say, "group": group, "body": body.hex(), "samples": samples}
            if part is started:
                one["starts"] = starts_of(rows, numbers)
            if part is told:
                one["metadata"] = metadata_of(rows)
            found.append(one)
    return found


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(render(), indent=1) + "\n", encoding="utf-8")
