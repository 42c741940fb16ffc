"""Keeps the objects of one collection as the API server has them: list, then watch from there.

Source: kubernetes.io, "API concepts": a list names a resource version from which a watch goes on; bookmarks move it
forward without an event; 410 Gone means that it is too old, so everything is listed again. While the server can't
be asked, the objects stay as they were: an API server that is away must not end a series.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from collector.discovery.kubernetes.api import ApiFailed, ApiServer
from collector.discovery.kubernetes.objects import Kept
from collector.push.backoff import Backoff
from collector.scrape.discovery_settings import SelectorSettings
from kernel.clock import Clock
from kernel.logs import logger

_log = logger("discovery")
PAGE = 500  # objects of a page of a list
WATCH_SECONDS = (180, 300)  # spread, so that watches of a fleet do not end together
GONE = 410


@dataclass(frozen=True, slots=True)
class Collection:
    """A path below the API server and what of it is asked for."""

    path: str
    plural: str
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, group: str, plural: str, namespace: str, selector: SelectorSettings | None) -> Collection:
        """`namespace` empty: all of them."""
        path = f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"
        chosen = {"labelSelector": selector.label, "fieldSelector": selector.field} if selector else {}
        return cls(path, plural, tuple((name, value) for name, value in chosen.items() if value))


class Reflector:
    """One collection. `objects` by namespace and name; `changes` counts what happened to them."""

    def __init__(
        self, server: ApiServer, collection: Collection, keep: Callable[[Any], Kept], clock: Clock
    ) -> None:
        self.collection = collection
        self.objects: dict[tuple[str, str], Kept] = {}
        self.changes = 0
        self.listed = False
        self.last_error: str | None = None
        self._server = server
        self._keep = keep
        self._clock = clock
        self._version = ""  # of the last event or list; empty: list first
        self._backoff = Backoff(0.8, 30.0, random.Random())

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiFailed as failure:
                if failure.status == GONE:
                    self._version = ""
                    _log.info("watch_gone", collection=self.collection.path)
                else:
                    self._tell(failure)
                await self._clock.sleep(self._backoff.next_seconds(failure.retry_after_seconds))

    def _tell(self, failure: ApiFailed) -> None:
        if self.last_error is None:
            _log.warning("kubernetes_discovery_failed", collection=self.collection.path, reason=str(failure))
        self.last_error = str(failure)

    async def _list(self) -> None:
        """All objects, page by page; they count once the last page is there."""
        found: dict[tuple[str, str], Kept] = {}
        query = {**dict(self.collection.query), "limit": str(PAGE)}
        while True:
            answer = await self._server.get(self.collection.path, query)
            try:
                for one in answer.get("items") or ():
                    kept = self._keep(one)
                    found[kept.key] = kept
                metadata = answer["metadata"]
                version, onwards = str(metadata["resourceVersion"]), metadata.get("continue")
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ApiFailed(0, f"a list that is none: {type(error).__name__} {error}") from error
            if not onwards:
                break
            query["continue"] = onwards
        self.objects, self._version, self.listed = found, version, True
        self.changes += 1
        self._good()

    async def _watch(self) -> None:
        seconds = random.randint(*WATCH_SECONDS)
        query = {
            **dict(self.collection.query),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        started, events = self._clock.monotonic(), 0
        async with aclosing(self._server.watch(self.collection.path, query, seconds)) as watch:
            async for event in watch:
                self._take(event)
                self._good()
                events += 1
        if not events and self._clock.monotonic() - started < 1.0:
            raise ApiFailed(0, "a watch that ended at once")

    def _take(self, event: Any) -> None:
        try:
            kind, content = event["type"], event["object"]
            if kind == "ERROR":
                raise ApiFailed(int(content.get("code") or 0), str(content.get("message")))
            version = str(content["metadata"]["resourceVersion"])
            if kind != "BOOKMARK":
                self._apply(kind, self._keep(content))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ApiFailed(0, f"an event that is none: {type(error).__name__} {error}") from error
        self._version = version

    def _apply(self, kind: str, kept: Kept) -> None:
        if kind in ("ADDED", "MODIFIED"):
            if self.objects.get(kept.key) != kept:
                self.objects[kept.key] = kept
                self.changes += 1
        elif kind == "DELETED":
            if self.objects.pop(kept.key, None) is not None:
                self.changes += 1
        else:
            raise ValueError(f"type {kind!r}")

    def _good(self) -> None:
        if self.last_error is not None:
            _log.info("kubernetes_discovery_is_back", collection=self.collection.path)
        self.last_error = None
        self._backoff.reset()
