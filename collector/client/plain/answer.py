"""One answer after the other out of the bytes of a connection, without I/O.

Bytes are written into `buffer()` and counted by `received`. Of a body whose length is known, `buffer` is the body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from collector.client.plain.bodies import LARGE_BYTES, Bodies
from collector.client.plain.head import (
    MAX_HEAD_BYTES,
    BadAnswer,
    Head,
    HungUp,
    NotPlain,
    parse_chunk_size,
    parse_head,
)

_STAGE_BYTES = 16 * 1024
_LARGE_STAGE_BYTES = 256 * 1024
_TOO_LONG = "the body is longer than body_size_limit {} bytes"


class Taker(Protocol):
    """Takes a body piece by piece, in place of one memory for all of it."""

    def add(self, piece: memoryview, /) -> None:
        """The next bytes, which are others once this returns. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is taken: the whole body of a 200, up to `limit` bytes (0: any). `any_status`: any answer, cut there.

    `taker` is asked, once a body is known to be large, for what takes it (None: it is kept whole).
    """

    limit: int = 0
    any_status: bool = False
    taker: Callable[[Head], Taker | None] | None = None


class AnswerReader:
    """The answers of one connection. `begin` before each."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._wanted = Wanted()
        self._stage = bytearray(_STAGE_BYTES)
        self._staged = 0  # bytes of the stage that are not read yet
        self._last_size = _STAGE_BYTES
        self._head: Head | None = None
        self._body = bytearray()
        self._got = 0
        self._taker: Taker | None = None  # of this body
        self._may_take = False
        self._chunk = 0  # what is left of a chunk, its line end included
        self._is_done = True

    def begin(self, wanted: Wanted) -> None:
        """The next answer."""
        self._wanted, self._head, self._is_done = wanted, None, False
        self._got = self._chunk = self._staged = 0
        self._taker, self._may_take = None, wanted.taker is not None

    def buffer(self) -> memoryview:
        """Where the next bytes belong."""
        if self._is_direct():
            return memoryview(self._body)[self._got :]
        size = len(self._stage)
        if self._staged == size or (size < _LARGE_STAGE_BYTES and self._got > LARGE_BYTES):
            # A new one: whoever was given a view of the old one may hold it still.
            self._stage = self._stage[: self._staged] + bytes(max(2 * size, _LARGE_STAGE_BYTES) - self._staged)
        return memoryview(self._stage)[self._staged :]

    def received(self, size: int) -> bool:
        """So many bytes came; whether the answer is whole. Raises BadAnswer, NotPlain."""
        if self._is_direct():
            self._got += size
        else:
            self._staged += size
            self._read_stage()
        head = self._head
        if head is not None and head.length is not None and self._got >= self._size(head.length):
            self._is_done = True
        return self._is_done

    def _size(self, length: int) -> int:
        """How many bytes of a body of this length are taken."""
        return length if self._taker is not None else min(length, len(self._body))

    def hung_up(self, error: Exception | None) -> None:
        """The connection ended. Raises HungUp, unless that is how the answer ends."""
        head = self._head
        if head is None or error is not None or head.length is not None or head.is_chunked:
            raise HungUp(is_clean=head is None and self._staged == 0)

    def take(self) -> tuple[Head, bytearray]:
        """The answer, without what a taker took. Once."""
        assert self._head is not None
        head, body, self._body = self._head, self._body, bytearray()
        del body[self._got if self._taker is None else 0 :]
        self._taker = None
        self._last_size = max(self._got, _STAGE_BYTES)
        return head, body

    def _is_direct(self) -> bool:
        """The body's length is known, so the socket writes into it."""
        return self._head is not None and self._head.length is not None and self._got < len(self._body)

    def _read_stage(self) -> None:
        if self._head is None:
            end = self._stage.find(b"\r\n\r\n", 0, self._staged)
            if end < 0:
                if self._staged > MAX_HEAD_BYTES:
                    raise BadAnswer(f"a head of more than {MAX_HEAD_BYTES} bytes")
                return
            self._begin_body(parse_head(bytes(self._stage[:end])))
            self._drop(end + 4)
        assert self._head is not None
        if self._head.is_chunked:
            self._read_chunks()
            return
        size, length = self._staged, self._head.length
        if length is not None and size > length - self._got:  # bytes that no one asked for
            self._head.is_kept = False
            size = length - self._got
        self._append(size)
        self._staged = 0

    def _begin_body(self, head: Head) -> None:
        wanted, length = self._wanted, head.length
        if head.is_packed or (head.is_redirect and not wanted.any_status):
            raise NotPlain
        if head.status < 200 or (head.status != 200 and not wanted.any_status):
            raise BadAnswer(f"HTTP status {head.status}; 200 is expected")
        self._head = head
        if length is None:
            length = min(self._last_size, LARGE_BYTES) if self._may_take else self._last_size
        elif self._is_over(length):
            length = self._over()
        elif length > LARGE_BYTES and self._offer():
            return
        self._body = self._bodies.take(min(length, wanted.limit or length))

    def _read_chunks(self) -> None:
        stage, at, end = self._stage, 0, self._staged
        while at < end and not self._is_done:
            if self._chunk > 2:
                some = min(self._chunk - 2, end - at)
                self._append(some, at)
                self._chunk -= some
                at += some
            elif self._chunk:  # the line end behind a chunk
                some = min(self._chunk, end - at)
                self._chunk -= some
                at += some
            else:
                line = stage.find(b"\r\n", at, end)
                if line < 0:
                    if end - at > 1024:
                        raise BadAnswer("a chunk without a length")
                    break
                size = parse_chunk_size(bytes(stage[at:line]))
                if size == 0:
                    self._end_chunks(at, line)
                    return
                at, self._chunk = line + 2, size + 2
        self._drop(at)

    def _end_chunks(self, at: int, line: int) -> None:
        """Behind the last chunk: trailers, which mean nothing here, and an empty line."""
        if self._stage.find(b"\r\n\r\n", line, self._staged) >= 0:
            self._is_done = True
        elif self._staged - line > MAX_HEAD_BYTES:
            raise BadAnswer(f"trailers of more than {MAX_HEAD_BYTES} bytes")
        else:
            self._drop(at)

    def _offer(self) -> bool:
        """Whether there is a taker of this body, which then has what came so far."""
        if self._may_take:
            self._may_take = False
            assert self._wanted.taker is not None
            assert self._head is not None
            self._taker = self._wanted.taker(self._head)
            if self._taker is not None:
                self._taker.add(memoryview(self._body)[: self._got])
                self._body = bytearray()
        return self._taker is not None

    def _append(self, size: int, at: int = 0) -> None:
        got = self._got
        if self._is_over(got + size):
            size = self._over() - got
        if (got + size > LARGE_BYTES and self._offer()) or self._taker is not None:
            assert self._taker is not None
            self._taker.add(memoryview(self._stage)[at : at + size])
            self._got = got + size
            return
        body = self._body
        if got + size > len(body):
            body += bytes(max(got + size, 2 * len(body)) - len(body))
        body[got : got + size] = memoryview(self._stage)[at : at + size]
        self._got = got + size

    def _is_over(self, size: int) -> bool:
        return bool(self._wanted.limit) and size > self._wanted.limit

    def _over(self) -> int:
        """How much of the body is taken: it is cut, and the connection is of no more use. Raises BadAnswer."""
        if not self._wanted.any_status:
            raise BadAnswer(_TOO_LONG.format(self._wanted.limit))
        assert self._head is not None
        self._head.is_kept = False
        self._is_done = self._head.length is None
        return self._wanted.limit

    def _drop(self, size: int) -> None:
        rest = self._staged - size
        if rest:
            self._stage[:rest] = self._stage[size : self._staged]
        self._staged = rest
