"""Keys of series that came as protobuf: `name{label="value",...}`, as the text formats write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from collector.wire.errors import WireError
from collector.wire.protobuf import read_span, read_text, read_varint, skip_field

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LIMIT = 2_000_000


class SeriesKeys:
    """Remembers the key of each label set by its bytes; over `_LIMIT` it begins anew."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, tuple[bytes, ...]], bytes] = {}

    def begin(self) -> None:
        """Called at the start of a body."""
        if len(self._known) > _LIMIT:
            self._known.clear()

    def plain(self, name: str, labels: Sequence[bytes]) -> bytes:
        """The key of a series; `labels` are LabelPair messages. Raises WireError."""
        return self._key(name, "", "", labels)

    def bounded(self, name: str, labels: Sequence[bytes], label: str, bound: str) -> bytes:
        """The same with one more label. Raises WireError."""
        return self._key(name, label, bound, labels)

    def _key(self, name: str, label: str, bound: str, labels: Sequence[bytes]) -> bytes:
        known = (name, label + bound, tuple(labels))
        key = self._known.get(known)
        if key is None:
            pairs = [_read_pair(one) for one in labels] + ([(label, bound)] if label else [])
            if len({pair[0] for pair in pairs}) < len(pairs):
                raise WireError.at(f"series of {name}", "a label that is there twice", "each label once")
            key = self._known[known] = _render(name, pairs).encode()
        return key


def read_pairs(messages: Sequence[bytes]) -> dict[str, str]:
    """Name and value of LabelPair messages. Raises WireError."""
    return dict(_read_pair(one) for one in messages)


def _read_pair(message: bytes) -> tuple[str, str]:
    texts = {0x0A: "", 0x12: ""}
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        if tag in texts:
            start, position = read_span(message, position, end)
            texts[tag] = read_text(message, start, position)
        else:
            position = skip_field(message, tag, position, end)
    if not texts[0x0A]:
        raise WireError.at("label", "an empty name", "a name")
    return texts[0x0A], texts[0x12]


def _render(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    labels = [f"{label if _LABEL.fullmatch(label) else _quoted(label)}={_quoted(value)}" for label, value in pairs]
    if not _METRIC.fullmatch(name):
        return f"{{{','.join([_quoted(name), *labels])}}}"
    return f"{name}{{{','.join(labels)}}}" if labels else name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'
