"""Whether anything may be pushed now. The uploader asks before each push; scraping and spooling never do."""

from __future__ import annotations

import asyncio

from kernel.logs import logger

_log = logger("gate")


class ShippingGate:
    """Open unless some cause closed it. For one event loop; each cause opens what it closed."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._opened = asyncio.Event()
        self._opened.set()

    def reason(self) -> str | None:
        """Why nothing may be pushed; None: it may."""
        return "; ".join(self._reasons.values()) or None

    async def opened(self) -> None:
        """Until pushing is allowed; ask `reason` again after it."""
        await self._opened.wait()

    def close(self, cause: str, reason: str) -> None:
        """Stop pushing for this cause. Said once, not at each look."""
        if self._reasons.get(cause) != reason:
            _log.error("shipping_stopped", cause=cause, reason=reason)
        self._reasons[cause] = reason
        self._opened.clear()

    def open(self, cause: str) -> None:
        """This cause is gone. Nothing if it was not there."""
        if self._reasons.pop(cause, None) is None:
            return
        if not self._reasons:
            _log.info("shipping_resumed", cause=cause)
            self._opened.set()
