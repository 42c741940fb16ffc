"""Objects as files of a folder, durable and safe between the processes of one machine.

The object `a/b` is the file `a~/b`: `~` occurs in no name, so an object `a` can stand beside an object `a/b`, and
what is half-written (`~writing/`) can't be taken for an object.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from kernel.clock import from_ms
from kernel.errors import truncate
from kernel.objects import ObjectNotFound, ObjectsUnavailable, StoredObject, check_name, check_precondition

_PAGE = 500
_MAX_CACHED_ETAGS = 20_000


class LocalObjects:
    """Implements `kernel.objects.ObjectStore`. The etag is the SHA-256 of the content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = folder / "~writing"
        self._writing.mkdir(parents=True, exist_ok=True)
        self._lock_path = folder / "~lock"
        self._etags: OrderedDict[tuple[int, int, int], str] = OrderedDict()

    async def put(
        self, name: str, content: bytes, *, if_absent: bool = False, if_etag: str | None = None
    ) -> StoredObject:
        return await asyncio.to_thread(self._put, check_name(name), content, if_absent, if_etag)

    async def get(self, name: str) -> bytes:
        return await asyncio.to_thread(self._get, check_name(name))

    async def head(self, name: str) -> StoredObject:
        return await asyncio.to_thread(self._head, check_name(name))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        found = self._walk(prefix)
        while page := await asyncio.to_thread(lambda: list(islice(found, _PAGE))):
            for stored in page:
                yield stored

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._delete, check_name(name))

    def path(self, name: str) -> Path:
        """The file of an object, for a reader that wants a path."""
        *folders, last = check_name(name).split("/")
        return self._folder.joinpath(*(f"{folder}~" for folder in folders), last)

    def _put(self, name: str, content: bytes, if_absent: bool, if_etag: str | None) -> StoredObject:
        temporary = self._writing / secrets.token_hex(12)
        target = self.path(name)
        with _mapped(name):
            try:
                _write_durably(temporary, content)
                modified_at = from_ms(temporary.stat().st_mtime_ns // 1_000_000)
                with self._locked():
                    current = None
                    if if_absent or if_etag is not None:
                        with suppress(ObjectNotFound):
                            current = self._head(name).etag
                    check_precondition(name, current, if_absent=if_absent, if_etag=if_etag)
                    _make_folders(target.parent, self._folder)
                    temporary.rename(target)
                _sync_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)
        return StoredObject(name, len(content), hashlib.sha256(content).hexdigest(), modified_at)

    def _get(self, name: str) -> bytes:
        with _mapped(name):
            return self.path(name).read_bytes()

    def _head(self, name: str) -> StoredObject:
        with _mapped(name), self.path(name).open("rb") as file:
            status = os.fstat(file.fileno())
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            etag = self._etags.get(version)
            if etag is None:
                etag = hashlib.file_digest(file, "sha256").hexdigest()
                self._etags[version] = etag
                if len(self._etags) > _MAX_CACHED_ETAGS:
                    self._etags.popitem(last=False)
        return StoredObject(name, status.st_size, etag, from_ms(status.st_mtime_ns // 1_000_000))

    def _delete(self, name: str) -> None:
        target = self.path(name)
        with _mapped(name), self._locked():
            target.unlink(missing_ok=True)
            with suppress(OSError):  # not empty: other objects are in it
                for folder in target.parents:
                    if folder == self._folder:
                        break
                    folder.rmdir()

    def _walk(self, prefix: str) -> Iterator[StoredObject]:
        *parents, _ = prefix.split("/")
        start = self._folder.joinpath(*(f"{parent}~" for parent in parents))
        if parents and not all(check_name(parent) for parent in parents):
            return
        for name in _names(start, "".join(f"{parent}/" for parent in parents), prefix):
            with suppress(ObjectNotFound):  # deleted while we walk
                yield self._head(name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _names(folder: Path, parent: str, prefix: str) -> Iterator[str]:
    """Names below `folder` that start with `prefix`, in the order of the names: a folder sorts as `name/`."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entry.name.replace("~", "/") for entry in entries if not entry.name.startswith("~"))
    except FileNotFoundError:
        return
    for entry_name in listed:
        name = parent + entry_name
        if not name.startswith(prefix) and not prefix.startswith(name):
            continue
        if name.endswith("/"):
            yield from _names(folder / f"{entry_name[:-1]}~", name, prefix)
        elif name.startswith(prefix):
            yield name


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_folders(folder: Path, root: Path) -> None:
    """Make `folder` below `root`, each new entry durable in its parent."""
    if folder == root or folder.is_dir():
        return
    _make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # the object was deleted, and its folder with it, right after our rename
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ObjectNotFound(f"there is no object {name}") from error
    except OSError as error:
        raise ObjectsUnavailable(f"{name}: {truncate(str(error))}: free or repair the disk, then retry") from error
