"""Gap notices: what a collector says will never come, checked and appended to the log beside its pushes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from aiohttp import hdrs, web
from aiohttp.helpers import parse_mimetype

from collector.wire.errors import WireError
from collector.wire.gaps import CONTENT_TYPE, MAX_NOTICE_BYTES, NOTICE_PART, VERSION, parse_notice
from collector.wire.headers import PushHeaders
from kernel.errors import truncate
from kernel.identity import Identity
from kernel.log import Record
from metering.gaps import GivenUp, encode_gaps
from metering.gateway.body import Unsupported, read_body
from metering.gateway.intake import Delivery, Intake
from metering.gateway.remote_write import batch_header, lane_of
from metering.gateway.tenants import TenantState
from metering.record import RecordFormat, record_key, render_header


def is_notice(request: web.Request) -> bool:
    """Whether a push says that it is a gap notice, of whatever version."""
    mime = parse_mimetype(request.headers.get(hdrs.CONTENT_TYPE, ""))
    return f"{mime.type}/{mime.subtype}" == CONTENT_TYPE


class GapNotices:
    """Takes notices. One can speak of its own collector's numbers alone: the certificate says who that is."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def take(
        self, request: web.Request, identity: Identity, state: TenantState, push: PushHeaders | None
    ) -> Delivery:
        """Read, check and append one notice. Raises Unsupported (415), WireError (400) and what `append` does."""
        named, intake = _check_headers(request, push), self._intake
        async with intake.turn(state):
            body = await read_body(request, MAX_NOTICE_BYTES, intake.settings.body.read_seconds)
            intake.metrics.received.inc(len(body))
            runs = parse_notice(body)
            now_ms, digest = intake.clock.now_ms(), hashlib.sha256(body).hexdigest()
            header = replace(batch_header(identity, named, now_ms, digest), format=RecordFormat.GAPS)
            value = encode_gaps(GivenUp(run.first, run.last, run.reason.value) for run in runs)
            record = Record(record_key(header), value, render_header(header, 0))
            positions = await intake.append(lane_of(named).topic, [record], state, cost=len(runs))
        for run in runs:
            intake.metrics.given_up.labels(run.reason.value).inc(run.last - run.first + 1)
        return Delivery(digest, 0, now_ms, positions)


def _check_headers(request: web.Request, push: PushHeaders | None) -> PushHeaders:
    text = request.headers.get(hdrs.CONTENT_TYPE, "")
    if parse_mimetype(text).parameters.get("version") != str(VERSION):
        raise Unsupported(f"content type {truncate(text)!r}: this gateway speaks version {VERSION}")
    if encoding := request.headers.get(hdrs.CONTENT_ENCODING):
        raise Unsupported(f"content encoding {truncate(encoding)!r}: a notice is sent as it is")
    if push is None:
        raise WireError.at("request headers", "no X-Byoc- header", "a notice needs its lane and epoch")
    if push.part != NOTICE_PART or push.resync or push.complete_through_ms is not None:
        allowed = f"part {NOTICE_PART}, no resync, nothing complete: a notice is no push"
        raise WireError.at("request headers", f"part {push.part}", allowed)
    return push
