"""Asks the gateway for certificates: `/enrol` with a token once, `/renew` with the old certificate ever after."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from collector.client.plain import Request
from collector.errors import EnrolmentFailed, IdentityRefused
from collector.identity.store import HeldCertificate, IdentityFolder
from collector.push.gateway import GatewayClient
from collector.settings import GatewaySettings
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.identity import client_context, render_csr
from kernel.logs import logger

_log = logger("identity")
MAX_ANSWER_BYTES = 256 * 1024
_RETRY_SECONDS = 60.0


class IdentityClient:
    """Keeps this collector's certificate good."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self.folder = IdentityFolder(settings.identity)
        self._settings = settings
        self._clock = clock

    async def ensure(self) -> HeldCertificate:
        """The certificate, expired perhaps; by enrolment if there is none yet.

        Raises IdentityRefused, EnrolmentFailed.
        """
        if await asyncio.to_thread(self.folder.is_enrolled):
            return await asyncio.to_thread(self.folder.check, self._clock.now(), to_renew=True)
        return await self.enrol()

    async def enrol(self) -> HeldCertificate:
        """Use the token of `token_file`. Raises IdentityRefused, EnrolmentFailed."""
        await asyncio.to_thread(self.folder.prepare)
        token = await asyncio.to_thread(self._token)
        csr = render_csr(await asyncio.to_thread(self.folder.pending_key)).decode()
        context = await asyncio.to_thread(self._enrolment_context)
        held = await self._ask("/enrol", {"token": token, "csr": csr}, context)
        _log.info("enrolled", identity=held.identity.who, until=held.not_after.isoformat())
        return held

    async def renew(self) -> HeldCertificate:
        """A new certificate for a new key, asked for with the old. Raises IdentityRefused, EnrolmentFailed."""
        csr = render_csr(await asyncio.to_thread(self.folder.pending_key)).decode()
        context = await asyncio.to_thread(self.context, to_renew=True)
        held = await self._ask("/renew", {"csr": csr}, context)
        _log.info("renewed", identity=held.identity.who, until=held.not_after.isoformat())
        return held

    def context(self, *, to_renew: bool = False) -> ssl.SSLContext:
        """TLS to the gateway with our certificate. Blocking. Raises IdentityRefused, InvalidInput."""
        self.folder.check(self._clock.now(), to_renew=to_renew)
        path = self.folder.certificate_path
        return client_context(self._authority(), path, path)

    def _authority(self) -> bytes:
        authority = self.folder.authority_path.read_bytes()
        ca_file = self._settings.ca_file
        return authority + ca_file.read_bytes() if ca_file else authority

    def _enrolment_context(self) -> ssl.SSLContext:
        if self._settings.ca_file is None:
            context = ssl.create_default_context()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            return context
        try:
            return client_context(self._settings.ca_file.read_bytes())
        except OSError as error:
            raise IdentityRefused(f"gateway.ca_file {self._settings.ca_file}: {error.strerror}") from error

    def _token(self) -> str:
        path = self._settings.token_file
        if path is None:
            raise IdentityRefused(
                "not enrolled: set gateway.token_file to a file with the vendor's enrolment token"
            )
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityRefused(
                f"not enrolled, and gateway.token_file {path} is not readable: {error}"
            ) from error

    async def _ask(self, path: str, question: dict[str, str], context: ssl.SSLContext) -> HeldCertificate:
        answer = await self._post(path, question, context)
        try:
            certificate, authority = answer["certificate"], answer["authority"]
            certificate_pem, authority_pem = certificate.encode("ascii"), authority.encode("ascii")
        except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
            raise EnrolmentFailed(f"{path} answered without a certificate: {error!r}") from error
        return await asyncio.to_thread(self.folder.save, certificate_pem, authority_pem)

    async def _post(self, path: str, question: dict[str, str], context: ssl.SSLContext) -> Any:
        url = self._settings.url + path
        body = json.dumps(question).encode()
        request = Request(path, {"Content-Type": "application/json"}, "POST", body)
        client = GatewayClient(self._settings, context)
        try:
            async with asyncio.timeout(self._settings.timeout):
                status, _, content = await client.ask(request, MAX_ANSWER_BYTES)
            if status == 200:
                return json.loads(content)
        except (TimeoutError, OSError, ValueError) as error:
            raise EnrolmentFailed(f"{url}: {truncate(repr(error))}") from error
        finally:
            await client.close()
        reason = truncate(content.decode("utf-8", "replace"))
        if status in (400, 401, 403, 404, 409, 410):
            raise IdentityRefused(f"{url} answered {status}: {reason}: ask the vendor for a new token")
        raise EnrolmentFailed(f"{url} answered {status}: {reason}")
