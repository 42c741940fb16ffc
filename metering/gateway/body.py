"""The body of a push: which protocol it is, and its bytes, read within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import Enum

from aiohttp import hdrs, web
from aiohttp.helpers import parse_mimetype

from collector.wire.errors import BodyTooLarge
from collector.wire.model import DecodeLimits
from collector.wire.snappy import declared_length, decompress_view
from kernel.errors import Refuse, truncate
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.settings import BodyLimits
from metering.gateway.tenants import TenantState

_FEW_CHUNKS, _LEAST_CHUNK_BYTES = 100, 256
_MESSAGES = {"": 1, "prometheus.WriteRequest": 1, "io.prometheus.write.v2.Request": 2}


class Unsupported(Refuse):
    """A content type or encoding that is not remote write's: 415, so that a sender may fall back."""


class BodyTooSlow(Refuse):
    """The body did not arrive in time: 408."""


class BodyInPieces(Refuse):
    """A body of tiny HTTP chunks, each of which costs as much as a large one: 400, and the connection is closed."""


class Protocol(Enum):
    """Remote write 1.0 and 2.0."""

    RW1 = 1
    RW2 = 2

    def decode(self, body: bytes, limits: DecodeLimits, state: TenantState) -> Pushed:
        """The columns of a compressed body; the caller holds the tenant's lock. Raises BodyTooLarge, WireError."""
        content = decompress_view(body, limits.max_decompressed_bytes)
        decoder = state.rw1 if self is Protocol.RW1 else state.rw2
        return decoder.decode(content, limits)


def negotiate(request: web.Request) -> Protocol:
    """The protocol of a request by its headers (remote write 2.0, "Protocol"). Raises Unsupported."""
    text = request.headers.get(hdrs.CONTENT_TYPE, "")
    mime = parse_mimetype(text)
    number = _MESSAGES.get(mime.parameters.get("proto", ""))
    if (mime.type, mime.subtype) != ("application", "x-protobuf") or number is None:
        raise Unsupported(
            f"content type {truncate(text)!r}: send application/x-protobuf, for remote write 2.0 with"
            " ;proto=io.prometheus.write.v2.Request"
        )
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
    if encoding.strip().lower() != "snappy":
        raise Unsupported(f"content encoding {truncate(encoding)!r}: send snappy (block format)")
    return Protocol(number)


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """The whole body as sent. Raises BodyTooLarge as soon as it is over `limit` bytes, BodyTooSlow."""
    if (request.content_length or 0) > limit:
        raise BodyTooLarge.at("body", f"{request.content_length} bytes", f"at most {limit} bytes: push less")
    if request.content.is_eof() and request.content_length is not None:  # it came with its head
        return request.content.read_nowait()
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for block in _blocks(request):
                body += block
                if len(body) > limit:
                    raise BodyTooLarge.at("body", f"over {limit} bytes", f"at most {limit} bytes: push less")
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} seconds") from None
    return bytes(body)


async def _blocks(request: web.Request) -> AsyncIterator[bytes]:
    """What has arrived, bit by bit. Raises BodyInPieces."""
    if request.content_length is not None:
        async for block in request.content.iter_any():
            yield block
        return
    chunks = size = 0
    async for block, is_end in request.content.iter_chunks():
        chunks, size = chunks + is_end, size + len(block)
        if chunks > _FEW_CHUNKS and size < chunks * _LEAST_CHUNK_BYTES:
            text = f"{chunks} HTTP chunks of {size // chunks} bytes on average: send larger ones, or Content-Length"
            raise BodyInPieces(text)
        yield block


async def read_push(request: web.Request, limits: BodyLimits) -> bytes:
    """The body, whose declared decompressed size is within limits. Raises BodyTooLarge, BodyTooSlow, WireError."""
    body = await read_body(request, limits.body_bytes, limits.read_seconds)
    if (declared := declared_length(body)) > limits.decompressed_bytes:
        allowed = f"at most {limits.decompressed_bytes} bytes decompressed: push less at once"
        raise BodyTooLarge.at("body", f"{declared} bytes declared", allowed)
    return body
