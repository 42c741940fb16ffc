"""`POST /v1/metrics`: OTLP over HTTP, protobuf and JSON. Source: OpenTelemetry specification, "OTLP/HTTP".

200 says what was written: nothing in it means everything, a partial success how many points were not and why.
Errors carry a `google.rpc.Status` in the encoding of the request; 429 and 503 say when to come again.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from enum import Enum
from typing import Any

from aiohttp import hdrs, web
from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.headers import parse_push_headers
from collector.wire.varint import length_delimited, varint
from kernel.errors import Refuse, Retry, truncate
from kernel.identity import Identity
from metering.gateway.answers import PartlyRefused, outcome_of, refused_response
from metering.gateway.body import BodyInPieces, BodyTooSlow, Unsupported, read_body
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.guard import IDENTITY
from metering.gateway.intake import Intake
from metering.gateway.metrics import Outcome
from metering.gateway.notices import Notices
from metering.gateway.remote_write import Arrival, RemoteWrite
from metering.gateway.tenants import Kind, Tenants, TenantState

METRICS_PATH = "/v1/metrics"
_INVALID_ARGUMENT, _UNAVAILABLE, _EXHAUSTED, _UNIMPLEMENTED = 3, 14, 8, 12
_CODES = {415: _UNIMPLEMENTED, 429: _EXHAUSTED, 413: _EXHAUSTED, 503: _UNAVAILABLE}
_MAX_GZIP_MEMBERS = 100
_MAX_JSON_BYTES = (
    4 * 1024 * 1024
)  # Python reads JSON in one go, in the way of all others, into twenty times its size
_HEX_IDS = frozenset({"traceId", "spanId", "trace_id", "span_id"})


class Encoding(Enum):
    """How messages are written; the value is the content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"

    def message(self, content: bytes) -> bytes:
        """A request in protobuf. Raises WireError."""
        return content if self is Encoding.PROTOBUF else _from_json(content)

    def success(self, refused: int = 0, why: str = "") -> bytes:
        """An ExportMetricsServiceResponse: partial_success = 1 {rejected_data_points = 1, error_message = 2}."""
        if self is Encoding.JSON:
            partial = {"rejectedDataPoints": str(refused), "errorMessage": why}
            return json.dumps({"partialSuccess": partial} if refused else {}).encode()
        if not refused:
            return b""
        return length_delimited(b"\x0a", b"\x08" + varint(refused) + length_delimited(b"\x12", why.encode()))

    def status(self, code: int, message: str) -> bytes:
        """A google.rpc.Status: code = 1, message = 2."""
        if self is Encoding.JSON:
            return json.dumps({"code": code, "message": message}).encode()
        return b"\x08" + varint(code) + length_delimited(b"\x12", message.encode())


class OtlpEndpoint:
    """Handles exports. One for the process."""

    def __init__(self, intake: Intake, tenants: Tenants, notices: Notices) -> None:
        self._intake = intake
        self._notices = notices
        self._tenants = tenants
        self._pushes = RemoteWrite(intake)

    async def post(self, request: web.Request) -> web.Response:
        """Answer one export."""
        identity = request[IDENTITY]
        encoding = Encoding.JSON if request.content_type == Encoding.JSON.value else Encoding.PROTOBUF
        metrics = self._intake.metrics
        state = self._tenants.state(identity.tenant, self._intake.clock.monotonic())
        with metrics.in_flight.track_inprogress():
            try:
                await self._take(request, encoding, identity, state)
            except PartlyRefused as error:
                metrics.pushes.labels(outcome_of(error)[0]).inc()
                return _answer(encoding, encoding.success(error.refused, str(error)))
            except (Refuse, Retry) as error:
                await self._intake.hold_back(error, state)
                return self._refusal(error, encoding, identity)
        metrics.pushes.labels(Outcome.WRITTEN).inc()
        return _answer(encoding, encoding.success())

    async def _take(self, request: web.Request, encoding: Encoding, identity: Identity, state: TenantState) -> None:
        if parse_push_headers(request.headers.items()) is not None:
            raise WireError.at("headers", "those of a push of our collector", "none: send it to /api/v1/write")
        compression = _negotiate(request)
        settings = self._intake.settings.body
        most = settings.decompressed_bytes if encoding is Encoding.PROTOBUF else _MAX_JSON_BYTES

        async def read() -> bytes:
            return await read_body(request, min(most, settings.body_bytes), settings.read_seconds)

        def decode(body: bytes) -> Pushed:
            content = inflate(body, most) if compression == "gzip" else body
            return state.otlp.decode(encoding.message(content), settings.for_decoding())

        with self._intake.expected(state, Kind.OTLP, request.content_length):
            delivery = await self._pushes.deliver(Arrival(read, decode, identity), state)
        state.learn(Kind.OTLP, delivery.rows, request.content_length)

    def _refusal(self, error: Refuse | Retry, encoding: Encoding, identity: Identity) -> web.Response:
        outcome, status = outcome_of(error)
        self._intake.metrics.pushes.labels(outcome).inc()
        self._notices.warn("push_refused", identity.who, outcome.value, status=status, text=truncate(str(error)))
        plain = refused_response(error, status)
        content = encoding.status(_CODES.get(status, _INVALID_ARGUMENT), truncate(str(error), 2000))
        response = web.Response(status=status, body=content, content_type=encoding.value)
        if hdrs.RETRY_AFTER in plain.headers:
            response.headers[hdrs.RETRY_AFTER] = plain.headers[hdrs.RETRY_AFTER]
        if isinstance(error, BodyTooLarge | BodyTooSlow | BodyInPieces):
            response.force_close()  # the rest of the body is not waited for
        return response


def _answer(encoding: Encoding, content: bytes) -> web.Response:
    return web.Response(body=content, content_type=encoding.value)


def _negotiate(request: web.Request) -> str:
    """The compression, "" for none. Raises Unsupported."""
    if request.content_type not in {encoding.value for encoding in Encoding}:
        raise Unsupported(f"content type {truncate(request.content_type)!r}: send application/x-protobuf or -json")
    compression = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if compression not in {"", "identity", "gzip"}:
        raise Unsupported(f"content encoding {truncate(compression)!r}: send gzip or none")
    return compression if compression == "gzip" else ""


def inflate(body: bytes, limit: int) -> bytes:
    """The content of a gzip body. Raises BodyTooLarge as soon as it is over `limit` bytes, WireError.

    What follows a member is copied for the next: a body of nothing but empty members would be copied 400,000 times.
    """
    content = bytearray()
    for _ in range(_MAX_GZIP_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            content += member.decompress(body, limit + 1 - len(content))
        except zlib.error as error:
            raise WireError.at("body", f"no gzip: {error}", "gzip, as the content encoding says") from None
        if len(content) > limit:
            raise BodyTooLarge.at("body", f"over {limit} bytes", f"at most {limit} bytes decompressed: export less")
        if not member.eof:
            raise WireError.at("body", "an end in the middle of its gzip", "whole gzip")
        body = member.unused_data
        if not body:
            return bytes(content)
    raise WireError.at("body", f"over {_MAX_GZIP_MEMBERS} gzip members", "one, or a few")


def _from_json(content: bytes) -> bytes:
    """A request in protobuf from one in JSON. Raises WireError."""
    try:
        message = ParseDict(
            _with_ids(json.loads(content)), ExportMetricsServiceRequest(), ignore_unknown_fields=True
        )
    except (ValueError, ParseError, RecursionError) as error:
        raise WireError.at("body", f"no OTLP: {truncate(str(error))}", "an ExportMetricsServiceRequest") from None
    encoded: bytes = message.SerializeToString()
    return encoded


def _with_ids(value: Any) -> Any:
    """Trace and span ids, which OTLP writes in hex, as protobuf's JSON wants bytes: base64. Raises ValueError."""
    if isinstance(value, list):
        return [_with_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64encode(binascii.unhexlify(each)).decode()
        if name in _HEX_IDS and isinstance(each, str)
        else _with_ids(each)
        for name, each in value.items()
    }
