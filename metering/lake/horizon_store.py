"""Horizons as objects, each under its own hash.

The samples commit names that hash, so the horizon changes in the same instant as the rows and the positions do. The
document carries the id of its commit: no two commits write the same object, therefore an unreferenced one can never
be needed again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from kernel.objects import ObjectNotFound, ObjectStore, PreconditionFailed
from metering.lake.errors import LakeDamaged
from metering.lake.horizon import Horizon
from metering.lake.horizon_format import parse_horizon, render_horizon

PREFIX = "horizon/"


class HorizonStore:
    """Horizon objects, the last one cached."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._cached: tuple[str, Horizon] | None = None

    async def load(self, sha256: str | None) -> Horizon:
        """The horizon of that hash; None is the empty one. Raises LakeDamaged, ObjectsUnavailable."""
        if sha256 is None:
            return Horizon()
        if self._cached and self._cached[0] == sha256:
            return self._cached[1]
        try:
            content = await self._objects.get(object_name(sha256))
        except ObjectNotFound as error:
            raise LakeDamaged(f"the horizon object {sha256} is gone; restore it from a copy") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LakeDamaged(f"the horizon object {sha256} was altered; restore it from a copy")
        horizon = parse_horizon(content)
        self._cached = (sha256, horizon)
        return horizon

    async def save(self, horizon: Horizon, commit_id: str) -> str:
        """Store, and return the hash. Raises ObjectsUnavailable."""
        content = render_horizon(horizon, commit_id)
        sha256 = hashlib.sha256(content).hexdigest()
        with suppress(PreconditionFailed):  # stored by an earlier attempt of this very commit
            await self._objects.put(object_name(sha256), content, if_absent=True)
        self._cached = (sha256, horizon)
        return sha256


def object_name(sha256: str) -> str:
    """Where the horizon of that hash is stored."""
    return f"{PREFIX}{sha256}.json"
