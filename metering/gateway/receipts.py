"""Signed answers: the receipt of a push that is durable, and the public keys to check it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web

from collector.wire.headers import PushHeaders
from collector.wire.receipt import CONTENT_TYPE_RECEIPT, PushName, Receipt, ReceiptSigner, render_key_set
from collector.wire.receipt import Refusal as SignedRefusal
from kernel.identity import CertificateAuthority, Identity
from metering.gateway.intake import Delivery
from metering.refusal import Refusal


class Receipts:
    """Signs with the key in the authority's folder. One for the process."""

    def __init__(self, authority: CertificateAuthority) -> None:
        """Blocking. Raises InvalidInput when the key can't be read or made."""
        self.signer = ReceiptSigner(authority.receipt_key())
        self._keys = render_key_set([self.signer.public], authority.sign_statement)

    def response(
        self,
        name: PushName,
        delivery: Delivery,
        headers: Mapping[str, str],
        refused: Sequence[Refusal] = (),
    ) -> web.Response:
        """200 with the receipt of a push that the log has acknowledged.

        `refused` are negative receipts of earlier pushes, each signed by itself; the `offset` beside each signature
        is what the collector says it has seen.
        """
        log = tuple((one.topic, one.partition, one.offset) for one in delivery.positions)
        samples = delivery.samples + delivery.histograms  # as a collector counts them
        receipt = Receipt(name, delivery.sha256, samples, delivery.received_ms, log)
        body = self.signer.answer(receipt, [self._refusal(one) for one in refused])
        return web.Response(body=body, headers={**headers, hdrs.CONTENT_TYPE: CONTENT_TYPE_RECEIPT})

    def _refusal(self, refusal: Refusal) -> Mapping[str, Any]:
        header, sequence = refusal.header, refusal.sequence
        tenant, part = header.tenant, refusal.push_part
        name = PushName(
            *(tenant.organization, tenant.project, header.collector, header.lane.value),
            *(sequence.epoch, sequence.number, part),
        )
        signed = self.signer.sign(SignedRefusal(name, refusal.reason, refusal.refused_ms))
        return {**signed, "offset": refusal.offset}

    async def keys(self, _request: web.Request) -> web.Response:
        """`GET /api/v1/receipt-keys`."""
        return web.Response(body=self._keys, content_type=CONTENT_TYPE_RECEIPT)


def push_name(identity: Identity, push: PushHeaders) -> PushName:
    """Which push of which collector: who from the certificate, which from the headers."""
    tenant = identity.tenant
    return PushName(
        tenant.organization,
        tenant.project,
        identity.collector,
        push.lane.value,
        push.epoch,
        push.sequence,
        push.part,
    )
