"""The objects port: named immutable blobs with conditional writes.

Adapters: `kernel.objects.memory`, `kernel.objects.local`, `kernel.objects.s3`. One contract suite runs on all.
Names are relative paths of `/`-separated segments of `[A-Za-z0-9._=-]`, no segment `.` or `..`, at most 200
characters a segment (a file system takes 255) and 900 in all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kernel.errors import Conflict, Denied, InvalidInput, NotFound, Retry

_SEGMENT = re.compile(r"[A-Za-z0-9._=-]{1,200}")


class ObjectsUnavailable(Retry):
    """The store can't be reached. Whether a write happened is unknown."""


class ObjectNotFound(NotFound):
    """No object of that name."""


class ObjectsDenied(Denied):
    """The store does not let us: wrong credentials, a bucket that is another's, or no such bucket."""


class PreconditionFailed(Conflict):
    """The object exists although it must not, or is another version than expected. Nothing was written."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What is known of an object without reading it. `etag` changes with every change of the content."""

    name: str
    size_bytes: int
    etag: str
    modified_at: datetime


class ObjectStore(Protocol):
    """Durable blobs. A reader sees a whole object or none. Every call may raise ObjectsDenied."""

    async def put(
        self, name: str, content: bytes, *, if_absent: bool = False, if_etag: str | None = None
    ) -> StoredObject:
        """Write durably and atomically. Raises PreconditionFailed, ObjectsUnavailable, InvalidInput (name)."""

    async def get(self, name: str) -> bytes:
        """The whole content. Raises ObjectNotFound, ObjectsUnavailable."""

    async def head(self, name: str) -> StoredObject:
        """Size, etag and time. Raises ObjectNotFound, ObjectsUnavailable."""

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose name starts with `prefix`, each once. Raises ObjectsUnavailable.

        By name in the memory and local adapters and on AWS; some S3 servers list folder by folder, so sort where
        the order matters.
        """

    async def delete(self, name: str) -> None:
        """Remove; an absent object is no error. Raises ObjectsUnavailable."""


def check_name(name: str) -> str:
    """`name` if it may name an object. Raises InvalidInput."""
    if not is_name(name):
        raise InvalidInput.single("object store", "name", repr(name), "relative path of [A-Za-z0-9._=-] segments")
    return name


def is_name(text: str) -> bool:
    """Whether `text` may name an object."""
    segments = text.split("/")
    return len(text) <= 900 and all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in segments)


def check_precondition(name: str, current_etag: str | None, *, if_absent: bool, if_etag: str | None) -> None:
    """Whether a put may go on, given the etag of the object that is there (None: none).

    Raises PreconditionFailed.
    """
    if if_absent and current_etag is not None:
        raise PreconditionFailed(f"{name} exists already; nothing was written")
    if if_etag is not None and current_etag != if_etag:
        found = f"is version {current_etag[:12]}" if current_etag else "does not exist"
        raise PreconditionFailed(f"{name} {found}, not {if_etag[:12]}; nothing was written: read it again")
