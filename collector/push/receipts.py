"""Judges what a gateway answered to frames: delivered is what a receipt says that verifies, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

from collector.errors import IdentityRefused
from collector.identity.receipt_keys import ReceiptKeys
from collector.push.answer import Answer
from collector.push.refusals import Refusals
from collector.push.transport import Push
from collector.wire.errors import WireError
from collector.wire.receipt import (
    RECEIPT_KEYS_PATH,
    KeySet,
    PushName,
    Receipt,
    Refusal,
    Signed,
    parse_answer,
    verify,
)
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.identity import Identity
from kernel.logs import logger

_log = logger("push")
Fetch = Callable[[str], Awaitable[Answer]]
_FETCH_AGAIN_SECONDS = 10.0  # after a key set that did not hold the key


class ReceiptJudge:
    """Knows who we are and which keys hold."""

    def __init__(
        self,
        keys: ReceiptKeys,
        fetch: Fetch,
        who: Callable[[], Identity],
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._fetch = fetch
        self._who = who
        self.refusals = refusals
        self._clock = clock
        self._known: KeySet | None = None
        self._fetched: float | None = None

    async def judge(self, push: Push, answer: Answer, samples: int | None) -> Signed[Receipt] | str:
        """The receipt for this push, verified; or what is wrong with the answer.

        `samples`: how many the gateway must have counted; None: not compared.
        """
        try:
            signed, refused = parse_answer(answer.text.encode())
            await self._verify(signed)
            problem = await asyncio.to_thread(self._differs, push, signed.content, samples)
            for one in refused:
                await self._verify(one)
            if refused:
                await asyncio.to_thread(lambda: self.refusals.note(refused, self._who()))
        except (WireError, IdentityRefused, OSError) as error:
            return truncate(f"HTTP {answer.status} without a receipt that holds: {error}")
        return problem or signed

    async def _verify(self, signed: Signed[Receipt] | Signed[Refusal]) -> None:
        known = self._known
        if known is None:
            try:
                known = await asyncio.to_thread(self._keys.load)
            except WireError as error:
                _log.error("receipt_keys_unusable", path=str(self._keys.path), error=str(error))
                known = {}
        if signed.key not in known and self._may_fetch():
            self._fetched = self._clock.monotonic()
            answer = await self._fetch(RECEIPT_KEYS_PATH)
            if answer.status == 200:
                known = await asyncio.to_thread(self._keys.add, answer.text.encode())
        self._known = known
        verify(signed, known)

    def _may_fetch(self) -> bool:
        return self._fetched is None or self._clock.monotonic() - self._fetched >= _FETCH_AGAIN_SECONDS

    def _differs(self, push: Push, receipt: Receipt, samples: int | None) -> str | None:
        who, sent = self._who(), push.headers
        expected = PushName(
            who.tenant.organization,
            who.tenant.project,
            who.collector,
            sent.lane.value,
            sent.epoch,
            sent.sequence,
            sent.part,
        )
        if receipt.name != expected:
            return f"a receipt for {receipt.name}, not for {expected}"
        if receipt.sha256 != sha256(push.body).hexdigest():
            return "a receipt for another body"
        if samples is not None and receipt.samples != samples:
            return f"a receipt for {receipt.samples} samples, not {samples}"
        return None
