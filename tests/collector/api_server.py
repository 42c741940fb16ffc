"""A server that speaks a Kubernetes API server's list and watch, for objects of the shapes that a real one answers.

Resource versions, pages with `continue`, watch from a version, bookmarks, 410 for versions that were compacted,
selectors, bearer tokens. vmagent follows it in `test_kubernetes`.
"""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KINDS = {
    "pods": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "endpoints": ("v1", "Endpoints"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
}
Object = dict[str, Any]


@dataclass
class ApiServer:
    """`put` and `delete` change objects; `compact` forgets history, so that older versions are gone."""

    tokens: set[str] = field(default_factory=set)  # none: everybody may
    requests: list[str] = field(default_factory=list)
    refuse: int = 0  # a status for every request
    bookmarks: bool = True
    version: int = 1000
    compacted: int = 0
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)  # version, plural, type, object
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    watches: int = 0

    def put(self, plural: str, content: Object) -> None:
        content = copy.deepcopy(content)
        key = (plural, content["metadata"]["namespace"], content["metadata"]["name"])
        self._happen(plural, "MODIFIED" if key in self.objects else "ADDED", content)
        self.objects[key] = content

    def delete(self, plural: str, namespace: str, name: str) -> None:
        self._happen(plural, "DELETED", self.objects.pop((plural, namespace, name)))

    def _happen(self, plural: str, kind: str, content: Object) -> None:
        self.version += 1
        content["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, plural, kind, copy.deepcopy(content)))
        self._wake()

    def compact(self) -> None:
        self.version += 10
        self.compacted = self.version
        self.history = []

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def end_watches(self) -> None:
        """Every watch ends, as when the server restarts."""
        self.watches += 1
        self._wake()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        if self.refuse:
            return _status(self.refuse, "refused by the test")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens and token not in self.tokens:
            return _status(401, "Unauthorized")
        plural, namespace = request.match_info["plural"], request.match_info.get("namespace")
        if plural not in KINDS:
            return _status(404, "the server could not find the requested resource")
        chosen = Selection(plural, namespace, request.query)
        if request.query.get("watch") in ("1", "true"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            with suppress(ConnectionResetError):  # whoever watches went away
                await self._watch(request, chosen, response)
            return response
        return self._list(request, chosen)

    def _list(self, request: web.Request, chosen: Selection) -> web.Response:
        version, items = KINDS[chosen.plural], sorted(self.objects.items())
        found = [content for (plural, _, _), content in items if chosen.takes(plural, content)]
        begin, at = 0, self.version
        if "continue" in request.query:
            begin, at = (int(part) for part in request.query["continue"].split("."))
            if at < self.compacted:
                return _status(410, "The provided continue parameter is too old")
        limit = int(request.query.get("limit", "0")) or len(found)
        metadata: Object = {"resourceVersion": str(at)}
        if begin + limit < len(found):
            metadata["continue"] = f"{begin + limit}.{at}"
            metadata["remainingItemCount"] = len(found) - begin - limit
        page = found[begin : begin + limit]
        return web.json_response(
            {"kind": f"{version[1]}List", "apiVersion": version[0], "metadata": metadata, "items": page}
        )

    async def _watch(self, request: web.Request, chosen: Selection, response: web.StreamResponse) -> None:
        at = int(request.query.get("resourceVersion") or 0)
        if 0 < at < self.compacted:
            gone = _status_object(410, f"too old resource version: {at} ({self.compacted})")
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return
        number = self.watches
        while number == self.watches:
            changed = self.changed
            for version, plural, kind, content in [*self.history]:
                if version > at and chosen.takes(plural, content):
                    await self._event(response, chosen.plural, kind, content)
            at = max(at, self.version)
            if self.bookmarks and request.query.get("allowWatchBookmarks") in ("1", "true"):
                await self._event(response, chosen.plural, "BOOKMARK", {"metadata": {"resourceVersion": str(at)}})
            await changed.wait()

    async def _event(self, response: web.StreamResponse, plural: str, kind: str, content: Object) -> None:
        version, name = KINDS[plural]
        event = {"type": kind, "object": {"kind": name, "apiVersion": version, **content}}
        encoded = json.dumps(event).encode() + b"\n"
        half = len(encoded) // 2  # a line comes in pieces
        await response.write(encoded[:half])
        await asyncio.sleep(0)
        await response.write(encoded[half:])

    def app(self) -> web.Application:
        app = web.Application()
        for group in ("/api/v1", "/apis/discovery.k8s.io/v1"):
            app.router.add_get(group + "/namespaces/{namespace}/{plural}", self.answer)
            app.router.add_get(group + "/{plural}", self.answer)
        return app


class Selection:
    """What a request asks for: equality selectors only."""

    def __init__(self, plural: str, namespace: str | None, query: Any) -> None:
        self.plural = plural
        self._namespace = namespace
        self._labels = _pairs(query.get("labelSelector", ""))
        self._fields = _pairs(query.get("fieldSelector", ""))

    def takes(self, plural: str, content: Object) -> bool:
        metadata = content["metadata"]
        if plural != self.plural or self._namespace not in (None, metadata["namespace"]):
            return False
        labels = metadata.get("labels", {})
        return all(labels.get(name) == value for name, value in self._labels) and all(
            _at(content, name) == value for name, value in self._fields
        )


def _pairs(selector: str) -> list[tuple[str, str]]:
    parts = [part.replace("==", "=").partition("=") for part in selector.split(",") if part]
    return [(name, value) for name, _, value in parts]


def _at(content: Any, path: str) -> Any:
    for part in path.split("."):
        content = content.get(part, {})
    return content


def _status_object(code: int, message: str) -> Object:
    reason = {401: "Unauthorized", 404: "NotFound", 410: "Expired"}.get(code, "InternalError")
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    }  # fmt: skip


def _status(code: int, message: str) -> web.Response:
    return web.json_response(_status_object(code, message), status=code)
