"""Status and headers of an answer, and why an answer is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BODILESS = frozenset({204, 304})


class NotPlain(Exception):
    """The answer needs a whole HTTP client."""


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1, or not the one that is taken; the message says why."""


class HungUp(OSError):
    """The connection ended before the answer did. `is_clean`: before its first byte, so it may be tried anew."""

    def __init__(self, *, is_clean: bool) -> None:
        super().__init__("the server hung up" if is_clean else "the server hung up within its answer")
        self.is_clean = is_clean


@dataclass(slots=True)
class Head:
    """Status and headers; names in lower case."""

    status: int
    headers: Mapping[str, str]
    is_kept: bool

    @property
    def length(self) -> int | None:
        """Of the body; None: chunked, or up to the end of the connection. Raises BadAnswer."""
        if self.status in _BODILESS:
            return 0
        text = self.headers.get("content-length")
        if text is None or self.is_chunked:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadAnswer(f"Content-Length {text[:40]!r}: a number is expected")
        return int(text)

    @property
    def is_chunked(self) -> bool:
        return self.status not in _BODILESS and "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def is_packed(self) -> bool:
        return self.headers.get("content-encoding", "identity") != "identity"

    @property
    def is_redirect(self) -> bool:
        return self.status in _REDIRECTS


def parse_head(text: bytes) -> Head:
    """Raises BadAnswer."""
    first, *lines = text.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) < 3 or not (code.isascii() and code.isdigit()):
        raise BadAnswer(f"no answer of HTTP/1.1: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadAnswer(f"no header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    connection = headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close").lower()
    return Head(int(code), headers, "close" not in connection)


def parse_chunk_size(line: bytes) -> int:
    """Of the line before a chunk. Raises BadAnswer."""
    text = line.partition(b";")[0].strip()
    if not text or len(text) > 16 or text.strip(b"0123456789abcdefABCDEF"):
        raise BadAnswer(f"a chunk of length {line[:40]!r}")
    return int(text, 16)
