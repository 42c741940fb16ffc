"""A wire between collector and gateway that can be cut: a TCP forwarder that sees only TLS bytes."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK_BYTES = 64 * 1024


class Wire:
    """Forwards TCP connections from a local port to the gateway until it is cut; counts what passes."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.port = 0
        self.bytes_out = 0
        self.connections = 0

    async def start(self) -> int:
        """Listen on a free loopback port; returns it."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def cut(self) -> None:
        """Break every connection; new ones are accepted and dropped at once, as a dead route would."""
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    async def heal(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        await self.cut()
        if self._server:
            self._server.close()
            self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pump(reader, far_writer, counted=True))
                directions.create_task(self._pump(far_reader, writer, counted=False))
        finally:
            self._open -= {writer, far_writer}
            for side in (writer, far_writer):
                side.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                sink.write(chunk)
                await sink.drain()
                self.bytes_out += len(chunk) if counted else 0
            if sink.can_write_eof():
                sink.write_eof()
