"""Small JSON records in a cluster's folder, replaced whole so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_RECORD_BYTES = 64 * 1024


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write, fsync, rename, and fsync the folder: after a crash the old record is there or the new one."""
    save_text(path, json.dumps(record, sort_keys=True, indent=1) + "\n")


def save_text(path: Path, text: str) -> None:
    """The same for any text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_record(path: Path) -> dict[str, Any] | None:
    """The record, or None if there is none or it is not a JSON object of at most 64 KiB."""
    record = _load(path)
    return record if isinstance(record, dict) else None


def load_list(path: Path) -> list[Any] | None:
    """The same for a JSON list."""
    record = _load(path)
    return record if isinstance(record, list) else None


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RECORD_BYTES + 1)
        return json.loads(text) if len(text) <= MAX_RECORD_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
