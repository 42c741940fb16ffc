"""Data files read from S3, kept in a folder: they never change, and their names say what is in them.

Several processes may share the folder. A file appears there whole and checked; one that is deleted to make room
stays readable for whoever has it open.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from metering.lake.errors import LakeDamaged

_UNFINISHED_NS = 3600 * 10**9


class FileCache:
    """Files by the hash of their bytes, at most `most_bytes` of them, those read last."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._checked: set[str] = set()

    def open(self, sha256: str, fetch: Callable[[], bytes]) -> pa.NativeFile:
        """The file, open for reading; fetched if it is not there, or not what its name says.

        Raises LakeDamaged when what was fetched is something else, and OSError.
        """
        while True:
            try:
                return pa.OSFile(str(self._path(sha256, fetch)), "rb")
            except FileNotFoundError:
                continue  # another process has just made room

    def _path(self, sha256: str, fetch: Callable[[], bytes]) -> Path:
        path = self._folder / sha256[:2] / sha256
        if not self._is_whole(path, sha256):
            content = fetch()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise LakeDamaged(f"the data file with the hash {sha256} was altered: restore it from a copy")
            self._store(path, content)
        self._checked.add(sha256)
        return path

    def _is_whole(self, path: Path, sha256: str) -> bool:
        try:
            os.utime(path)  # read last now
            if sha256 not in self._checked:  # once in each process: the disk may have kept it badly
                return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        except OSError:
            return False
        return True

    def _store(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid4().hex}.part")
        temporary.write_bytes(content)
        temporary.replace(path)
        self._make_room()

    def _make_room(self) -> None:
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by close
            found = sorted((stat.st_mtime_ns, stat.st_size, path) for path, stat in self._files())
            self._drop_unfinished(max((read_ns for read_ns, _, _ in found), default=0))
            held = sum(size for _, size, _ in found)
            for _, size, path in found[:-1]:
                if held <= self._most_bytes:
                    return
                path.unlink(missing_ok=True)
                held -= size

    def _drop_unfinished(self, now_ns: int) -> None:
        """What killed processes left: nobody takes so long to write a file."""
        for path in self._folder.glob("??/.*.part"):
            with suppress(FileNotFoundError):
                if now_ns - path.stat().st_mtime_ns > _UNFINISHED_NS:
                    path.unlink()

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._folder.glob("??/" + "[0-9a-f]" * 64):
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:
                continue
        return found
