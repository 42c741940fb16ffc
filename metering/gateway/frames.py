"""Our own frames: checked by their heads, patches and extras, passed on as they came.

No column is opened and nothing is done per sample; extras are looked into as far as that takes no state. What a
frame builds on is held against what was appended before it (`groups`), so that the log holds no frame that its
readers could not decode.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiohttp import hdrs, web
from aiohttp.helpers import parse_mimetype

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.frames import CONTENT_TYPE, VERSION, Body, FrameLimits, UnknownState, check_extras, open_body
from collector.wire.headers import PushHeaders
from kernel.errors import SlowDown, truncate
from kernel.identity import Identity
from kernel.log import LogUnavailable, Position, Record
from metering.gateway.admission import Moment
from metering.gateway.answers import PartlyRefused, UnknownFrames
from metering.gateway.body import Unsupported, read_body
from metering.gateway.frame_rules import CheckedEntries, check_entries, check_resync, check_times, cost_of
from metering.gateway.groups import Group, Groups
from metering.gateway.intake import Delivery, Intake, Timed, Turns
from metering.gateway.remote_write import lane_of
from metering.gateway.series import Refusal
from metering.gateway.settings import TenantLimits
from metering.gateway.tenants import TenantState
from metering.record import PART_STRIDE, BatchHeader, RecordFormat, record_key, render_header
from metering.record import Sequence as PushSequence

_RECORD_HEADERS_BYTES = 2048  # more than the key and the headers of a record take
_USUAL_SECONDS, _USUAL_SECONDS_PER_ENTRY, _USUAL_SECONDS_PER_EXTRAS_BYTE = 0.005, 0.00005, 0.00000005
_SMALL_BODY_BYTES, _SMALL_PATCH_BYTES, _SMALL_EXTRAS_BYTES, _SMALL_BLOCKS = (
    64 * 1024,
    16 * 1024,
    8 * 1024,
    100,
)  # opened in well under a millisecond
_FEW_ENTRIES = 500
_SERIES_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Opened:
    """A body that is well-formed by itself."""

    content: bytes
    body: Body
    entries: CheckedEntries
    extras_bytes: int  # decompressed
    sha256: str


def is_frames(request: web.Request) -> bool:
    """Whether a push says that it is frames of ours, of whatever version."""
    mime = parse_mimetype(request.headers.get(hdrs.CONTENT_TYPE, ""))
    return f"{mime.type}/{mime.subtype}" == CONTENT_TYPE


def _check_headers(request: web.Request, push: PushHeaders | None) -> PushHeaders:
    """The identity of a push of frames. Raises Unsupported (415), WireError (400)."""
    text = request.headers.get(hdrs.CONTENT_TYPE, "")
    if parse_mimetype(text).parameters.get("version") != str(VERSION):
        raise Unsupported(f"content type {truncate(text)!r}: this gateway speaks version {VERSION}")
    if encoding := request.headers.get(hdrs.CONTENT_ENCODING):
        raise Unsupported(f"content encoding {truncate(encoding)!r}: frames are compressed inside, send none")
    if push is None:
        raise WireError.at("request headers", "no X-Byoc- header", "frames need the identity of their push")
    return push


class Frames:
    """Takes pushes of our collector's own protocol."""

    def __init__(self, intake: Intake, groups: Groups) -> None:
        self._intake, self._groups, self._limits = intake, groups, groups.limits
        self._small = replace(
            groups.limits,
            max_patch_bytes=_SMALL_PATCH_BYTES,
            max_body_extras_bytes=_SMALL_EXTRAS_BYTES,
            max_blocks=_SMALL_BLOCKS,
        )

    async def take(
        self, request: web.Request, identity: Identity, state: TenantState, push: PushHeaders | None
    ) -> Delivery:
        """Read, check and append one push. Raises UnknownFrames and what `answers` lists."""
        named, intake = _check_headers(request, push), self._intake
        async with intake.turn(state):
            content = await read_body(request, self._body_limit(), intake.settings.body.read_seconds)
            intake.metrics.received.inc(len(content))
            if (small := self._open_small(content, state.limits)) is not None:
                return await self._pass_on(small, identity, state, named)
            timed = Timed(lambda: self._open(content, state.limits, self._limits))
            usual = _USUAL_SECONDS
            try:
                async with intake.decode_turn(state):  # a section may decompress to many times its size
                    opened = await intake.decode(timed.run)
                usual += _USUAL_SECONDS_PER_ENTRY * opened.entries.count
                usual += _USUAL_SECONDS_PER_EXTRAS_BYTE * opened.extras_bytes
                return await self._pass_on(opened, identity, state, named)
            finally:
                intake.charge(state, timed.seconds - usual)

    def _body_limit(self) -> int:
        """Bytes of a body that one record can hold: ours, or the broker's if it takes less."""
        record = self._intake.max_record_bytes - _RECORD_HEADERS_BYTES
        return min(self._limits.max_body_bytes, self._intake.settings.body.body_bytes, record)

    def _open_small(self, content: bytes, limits: TenantLimits) -> _Opened | None:
        """Most pushes: next to no work, so done at once. None for one that needs a thread."""
        if len(content) > _SMALL_BODY_BYTES:
            return None
        try:
            return self._open(content, limits, self._small)
        except BodyTooLarge:
            return None

    def _open(self, content: bytes, limits: TenantLimits, bounds: FrameLimits) -> _Opened:
        body = open_body(content, bounds)
        entries, extras_bytes = check_entries(body, limits), check_extras(body, bounds)
        return _Opened(content, body, entries, extras_bytes, hashlib.sha256(content).hexdigest())

    async def _pass_on(
        self, opened: _Opened, identity: Identity, state: TenantState, push: PushHeaders
    ) -> Delivery:
        body, metrics = opened.body, self._intake.metrics
        now_ms = self._intake.clock.now_ms()
        check_resync(body, push)
        self._refuse(opened.entries.refused)
        self._refuse(check_times(body, state.limits, now_ms))
        moment = Moment(now_ms, self._intake.clock.monotonic())
        group = self._groups.group(identity, push, body.group, moment)
        async with Turns(self._intake.settings.waiting_seconds, (group.turn,)):
            self._groups.refresh(group)
            try:
                await _run(opened, lambda: group.guard.check(body))
            except UnknownState as error:
                raise UnknownFrames(body.group, str(error)) from error
            self._check_room(opened, group, state)
            record = _record(opened, identity, push, now_ms)
            positions = await self._append(group, record, state, cost_of(body, opened.entries), push)
            await _run(opened, lambda: group.guard.apply(body))
            self._groups.publish(group, body)
        metrics.samples.labels(push.lane.value).inc(body.samples)
        metrics.claims.inc(opened.entries.claims)
        return Delivery(opened.sha256, body.samples, now_ms, positions)

    async def _append(
        self, group: Group, record: Record, state: TenantState, cost: int, push: PushHeaders
    ) -> Sequence[Position]:
        try:
            return await self._intake.append(lane_of(push).topic, [record], state, cost)
        except (LogUnavailable, asyncio.CancelledError):
            self._groups.forget(group)  # whether the log has it is not known, so neither is what builds on it
            raise

    def _check_room(self, opened: _Opened, group: Group, state: TenantState) -> None:
        """The tenant's limit of active series, asked when a push brings new ones. Raises SlowDown."""
        if opened.entries.count and (lacking := self._groups.hold_places(group, opened.body)):
            limit = state.limits.active_series
            raise SlowDown(f"{lacking} new series over the limit of {limit} active series", _SERIES_WAIT_SECONDS)

    def _refuse(self, refused: Counter[Refusal]) -> None:
        """All or nothing: the collector cuts a body that is refused until the bad part stands alone."""
        if not refused:
            return
        for reason, count in refused.items():
            self._intake.metrics.refused.labels(reason).inc(count)
        reasons = ", ".join(f"{reason.value}: {count}" for reason, count in sorted(refused.items()))
        raise PartlyRefused(f"nothing was written: {reasons}", 0)


async def _run(opened: _Opened, work: Callable[[], None]) -> None:
    """Work on the guard: at once when it is next to nothing, in a thread when the body brings many series."""
    if opened.entries.count > _FEW_ENTRIES:
        await asyncio.to_thread(work)
    else:
        work()


def _record(opened: _Opened, identity: Identity, push: PushHeaders, now_ms: int) -> Record:
    # Numbered as the records of remote write are: a lane may change its protocol, its numbers go on.
    header = BatchHeader(
        tenant=identity.tenant,
        collector=identity.collector,
        lane=lane_of(push),
        received_ms=now_ms,
        sha256=opened.sha256,
        sequence=PushSequence(push.epoch, push.sequence, push.part * PART_STRIDE),
        complete_through_ms=push.complete_through_ms,
        previous=push.previous,
        resync=push.resync,
        format=RecordFormat.FRAMES,
    )
    return Record(record_key(header), opened.content, render_header(header, opened.body.samples))
