"""A gateway on a real socket, with real handshakes, and clients of every kind."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry

from collector.wire.headers import CONTENT_TYPE_RW1, CONTENT_TYPE_RW2, PushHeaders
from collector.wire.snappy import compress
from kernel.clock import Clock
from kernel.identity import client_context, new_private_key, render_csr, render_private_key
from kernel.ids import CollectorId, Tenant
from kernel.log import Log, LogWriter, StoredRecord
from kernel.log.memory import MemoryLog
from metering.frames import SourceReaders
from metering.gateway.app import GatewayParts
from metering.gateway.server import GatewayServer
from metering.gateway.settings import GatewaySettings
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    BatchHeader,
    RecordFormat,
    decode_batch,
    decode_header,
    parse_canonical_labels,
)
from tests.gateway.messages import Rows, encode_rw1, encode_rw2
from tests.identity.world import ACME, COLLECTOR, IdentityWorld, make_world

Row = tuple[dict[str, str], int, float]


@dataclass
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]
    content: bytes = b""

    @property
    def written(self) -> tuple[str | None, ...]:
        kinds = ("Samples", "Histograms", "Exemplars")
        return tuple(self.headers.get(f"X-Prometheus-Remote-Write-{kind}-Written") for kind in kinds)


@dataclass(frozen=True)
class Credentials:
    certificate: Path
    key: Path


@dataclass
class GatewayWorld:
    identity: IdentityWorld
    log: Log
    server: GatewayServer
    registry: CollectorRegistry
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}"

    def credentials(self, tenant: Tenant = ACME, collector: CollectorId = COLLECTOR) -> Credentials:
        """A certificate got with a token, in files."""
        key = new_private_key()
        token = self.identity.tokens.create(tenant, collector)
        issued = self.identity.tokens.redeem(token, render_csr(key), self.identity.authority)
        name = f"{tenant.organization}-{collector}-{issued.serial}"
        return write_credentials(self.identity.folder / name, issued.certificate_pem, render_private_key(key))

    def context(self, credentials: Credentials | None = None) -> ssl.SSLContext:
        authority = self.identity.authority.certificate_pem
        if credentials is None:
            return client_context(authority)
        return client_context(authority, credentials.certificate, credentials.key)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    async def records(self, topic: str = LIVE_TOPIC) -> list[StoredRecord]:
        """What the log holds, oldest first in each partition."""
        reader = await self.log.reader("witness", [topic], since_ms=0)
        records: list[StoredRecord] = []
        while batch := await reader.poll(1000, 0.01):
            records += list(batch)
        await reader.close()
        return records

    async def stored(self, topic: str = LIVE_TOPIC) -> list[tuple[BatchHeader, list[Row]]]:
        """The same, opened; also those of frames."""
        found: list[tuple[BatchHeader, list[Row]]] = []
        names: list[bytes] = []

        def assign(_tenant: Tenant, _collector: CollectorId, new: Sequence[bytes]) -> npt.NDArray[np.int64]:
            names.extend(new)
            return np.arange(len(names) - len(new), len(names), dtype=np.int64)

        readers = SourceReaders(assign)
        for record in await self.records(topic):
            header = decode_header(record)
            if header.format is RecordFormat.FRAMES:
                opened: list[Row] = []
                for one in readers.read(header, record.value, record.offset):
                    numbers, times = one.series.tolist(), one.timestamps_ms.tolist()
                    for number, at_ms, number_value in zip(numbers, times, one.values.tolist(), strict=True):
                        opened.append((dict(parse_canonical_labels(names[number])), at_ms, number_value))
                found.append((header, opened))
                continue
            columns = decode_batch(record.value)
            rows = zip(columns.series_index, columns.timestamps_ms, columns.values, strict=True)
            found.append(
                (
                    decode_header(record),
                    [
                        (dict(parse_canonical_labels(columns.series[slot])), int(time), float(value))
                        for slot, time, value in rows
                    ],
                )
            )
        return found


def write_credentials(stem: Path, certificate: bytes, key: bytes) -> Credentials:
    files = Credentials(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    files.certificate.write_bytes(certificate)
    files.key.write_bytes(key)
    return files


@asynccontextmanager
async def gateway_world(
    folder: Path,
    settings: GatewaySettings | None = None,
    clock: Clock | None = None,
    writer: LogWriter | None = None,
    log: Log | None = None,
) -> AsyncIterator[GatewayWorld]:
    """A gateway that listens on a free port; `writer` stands in for the memory log's."""
    identity = make_world(folder, clock=clock)
    log = log or MemoryLog(identity.clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    registry = CollectorRegistry()
    chosen = (settings or GatewaySettings()).model_copy(update={"port": 0})
    parts = GatewayParts(
        chosen,
        writer or await log.writer(),
        identity.authority,
        identity.tokens,
        identity.revocations,
        identity.clock,
        registry,
        log,
    )
    server = GatewayServer(parts)
    await server.start()
    try:
        yield GatewayWorld(identity, log, server, registry)
    finally:
        await server.stop()
        await log.close()
        identity.database.close()


class Sender:
    """A client with keep-alive, as a collector or a Prometheus is."""

    def __init__(self, world: GatewayWorld, context: ssl.SSLContext) -> None:
        self._world = world
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=8))

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, chunked: bool | None = None
    ) -> Answer:
        url = self._world.url + path
        async with self._session.post(url, data=body, headers=headers, chunked=chunked) as response:
            content = await response.read()
            return Answer(response.status, content.decode(errors="replace"), response.headers, content)

    async def get(self, path: str) -> Answer:
        async with self._session.get(self._world.url + path) as response:
            content = await response.read()
            return Answer(response.status, content.decode(errors="replace"), response.headers, content)

    async def json(self, path: str, content: object) -> Answer:
        async with self._session.post(self._world.url + path, json=content) as response:
            content = await response.read()
            return Answer(response.status, content.decode(errors="replace"), response.headers, content)

    async def write(
        self,
        rows: Rows,
        push: PushHeaders | None = None,
        *,
        version: int = 2,
        changed: Mapping[str, str] | None = None,
    ) -> Answer:
        """A push; `changed` replaces headers."""
        headers = {
            "Content-Type": CONTENT_TYPE_RW2 if version == 2 else CONTENT_TYPE_RW1,
            "Content-Encoding": "snappy",
            **(push.render() if push else {}),
            **(changed or {}),
        }
        body = encode_rw2(rows) if version == 2 else encode_rw1(rows)
        return await self.post("/api/v1/write", compress(body), headers)
