"""`POST /enrol` {token, csr} and `POST /renew` {csr}: both answer {certificate, authority}."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from collector.wire.errors import BodyTooLarge
from kernel.errors import Denied, InvalidInput, Refuse, Retry
from kernel.identity import CertificateAuthority, IssuedCertificate
from kernel.identity.enrolment import EnrolmentTokens
from kernel.logs import logger
from metering.gateway.body import BodyTooSlow, read_body
from metering.gateway.buckets import KeyedBuckets, retry_after
from metering.gateway.guard import IDENTITY, Watch

MAX_BODY_BYTES = 32 * 1024
READ_SECONDS = 10.0
_CONCURRENT = 4  # transactions at a time: /enrol answers to anyone
_log = logger("gateway")


@dataclass(frozen=True, slots=True)
class Signer:
    """What hands out certificates."""

    authority: CertificateAuthority
    tokens: EnrolmentTokens


class EnrolEndpoint:
    """Turns tokens, and certificates that end, into certificates."""

    def __init__(self, signer: Signer, per_minute: float, watch: Watch) -> None:
        self._authority, self._tokens = signer.authority, signer.tokens
        self._clock, self._metrics, self._notices = watch.clock, watch.metrics, watch.notices
        self._buckets = KeyedBuckets(per_minute / 60, per_minute)
        self._turns = asyncio.Semaphore(_CONCURRENT)

    async def enrol(self, request: web.Request) -> web.Response:
        """The only path that answers without a certificate."""

        def redeem(fields: dict[str, bytes]) -> IssuedCertificate:
            return self._tokens.redeem(fields["token"].decode(), fields["csr"], self._authority)

        return await self._answer(request, f"address {request.remote}", ("token", "csr"), redeem)

    async def renew(self, request: web.Request) -> web.Response:
        """The next certificate, for who has one that is neither expired nor revoked."""
        identity = request[IDENTITY]

        def renew(fields: dict[str, bytes]) -> IssuedCertificate:
            return self._tokens.renew(identity, fields["csr"], self._authority)

        return await self._answer(request, f"collector {identity.who}", ("csr",), renew)

    async def _answer(
        self,
        request: web.Request,
        who: str,
        names: tuple[str, ...],
        issue: Callable[[dict[str, bytes]], IssuedCertificate],
    ) -> web.Response:
        path = request.path.lstrip("/")
        if wait := self._buckets.take(who, self._clock.monotonic()):
            return self._refuse(who, path, 429, "too many requests for certificates: try later", retry_after(wait))
        try:
            fields = _parse(await read_body(request, MAX_BODY_BYTES, READ_SECONDS), names)
            async with self._turns:
                issued = await asyncio.to_thread(issue, fields)
        except (Refuse, Retry) as error:
            return self._refuse(
                who, path, _status(error), str(error), retry_after(2) if isinstance(error, Retry) else None
            )
        self._metrics.certificates.labels(path, "issued").inc()
        _log.info("certificate_issued", path=path, who=who, serial=issued.serial)
        answer = {
            "certificate": issued.certificate_pem.decode(),
            "authority": self._authority.certificate_pem.decode(),
        }
        return web.json_response(answer, headers={hdrs.CACHE_CONTROL: "no-store"})

    def _refuse(self, who: str, path: str, status: int, text: str, retry: str | None) -> web.Response:
        self._metrics.certificates.labels(path, "refused").inc()
        self._notices.warn("certificate_refused", who, str(status), path=path, text=text)
        headers = {hdrs.RETRY_AFTER: retry} if retry else None
        response = web.Response(status=status, text=f"{text}\n", headers=headers)
        response.force_close()
        return response


def _status(error: Refuse | Retry) -> int:
    for kind, status in ((BodyTooLarge, 413), (BodyTooSlow, 408), (Denied, 403), (Retry, 503)):
        if isinstance(error, kind):
            return status
    return 400


def _parse(body: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named texts of a JSON object that has no other fields. Raises InvalidInput, repeating no content."""
    allowed = f"a JSON object of {' and '.join(names)}"
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput.single("request", "body", "no JSON", allowed) from None
    if not isinstance(content, dict) or set(content) != set(names):
        raise InvalidInput.single("request", "body", "other fields", allowed)
    fields: dict[str, bytes] = {}
    for name in names:
        value = content[name]
        if not isinstance(value, str) or not value.isascii():
            raise InvalidInput.single("request", name, "something else", "ASCII text")
        fields[name] = value.encode("ascii")
    return fields
