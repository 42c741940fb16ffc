"""Objects in memory: the twin that tests use. Nothing survives the process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from kernel.clock import Clock, SystemClock
from kernel.objects import ObjectNotFound, StoredObject, check_name, check_precondition


class MemoryObjects:
    """Implements `kernel.objects.ObjectStore`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[str, tuple[StoredObject, bytes]] = {}

    async def put(
        self, name: str, content: bytes, *, if_absent: bool = False, if_etag: str | None = None
    ) -> StoredObject:
        check_name(name)
        await asyncio.sleep(0)
        current = self._objects.get(name)
        check_precondition(name, current[0].etag if current else None, if_absent=if_absent, if_etag=if_etag)
        etag = hashlib.sha256(content).hexdigest()
        stored = StoredObject(name, len(content), etag, self._clock.now())
        self._objects[name] = stored, bytes(content)
        return stored

    async def get(self, name: str) -> bytes:
        return self._find(name)[1]

    async def head(self, name: str) -> StoredObject:
        return self._find(name)[0]

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        for name in sorted(self._objects):
            if name.startswith(prefix) and name in self._objects:
                yield self._objects[name][0]

    async def delete(self, name: str) -> None:
        self._objects.pop(check_name(name), None)

    def _find(self, name: str) -> tuple[StoredObject, bytes]:
        try:
            return self._objects[check_name(name)]
        except KeyError:
            raise ObjectNotFound(f"there is no object {name}") from None
