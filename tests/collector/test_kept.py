"""Kept frames give the wanted samples, whatever was passed over on the way to them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from collector.spool.export import Range, stored_rows
from collector.spool.frame import Frame, PayloadKind, encode_frame
from collector.spool.kept import KeptLane
from collector.spool.segment import SegmentName
from collector.wire.frames import join_blocks
from collector.wire.headers import PushLane
from tests.wire.frames.world import Target, entry

METRIC, BESIDE = "byoc_component_allocated_vcpu", "up"


def write_segments(lane: Path, seed: int) -> None:
    """Three targets whose series come and go, the metric among them, now alone in a push, now together."""
    chance = random.Random(seed)
    lane.mkdir(parents=True)
    targets = [Target(stream=number, keyframe_every=2) for number in (1, 2, 3)]
    number = 0
    for group in (1, 2):
        name, content = SegmentName.new(5, group, number + 1), []
        for _ in range(25):
            blocks = []
            for target in chance.sample(targets, chance.randint(1, 2)):
                names = [f"other_{place}" for place in range(4) if chance.random() < 0.9]
                names += [METRIC] * (chance.random() < (0.3 if target.stream == 1 else 0.02)) + [BESIDE]
                values = {entry(one, of=str(target.stream)): chance.randint(1, 99) / 4 for one in names}
                tick, _ = target.scrape(values)
                blocks += target.encoder.encode(tick, group)
            number += 1
            body = join_blocks(group, blocks)
            samples = sum(block.samples for block in blocks)
            frame = Frame(5, number, PushLane.BILLING, None, samples, b"", body, PayloadKind.FRAMES, number)
            content.append(encode_frame(frame, name.salt))
        (lane / str(name)).write_bytes(b"".join(content))


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_of_the_metric_is_passed_over(tmp_path: Path, seed: int) -> None:
    lane = tmp_path / "billing"
    write_segments(lane, seed)
    kept = KeptLane(tmp_path, {}, METRIC, BESIDE)
    found = []
    for frame, rows in kept.frames(0, 2**62, {}):
        assert frame.error == ""
        columns = rows.series.tolist(), rows.times_ms.tolist(), rows.values.tolist()
        found += [(kept.labels[series], at_ms, repr(value)) for series, at_ms, value in zip(*columns, strict=True)]
    expected = [
        (
            b"".join(f"{name}\0{text}\0".encode().replace(b"\0", b"\xff") for name, text in labels),
            at_ms,
            repr(value),
        )
        for labels, at_ms, value in stored_rows(lane, Range(None))
        if ("__name__", METRIC) in labels
    ]
    assert expected
    assert sorted(row for row in found if METRIC.encode() in row[0]) == sorted(expected)
