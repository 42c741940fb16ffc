"""A strict receiver of remote write: what breaks a rule of the specification is written down, and fails the test.

The rules: prometheus/docs, specs/prw/remote_write_spec_2_0.md (2.0-rc.4) and remote_write_spec.md (1.0).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import cramjam
from aiohttp import web

from tests.collector.world import serve
from tests.gateway.messages import RW1, RW2

Rows = list[tuple[str, int, float]]
_TYPE_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


@dataclass
class Request:
    """One request, decoded by the protobuf runtime."""

    version: int
    rows: Rows
    histograms: list[tuple[str, int]]  # series, timestamp
    exemplars: list[tuple[str, dict[str, str], float]]
    types: dict[str, int]
    starts: dict[str, int]
    headers: dict[str, str]
    series: int
    status: int = 0


Script = Callable[[Request], web.Response | None]


@dataclass
class Receiver:
    """`script` answers in our place; without its word everything is taken."""

    script: Script | None = None
    requests: list[Request] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    most_series: int = 10_000

    @property
    def taken(self) -> list[Request]:
        return [one for one in self.requests if 200 <= one.status < 300]

    def rows(self) -> Rows:
        return [row for one in self.taken for row in one.rows]

    async def answer(self, request: web.Request) -> web.Response:
        read = self._read(request.headers, await request.read())
        self.requests.append(read)
        answer = self.script(read) if self.script else None
        if answer is None:
            answer = web.Response(status=204, headers=written(read) if read.version == 2 else {})
        read.status = answer.status
        return answer

    def _rule(self, holds: object, rule: str) -> None:
        if not holds:
            self.broken.append(rule)

    def _read(self, headers: Any, body: bytes) -> Request:
        self._rule(headers.get("Content-Encoding") == "snappy", "Content-Encoding: snappy")
        self._rule(headers.get("User-Agent"), "a User-Agent")
        content = bytes(cramjam.snappy.decompress_raw(body))
        version = 2 if headers.get("Content-Type") == _TYPE_2 else 1
        self._rule(version == 2 or headers.get("Content-Type") == "application/x-protobuf", "Content-Type")
        expected = {1: "0.1.0", 2: "2.0.0"}[version]
        self._rule(headers.get("X-Prometheus-Remote-Write-Version") == expected, "the version header")
        read = Request(version, [], [], [], {}, {}, dict(headers), 0)
        self._read_2(content, read) if version == 2 else self._read_1(content, read)
        self._rule(0 < read.series <= self.most_series, f"{read.series} series in a request")
        return read

    def _read_2(self, content: bytes, read: Request) -> None:
        message = RW2["Request"].FromString(content)
        symbols = list(message.symbols)
        self._rule(symbols and symbols[0] == "", "symbols[0] is empty")
        self._rule(len(set(symbols)) == len(symbols), "every symbol once")
        for series in message.timeseries:
            read.series += 1
            name = self._labels(self._pairs(series.labels_refs, symbols), wants_name=True)
            self._samples(series, name, read)
            read.types[name] = series.metadata.type
            self._rule(series.created_timestamp == 0, "field 6 is reserved")
            for one in series.samples:
                if one.start_timestamp:
                    read.starts[name] = one.start_timestamp
            for one in series.exemplars:
                pairs = self._pairs(one.labels_refs, symbols)
                read.exemplars.append((name, dict(pairs), one.value))
                self._rule(one.timestamp, "an exemplar has a time")

    def _read_1(self, content: bytes, read: Request) -> None:
        message = RW1["WriteRequest"].FromString(content)
        for series in message.timeseries:
            read.series += 1
            name = self._labels([(one.name, one.value) for one in series.labels], wants_name=True)
            self._samples(series, name, read)
            for one in series.exemplars:
                read.exemplars.append((name, {pair.name: pair.value for pair in one.labels}, one.value))

    def _pairs(self, refs: Any, symbols: list[str]) -> list[tuple[str, str]]:
        self._rule(len(refs) % 2 == 0, "an even number of references")
        self._rule(all(ref < len(symbols) for ref in refs), "valid references")
        return [(symbols[refs[at]], symbols[refs[at + 1]]) for at in range(0, len(refs) - 1, 2)]

    def _labels(self, pairs: list[tuple[str, str]], *, wants_name: bool) -> str:
        names = [name for name, _ in pairs]
        self._rule(names == sorted(set(names)), "labels sorted, each once")
        self._rule(all(name and value for name, value in pairs), "no empty name or value")
        self._rule(not wants_name or "__name__" in names, "__name__ is there")
        return ",".join(f"{name}={value}" for name, value in pairs)

    def _samples(self, series: Any, name: str, read: Request) -> None:
        self._rule(not (series.samples and series.histograms), "samples or histograms")
        self._rule(series.samples or series.histograms or series.exemplars, "something in every series")
        times = [one.timestamp for one in series.samples]
        self._rule(times == sorted(times), "samples in the order of time")
        read.rows += [(name, one.timestamp, one.value) for one in series.samples]
        read.histograms += [(name, one.timestamp) for one in series.histograms]
        self._rule(all(one.timestamp for one in series.histograms), "a histogram has a time")


def written(read: Request, **less: int) -> dict[str, str]:
    """The headers that say what was written; `less`: how much less than all."""
    counts = {"Samples": len(read.rows), "Histograms": len(read.histograms), "Exemplars": len(read.exemplars)}
    return {
        f"X-Prometheus-Remote-Write-{kind}-Written": str(count - less.get(kind.lower(), 0))
        for kind, count in counts.items()
    }


@asynccontextmanager
async def run_receiver(receiver: Receiver) -> AsyncIterator[str]:
    """Its URL. Raises AssertionError for a rule that was broken."""
    app = web.Application(client_max_size=2**28)
    app.add_routes([web.post("/api/v1/write", receiver.answer)])
    async with serve(app) as port:
        yield f"http://127.0.0.1:{port}/api/v1/write"
    assert receiver.broken == []


def labels_of(name: str) -> dict[str, str]:
    """The labels that `Request` renders."""
    return dict(re.findall(r"([^=,]+)=([^,]*)", name))
