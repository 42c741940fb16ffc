"""What targets say of metric families: a further part of the extras, sent when it is new or changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collector.wire.frames.layout import Cursor, varint
from collector.wire.frames.model import FamilyMetadata, FrameLimits

KIND = 2  # among the further parts
MAX_NAME_BYTES = 1_024  # of a family, and of a unit
MAX_HELP_BYTES = 4_096
_LAST_TYPE = 7
_PORTION_BYTES = 500_000  # of one block, before compression


def render_metadata(families: Sequence[FamilyMetadata]) -> bytes:
    """The part with its kind and length. `families` ascend by name, each once."""
    part = [varint(len(families))]
    for one in families:
        part.append(bytes((one.type,)))
        for text in (one.family, one.unit, one.help):
            encoded = text.encode()
            part += [varint(len(encoded)), encoded]
    content = b"".join(part)
    return varint(KIND) + varint(len(content)) + content


def parse_metadata(part: Cursor, limits: FrameLimits) -> list[FamilyMetadata]:
    """The inverse, of what follows kind and length. Raises WireError."""
    found: list[FamilyMetadata] = []
    last = b""
    for _ in range(part.varint(limits.max_families)):
        [kind] = part.take(1)
        if kind > _LAST_TYPE:
            raise part.wrong(f"type {kind}", f"0 to {_LAST_TYPE}")
        family, unit, text = (
            part.take(part.varint(most)) for most in (MAX_NAME_BYTES, MAX_NAME_BYTES, MAX_HELP_BYTES)
        )
        if family <= last:
            raise part.wrong("a family without a name, again, or out of order", "names that ascend")
        last = family
        try:
            found.append(FamilyMetadata(family.decode(), kind, unit.decode(), text.decode()))
        except UnicodeDecodeError:
            raise part.wrong("a text that is not UTF-8", "UTF-8") from None
    if not found:
        raise part.wrong("no family", "one or more")
    part.finish()
    return found


class MetadataSent:
    """What the receiver of one stream knows of families."""

    def __init__(self) -> None:
        self._last: Sequence[FamilyMetadata] = ()
        self._known: dict[str, FamilyMetadata] = {}

    def changed(self, metadata: Sequence[FamilyMetadata], most: int) -> Iterator[list[FamilyMetadata]]:
        """Those that the receiver does not know, in portions for one block each; from now on it knows them."""
        if metadata is self._last or not metadata:  # as nearly always; a scrape that failed says nothing of them
            return
        self._last = metadata
        news = [one for one in metadata if self._known.get(one.family) != one]
        self._known = {one.family: one for one in metadata}
        portion: list[FamilyMetadata] = []
        size = 0
        for one in sorted(news, key=lambda told: told.family.encode()):
            if size > _PORTION_BYTES or len(portion) == most:
                yield portion
                portion, size = [], 0
            portion.append(one)
            size += 4 * (len(one.family) + len(one.unit) + len(one.help)) + 8  # a character has at most four bytes
        if portion:
            yield portion


def cut_help(text: str) -> str:
    """As much of a HELP text as fits."""
    if len(text) * 4 <= MAX_HELP_BYTES:
        return text
    return text.encode()[:MAX_HELP_BYTES].decode("utf-8", "ignore")
