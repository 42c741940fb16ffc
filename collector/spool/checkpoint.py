"""What an earlier `verify` has read and found good, so that the next one reads only what came since.

Of a file of receipts: the hash of the bytes whose signatures held. Of a kept segment: its size, time and hash, and
which numbers it holds, each with a receipt. Who can write here can make `verify` believe it; `--full` believes
nothing, and says what is not as it was.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from collector.spool.files import load_checked, save_checked

FILE = "verified.json"


class KeptSegment(NamedTuple):
    """Numbers `[first, last]`, `bodies` of them, in a file of that size, time of change (ns) and SHA-256 (hex)."""

    size: int
    modified_ns: int
    sha256: str
    first: int
    last: int
    bodies: int


@dataclass(slots=True)
class Checkpoint:
    """`receipts`: by file, how many bytes, and their hash. `segments`: by file."""

    receipts: dict[str, tuple[int, str]] = field(default_factory=dict)
    segments: dict[str, KeptSegment] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Blocking. Where nothing can be written there is none, and the next one reads all."""
        fields = {"receipts": self.receipts, "segments": self.segments}
        with contextlib.suppress(OSError):
            save_checked(folder / FILE, fields)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Of a lane; an empty one where there is none, or none that is whole. Blocking."""
    fields = load_checked(folder / FILE) or {}
    try:
        receipts = {str(name): (int(size), str(digest)) for name, (size, digest) in fields["receipts"].items()}
        segments = {str(name): KeptSegment(*row) for name, row in fields["segments"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return Checkpoint()
    return Checkpoint(receipts, segments)


def hash_of(path: Path, size: int | None = None) -> str:
    """SHA-256 (hex) of a file, or of its first `size` bytes. Raises OSError."""
    digest = sha256()
    with path.open("rb") as file:
        left = path.stat().st_size if size is None else size
        while left > 0 and (block := file.read(min(left, 1024 * 1024))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
