"""All receivers of `remote_write`: a second consumer behind the scrape, beside the frames."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from collector.errors import SpoolFull, SpoolUnavailable
from collector.gate import ShippingGate
from collector.metrics import CollectorMetrics
from collector.push.version import VersionMemory
from collector.relabel import RelabelRule, relabel
from collector.remote_write.meta import render_meta
from collector.remote_write.sender import ReceiverSender, SenderParts, SentLedger
from collector.remote_write.settings import RemoteWriteSettings
from collector.remote_write.stream import Cutting, Relabel, Request, StreamRequests
from collector.remote_write.template import Pairs
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions, PayloadDraft
from collector.wire.frames import EntryTable, Tick
from collector.wire.headers import PushLane
from collector.wire.snappy import compress
from kernel.clock import Clock
from kernel.logs import logger

_log = logger("remote_write")
_SMALL = 1000  # series: below it, encoding costs less than the hop to a thread
_SEGMENT = 16 * 1024 * 1024


class Receiver:
    """One receiver: its streams, its spool, its sender."""

    def __init__(
        self, settings: RemoteWriteSettings, folder: Path, clock: Clock, metrics: CollectorMetrics,
        gate: ShippingGate, ledger: SentLedger | None = None,
    ) -> None:  # fmt: skip
        """`ledger`: where what was sent is written down."""
        self.settings = settings
        self.label = settings.folder_name
        options = LaneOptions(PushLane.BULK, settings.quota, min(_SEGMENT, settings.quota // 4))
        self.spool = LaneSpool(folder / self.label, options, clock)
        version = VersionMemory(folder / self.label / "version.json", clock)
        self.sender = ReceiverSender(settings, SenderParts(self.spool, version, metrics, clock, gate, ledger))
        self._metrics = metrics
        self._cutting = Cutting(
            settings.queue_config.max_samples_per_send,
            relabeller([one.rule() for one in settings.write_relabel_configs]),
            settings.send_exemplars,
            settings.send_native_histograms,
        )
        self._streams: WeakKeyDictionary[EntryTable, StreamRequests] = WeakKeyDictionary()

    async def take(self, table: EntryTable, tick: Tick) -> None:
        """Encode a tick and put it on disk. A disk that does not take it: counted, the scrape goes on."""
        stream = self._streams.get(table)
        if stream is None:
            stream = self._streams[table] = StreamRequests(self._cutting)
        try:
            if len(table) > _SMALL:
                requests = await asyncio.to_thread(_encoded, stream, table, tick)
            else:
                requests = _encoded(stream, table, tick)
        except (ValueError, LookupError) as error:  # the gateway's lanes must not suffer
            del self._streams[table]  # the next tick takes it up whole
            self._metrics.receiver_lost.labels(self.label, "encoding").inc(len(table))
            _log.error("receiver_encoding_failed", receiver=self.label, error=f"{type(error).__name__}: {error}")
            return
        drafts = [PayloadDraft(one.samples + one.histograms, render_meta(one), body) for one, body in requests]
        stored = await asyncio.gather(*(self.spool.append(draft) for draft in drafts), return_exceptions=True)
        for draft, outcome in zip(drafts, stored, strict=True):
            if isinstance(outcome, SpoolUnavailable | SpoolFull):
                self._metrics.receiver_lost.labels(self.label, "disk").inc(draft.samples)
            elif isinstance(outcome, BaseException):
                raise outcome


class RemoteWrite:
    """The receivers of a collector; without one, nothing happens."""

    def __init__(
        self, settings: Sequence[RemoteWriteSettings], folder: Path, clock: Clock, metrics: CollectorMetrics,
        gate: ShippingGate | None = None, ledger: SentLedger | None = None,
    ) -> None:  # fmt: skip
        gate = gate or ShippingGate()
        self.receivers = [Receiver(one, folder / "remote", clock, metrics, gate, ledger) for one in settings]
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take the spools. Raises SpoolLocked, OSError."""
        for one in self.receivers:
            await asyncio.to_thread(one.spool.open)
            self._metrics.receiver_spool_bytes.labels(one.label).set_function(partial(_spool_bytes, one))

    async def take(self, table: EntryTable, tick: Tick) -> None:
        """A tick of a stream; every one of it must come, in order, before the next scrape changes its arrays."""
        for one in self.receivers:
            await one.take(table, tick)

    async def run(self) -> None:
        """Send until cancelled. Raises what a sender raised."""
        async with asyncio.TaskGroup() as group:
            for one in self.receivers:
                group.create_task(one.sender.run(), name=f"remote_write.{one.label}")
            await asyncio.Event().wait()

    def problems(self) -> list[str]:
        """Which receivers do not take what is sent, and why."""
        return [f"{one.label}: {one.sender.last_error}" for one in self.receivers if one.sender.last_error]

    async def close(self) -> None:
        """Let the spools go; what waits is sent after the next start. Idempotent."""
        for one in self.receivers:
            await one.spool.close()


def _spool_bytes(receiver: Receiver) -> float:
    return receiver.spool.bytes


def _encoded(stream: StreamRequests, table: EntryTable, tick: Tick) -> list[tuple[Request, bytes]]:
    return [(one, compress(one.body)) for one in stream.take(table, tick)]


def relabeller(rules: Sequence[RelabelRule]) -> Relabel | None:
    """The rules as a function of labels; None without rules."""
    if not rules:
        return None

    def apply(pairs: Pairs) -> Pairs | None:
        changed = relabel({name.decode(): value.decode() for name, value in pairs}, rules)
        if not changed or not changed.get("__name__"):
            return None
        return sorted((name.encode(), value.encode()) for name, value in changed.items() if value)

    return apply
