"""Frames that a receiver refuses go as remote write, histograms and exemplars too; what it drops is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collector.push.answer import Answer
from collector.push.transport import Push
from collector.push.version import WireProtocol
from collector.wire.frames import ExemplarRow, FamilyMetadata, HistogramRow, Starts, Tick
from collector.wire.headers import EXEMPLARS_WRITTEN, HISTOGRAMS_WRITTEN, SAMPLES_WRITTEN
from collector.wire.snappy import decompress
from tests.collector.frames import FrameStream, Taken
from tests.collector.test_frames_push import OPTIONS, Shipped, shipping
from tests.collector.test_proof import command
from tests.gateway.messages import RW1, RW2

AT = 1_767_225_600_000


class Rich(FrameStream):
    """Its series `h` is a native histogram, its `a` has an exemplar, a start, a type and a text."""

    def _tick(self, at_ms: int, values: dict[str, float]) -> Tick:
        tick = super()._tick(at_ms, values)
        present = self._table.live().copy()
        present[self._slots["h"]] = False
        message = RW2["Histogram"](count_int=3, sum=7.5, schema=1, timestamp=at_ms).SerializeToString()
        exemplar = ExemplarRow(self._slots["a"], 0.5, at_ms, b"trace_id\xffabc\xff")
        return replace(
            tick,
            present=present,
            histograms=[HistogramRow(self._slots["h"], message)],
            exemplars=[exemplar],
            starts=Starts(np.array([self._slots["a"]], np.int32), np.array([AT - 5000])),
            metadata=[FamilyMetadata("a", 1, "", "What a counts.")],
        )


@dataclass
class Old:
    """A gateway that speaks `protocol` and no younger one."""

    protocol: WireProtocol

    def __call__(self, push: Push) -> Answer | None:
        order = [WireProtocol.FRAMES, WireProtocol.RW2, WireProtocol.RW1]
        return Answer(415) if order.index(push.protocol) < order.index(self.protocol) else None


async def ship(shipped: Shipped, scrapes: int = 1) -> None:
    rich = Rich(1)
    for number in range(scrapes):
        at_ms = AT + 1000 * number
        await rich.append(shipped.lane, at_ms, {"a": 1 + number, "h": 0, "b": 2}, at_ms)
    await shipped.lane.drained()


def requests(shipped: Shipped, log: Sequence[Taken] | None = None) -> list[Any]:
    found = []
    for one in log or shipped.gateway.log:
        kind = RW2["Request"] if one.protocol is WireProtocol.RW2 else RW1["WriteRequest"]
        found.append(kind.FromString(decompress(one.body, 2**31)))
    return found


def not_taken(shipped: Shipped, kind: str) -> float:
    counter = shipped.parts.metrics.not_taken.labels("billing", kind)
    return float(counter._value.get())


@pytest.mark.parametrize("protocol", [WireProtocol.RW2, WireProtocol.RW1])
async def test_histograms_and_exemplars_go_along(tmp_path: Path, protocol: WireProtocol) -> None:
    async with shipping(tmp_path / "spool", options=OPTIONS) as shipped:
        shipped.gateway.script = Old(protocol)
        await ship(shipped)
        assert [one.protocol for one in shipped.gateway.log] == [protocol]
        (request,) = requests(shipped)
        counts = [(len(one.samples), len(one.histograms), len(one.exemplars)) for one in request.timeseries]
        assert sorted(counts) == [(0, 1, 0), (1, 0, 0), (1, 0, 1)]
        (histogram,) = [message for one in request.timeseries for message in one.histograms]
        assert (histogram.count_int, histogram.sum, histogram.timestamp) == (3, 7.5, AT)
        (exemplar,) = [found for one in request.timeseries for found in one.exemplars]
        assert (exemplar.value, exemplar.timestamp) == (0.5, AT)
        (receipt,) = shipped.receipts()
        assert receipt.samples == 3
    code, said = command(tmp_path, "verify")
    assert code == 0, said


async def test_starts_and_metadata_go_along_also_when_frames_said_them_before(tmp_path: Path) -> None:
    async with shipping(tmp_path / "two") as shipped:
        shipped.gateway.script = Old(WireProtocol.RW2)
        await ship(shipped, scrapes=2)
        for request in requests(shipped):
            symbols = request.symbols
            (counter,) = [one for one in request.timeseries if symbols[one.labels_refs[1]] == "a"]
            assert {one.start_timestamp for one in counter.samples} == {AT - 5000}
            assert symbols[counter.metadata.help_ref] == "What a counts."
            others = [one for one in request.timeseries if one is not counter]
            assert not any(
                one.metadata.help_ref or sample.start_timestamp for one in others for sample in one.samples
            )
    async with shipping(tmp_path / "one") as shipped:
        shipped.gateway.script = Old(WireProtocol.RW1)
        await ship(shipped, scrapes=2)
        for request in requests(shipped):
            (told,) = request.metadata
            assert (told.type, told.metric_family_name, told.help) == (1, "a", "What a counts.")


async def test_what_a_receiver_does_not_say_it_took_is_counted(tmp_path: Path) -> None:
    def script(push: Push) -> Answer | None:
        if push.protocol is WireProtocol.FRAMES:
            return Answer(415)
        return Answer(204, "", {SAMPLES_WRITTEN: "2", HISTOGRAMS_WRITTEN: "0", EXEMPLARS_WRITTEN: "1"})

    async with shipping(tmp_path) as shipped:
        shipped.gateway.script = script
        await ship(shipped)
        assert (not_taken(shipped, "histograms"), not_taken(shipped, "exemplars")) == (1, 0)
