"""The warehouse: every write is durable, and on S3 carries the encryption and the owner that were asked for.

pyiceberg's own file system neither fsyncs nor sends those two headers, so all that the lake writes (data files,
manifests, metadata) goes through this one. Reads are pyarrow's, ranged and parallel.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow.fs as pafs
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from kernel.crashpoints import crash_point
from metering.lake.cache import FileCache
from metering.lake.positions import file_sha256

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

IMPLEMENTATION = f"{__name__}.LakeFileIO"
SSE = "s3.sse"  # AES256 or aws:kms
SSE_KEY = "s3.sse-kms-key-id"
OWNER = "s3.expected-bucket-owner"  # account number
CACHE_DIR = "byoc.cache-dir"  # a folder for data files of a warehouse that is far away
CACHE_BYTES = "byoc.cache-bytes"


@dataclass(frozen=True, slots=True)
class WarehouseFile:
    """A file found in the warehouse; `location` is spelled as the table's own locations are."""

    location: str
    size_bytes: int
    modified_at: datetime


class LakeFileIO(PyArrowFileIO):
    """pyiceberg's FileIO for local folders and S3, with writes of our own."""

    def new_input(self, location: str) -> PyArrowFile:
        found: PyArrowFile = super().new_input(location)
        sha256, cache = file_sha256(location), self._cache_of(location)
        if sha256 is None or cache is None:
            return found
        return _CachedFile(found, lambda: cache.open(sha256, lambda: found.open().read()))

    def _cache_of(self, location: str) -> FileCache | None:
        folder = self.properties.get(CACHE_DIR)
        if folder is None or self.parse_location(location, self.properties)[0] == "file":
            return None
        if not hasattr(self, "_cache"):
            self._cache = FileCache(Path(folder), int(self.properties[CACHE_BYTES]))
        return self._cache

    def new_output(self, location: str) -> PyArrowFile:
        scheme, netloc, path = self.parse_location(location, self.properties)
        return _DurableFile(self, location, path, self.fs_by_scheme(scheme, netloc))

    def write(self, location: str, content: bytes) -> None:
        """Store a whole file; an older one of that name is replaced at once. Raises OSError."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme == "file":
            _write_local(Path(path), content)
        else:
            self._put(netloc, path.removeprefix(f"{netloc}/"), content)
        crash_point("lake.file-stored")  # data, manifests and metadata alike

    def read(self, location: str) -> bytes:
        """A whole file. Raises OSError."""
        with self.new_input(location).open() as stream:
            content: bytes = stream.read()
        return content

    def check_owner(self, warehouse: str) -> None:
        """Ask S3 whether the bucket belongs to the expected account. Raises OSError if not."""
        scheme, netloc, _ = self.parse_location(warehouse, self.properties)
        if scheme != "file" and OWNER in self.properties:
            _as_os_error(lambda: self._client().head_bucket(Bucket=netloc, **self._owner()))

    def list_files(self, location: str) -> Iterator[WarehouseFile]:
        """Every file under `location`, in no order. Raises OSError."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
        for found in self.fs_by_scheme(scheme, netloc).get_file_info(selector):
            if found.type == pafs.FileType.File and found.mtime is not None:
                # Spelled by the prefix that was asked for: with or without a scheme, as the table spells its own.
                name = location.rstrip("/") + found.path.removeprefix(path.rstrip("/"))
                yield WarehouseFile(name, found.size, found.mtime)

    def _put(self, bucket: str, key: str, content: bytes) -> None:
        headers: dict[str, Any] = self._owner()
        if SSE in self.properties:
            headers["ServerSideEncryption"] = self.properties[SSE]
        if SSE_KEY in self.properties:
            headers["SSEKMSKeyId"] = self.properties[SSE_KEY]
        client = self._client()
        _as_os_error(lambda: client.put_object(Bucket=bucket, Key=key, Body=content, **headers))

    def _owner(self) -> dict[str, Any]:
        owner = self.properties.get(OWNER)
        return {"ExpectedBucketOwner": owner} if owner else {}

    def _client(self) -> S3Client:
        if not hasattr(self, "_made_client"):
            self._made_client = _s3_client(self.properties)
        return self._made_client


class _CachedFile(PyArrowFile):
    def __init__(self, far: PyArrowFile, opened: Callable[[], Any]) -> None:
        super().__init__(far.location, far._path, far._filesystem)  # noqa: SLF001 - as pyiceberg makes it
        self._opened = opened

    def open(self, seekable: bool = True) -> Any:
        return self._opened()


class _DurableFile(PyArrowFile):
    def __init__(self, owner: LakeFileIO, location: str, path: str, filesystem: Any) -> None:
        super().__init__(location, path, filesystem)
        self._owner = owner

    def create(self, overwrite: bool = False) -> _Buffer:
        if not overwrite and self.exists():
            raise FileExistsError(f"{self.location} exists already")
        return _Buffer(self._owner, self.location)


class _Buffer(io.BytesIO):
    """Collects a file and stores it at `close`; a block that ends with an error stores nothing."""

    def __init__(self, owner: LakeFileIO, location: str) -> None:
        super().__init__()
        self._store: Any = lambda content: owner.write(location, content)

    def close(self) -> None:
        store, self._store = self._store, None
        if store is not None and not self.closed:
            store(self.getvalue())
        super().close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._store = None
        self.close()

    def __del__(self) -> None:
        self._store = None


def _write_local(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")  # two threads may write the same file
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _s3_client(properties: Any) -> S3Client:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=properties.get("s3.endpoint"),
        region_name=properties.get("s3.region"),
        aws_access_key_id=properties.get("s3.access-key-id"),
        aws_secret_access_key=properties.get("s3.secret-access-key"),
        aws_session_token=properties.get("s3.session-token"),
        config=Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3, "mode": "standard"}),
    )


def _as_os_error(call: Any) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        call()
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"S3 refused or did not answer: {error}") from error
