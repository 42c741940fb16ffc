"""Is a Milvus server ready? Its health check, a request through its coordinator and its metrics must answer."""

from __future__ import annotations

import http.client
import json

PROBE_SECONDS = 3.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_EXPECTED_METRIC = b"\nmilvus_"


def problem_of(endpoint: str, metrics_address: str) -> str | None:
    """Why the server is not ready, or None. Blocking, at most about ten seconds."""
    try:
        health = _get(metrics_address, "/healthz")
        if b"OK" not in health:
            return f"health check answers {health[:80]!r}"
        # Over the proxy to the root coordinator and back: a server that only listens does not pass.
        listing = json.loads(_get(endpoint, "/v1/vector/collections"))
        if not isinstance(listing, dict) or listing.get("code") != 200:
            return f"listing its collections answers {str(listing)[:80]}"
        if _EXPECTED_METRIC not in _get(metrics_address, "/metrics"):
            return "no milvus_ series among its metrics"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def _get(address: str, path: str) -> bytes:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"{path} answers {answer.status}")
    return body
