"""One connection to one server."""

from __future__ import annotations

import asyncio
from typing import cast

from collector.client.plain.answer import AnswerReader, Wanted
from collector.client.plain.bodies import Bodies
from collector.client.plain.head import BadAnswer, Head, HungUp, NotPlain


class PlainConnection(asyncio.BufferedProtocol):
    """Asks one thing at a time."""

    def __init__(self, bodies: Bodies) -> None:
        self._reader = AnswerReader(bodies)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[tuple[Head, bytearray]] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes, wanted: Wanted) -> tuple[Head, bytearray]:
        """The answer to a request. Raises HungUp, BadAnswer, NotPlain; then the connection is closed."""
        if self._transport is None:
            raise HungUp(is_clean=True)
        self._reader.begin(wanted)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        if body:
            self._transport.write(body)
        try:
            return await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._done = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        done = self._done
        if done is None or done.done():
            return
        try:
            self._reader.hung_up(error)
            done.set_result(self._reader.take())
        except HungUp as hung_up:
            done.set_exception(hung_up)

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        done = self._done
        if done is None or done.done():
            self.close()  # bytes that no one asked for
            return
        try:
            if not self._reader.received(nbytes):
                return
        except (BadAnswer, NotPlain) as error:
            done.set_exception(error)
            self.close()
            return
        head, body = self._reader.take()
        if not head.is_kept:
            self.close()
        done.set_result((head, body))
