"""All bytes that one could read in what left or lies on disk: as they are, and out of every compression."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import cramjam
import zstandard

from collector.spool.frame import Frame
from collector.spool.segment import SegmentName, scan

_ZSTD = b"\x28\xb5\x2f\xfd"


def readable(content: bytes) -> bytes:
    """The bytes, what a snappy block of all of them holds, and every zstd frame that begins in them."""
    parts = [content]
    with contextlib.suppress(cramjam.DecompressionError):
        parts.append(bytes(cramjam.snappy.decompress_raw(content)))
    at = content.find(_ZSTD)
    while at >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            parts.append(zstandard.ZstdDecompressor().decompressobj().decompress(content[at:]))
        at = content.find(_ZSTD, at + 1)
    return b"\n".join(parts)


def readable_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder; frames of the spool and rows of SQLite taken out of their files besides."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        yield path, path.name.encode() + b"\n" + readable(path.read_bytes())
        name = SegmentName.parse(path.name)
        if name is not None:
            for found in scan(path, name, path.stat().st_size):
                if isinstance(found, Frame):
                    yield path, b"\n".join(map(readable, (found.payload, *found.metas)))
        if path.suffix == ".sqlite":
            yield path, "\n".join(_dumped(path)).encode("utf-8", "surrogateescape")


def _dumped(path: Path) -> Iterator[str]:
    connection = sqlite3.connect(path)
    try:
        yield from connection.iterdump()
    finally:
        connection.close()
