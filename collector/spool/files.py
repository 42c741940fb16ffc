"""Small files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` with `content`, durable when this returns. Raises OSError; then `path` is as before."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.was-a-folder-{os.getpid()}"))
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checked(path: Path, fields: Mapping[str, Any]) -> None:
    """`fields` as JSON with a checksum. Raises OSError."""
    body = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    write_atomically(path, f"{body}\n{zlib.crc32(body.encode()):08x}\n".encode())


def load_checked(path: Path) -> dict[str, Any] | None:
    """What `save_checked` wrote; None when it is absent, unreadable, or damaged in any way."""
    try:
        body, checksum, end = path.read_bytes().decode().split("\n")
        if end or f"{zlib.crc32(body.encode()):08x}" != checksum:
            return None
        fields = json.loads(body)
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None
