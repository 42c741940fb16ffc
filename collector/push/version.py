"""Which protocol the receiver takes: our own frames, else remote write 2.0, else 1.0; asked again daily."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path

from collector.spool.files import load_checked, save_checked
from collector.spool.frame import PayloadKind
from kernel.clock import Clock

RETRY_AFTER_MS = 24 * 3600 * 1000


class WireProtocol(StrEnum):
    """What a body is."""

    FRAMES = "frames"
    RW2 = "remote-write-2"
    RW1 = "remote-write-1"
    GAPS = "gaps"  # a notice, no samples


_TRIED = (WireProtocol.FRAMES, WireProtocol.RW2, WireProtocol.RW1)  # in this order


class VersionMemory:
    """Remembers over restarts what was refused with a 415, and that the receiver gives receipts for frames."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._since_ms: dict[WireProtocol, int] = {}
        self.took_frames = False
        fields = load_checked(path) or {}
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            if "version_1_since_ms" in fields:  # of before there were frames
                self._since_ms[WireProtocol.RW2] = int(fields["version_1_since_ms"])
            for name, since_ms in fields.get("refused_ms", {}).items():
                self._since_ms[WireProtocol(name)] = int(since_ms)
            self.took_frames = fields.get("took_frames") is True

    def choose(self, kind: PayloadKind) -> WireProtocol:
        """What to send a payload of this kind as, now. Remote write 1.0 is never refused for good."""
        first = WireProtocol.FRAMES if kind is PayloadKind.FRAMES else WireProtocol.RW2
        for protocol in _TRIED[_TRIED.index(first) : -1]:
            since_ms = self._since_ms.get(protocol)
            if since_ms is None or not 0 <= self._clock.now_ms() - since_ms < RETRY_AFTER_MS:
                return protocol
        return WireProtocol.RW1

    def refused(self, protocol: WireProtocol) -> None:
        """The receiver does not take it. Blocking."""
        self._since_ms[protocol] = self._clock.now_ms()
        if protocol is WireProtocol.FRAMES:
            self.took_frames = False
        self._save()

    def accepted(self, protocol: WireProtocol) -> None:
        """The receiver took it; of frames: with a receipt. Blocking."""
        is_news = self._since_ms.pop(protocol, None) is not None
        if protocol is WireProtocol.FRAMES and not self.took_frames:
            self.took_frames = is_news = True
        if is_news:
            self._save()

    def _save(self) -> None:
        refused = {protocol.value: since_ms for protocol, since_ms in self._since_ms.items()}
        with contextlib.suppress(OSError):  # then it is asked again after a restart, no more
            save_checked(self._path, {"refused_ms": refused, "took_frames": self.took_frames})
