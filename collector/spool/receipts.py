"""The receipts of a lane, kept beside it: about 150 bytes each, appended and synced, one file for each boot.

    file: magic 8 | records; record: length 4 | CRC-32 of the length 4 | CRC-32 of the rest 4 | rest
    rest begins with N (the names that all receipts after it share, as JSON) or R (one receipt: what is its own)

A receipt is rebuilt from both, so that its signature can be verified at any time. Little-endian.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from collector.spool.files import sync_folder
from collector.wire.receipt import LogPosition, PushName, Receipt, Signed
from kernel.clock import Clock

_MAGIC = b"byocrcp2"
_LENGTH = Struct("<I")
_HEAD = Struct("<III")
_OWN = Struct("<QQIIq32s64sB")  # epoch, sequence, part, samples, received, sha256, signature, positions
_POSITION = Struct("<BIQ")  # topic by number, partition, offset
_MAX_FILE_BYTES = 64 * 1024 * 1024
Names = tuple[str, str, str, str, str]  # organization, project, collector, lane, key


@dataclass(frozen=True, slots=True)
class ReceiptDamage:
    """A file of receipts can't be read from `offset` on."""

    path: Path
    offset: int


class ReceiptStore:
    """Blocking. One process writes, from any thread; others may read."""

    def __init__(self, folder: Path, clock: Clock, keep: float = 0.0) -> None:
        self.folder = folder
        self._clock = clock
        self._keep = keep
        self._file: int | None = None
        self._size = 0
        self._names: Names | None = None
        self._topics: list[str] = []
        self._lock = threading.Lock()  # fresh frames and the backlog have an uploader each

    def append(self, signed: Signed[Receipt]) -> None:
        """Durable when it returns. Raises OSError."""
        with self._lock:
            self._append(signed)

    def _append(self, signed: Signed[Receipt]) -> None:
        receipt = signed.content
        name = receipt.name
        names = name.organization, name.project, name.collector, name.lane, signed.key
        topics = [topic for topic, _, _ in receipt.log if topic not in self._topics]
        file = self._open()
        record = b""
        if names != self._names or topics:
            shared = json.dumps([names, [*self._topics, *topics]]).encode()
            record = _render(b"N" + shared)
        own = _render(b"R" + self._own(signed, [*self._topics, *topics]))
        written = os.pwrite(file, record + own, self._size)
        if written != len(record) + len(own):
            raise OSError("short write")
        os.fdatasync(file)
        self._size += written
        self._names = names
        self._topics += topics

    @staticmethod
    def _own(signed: Signed[Receipt], topics: list[str]) -> bytes:
        receipt = signed.content
        name = receipt.name
        fixed = _OWN.pack(
            name.epoch,
            name.sequence,
            name.part,
            receipt.samples,
            receipt.received_ms,
            bytes.fromhex(receipt.sha256),
            signed.signature,
            len(receipt.log),
        )
        log = (_POSITION.pack(topics.index(topic), partition, offset) for topic, partition, offset in receipt.log)
        return fixed + b"".join(log)

    def _open(self) -> int:
        if self._file is not None and self._size < _MAX_FILE_BYTES:
            return self._file
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove_old()
        path = self.folder / f"{self._clock.now_ms():016d}-{os.urandom(4).hex()}.rcp"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._size, self._names, self._topics = os.write(self._file, _MAGIC), None, []
        sync_folder(self.folder)
        return self._file

    def _remove_old(self) -> None:
        if self._keep:
            bound = self._clock.now_ms() / 1000 - self._keep
            for path in self.folder.glob("*.rcp"):
                if path.stat().st_mtime < bound:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the file go. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self) -> Iterator[Signed[Receipt] | ReceiptDamage]:
        """All receipts, in the order in which they came; a torn end of a file is passed over. Raises OSError."""
        for path in self.paths():
            for found, _ in read_receipts(path):
                yield found

    def paths(self) -> list[Path]:
        """The files, the oldest first."""
        return sorted(self.folder.glob("*.rcp"))


def _render(rest: bytes) -> bytes:
    return _HEAD.pack(len(rest), zlib.crc32(_LENGTH.pack(len(rest))), zlib.crc32(rest)) + rest


def read_receipts(path: Path) -> Iterator[tuple[Signed[Receipt] | ReceiptDamage, int]]:
    """What a file holds, each with the byte at which it ends; a torn end is passed over. Raises OSError."""
    content = path.read_bytes()
    names: Names | None = None
    topics: list[str] = []
    at = len(_MAGIC)
    if content[:at] != _MAGIC:
        if content:
            yield ReceiptDamage(path, 0), 0
        return
    while at + _HEAD.size <= len(content):
        length, of_length, checksum = _HEAD.unpack_from(content, at)
        rest = content[at + _HEAD.size : at + _HEAD.size + length]
        is_length = zlib.crc32(_LENGTH.pack(length)) == of_length
        if is_length and len(rest) < length:
            return  # torn: it was not acknowledged either
        if not is_length or zlib.crc32(rest) != checksum or not rest:
            yield ReceiptDamage(path, at), at
            return
        try:
            if rest[:1] == b"N":
                names, topics = tuple(json.loads(rest[1:])[0]), json.loads(rest[1:])[1]
            elif names is not None:
                yield _parse_own(rest[1:], names, topics), at + _HEAD.size + length
        except (struct.error, ValueError, IndexError):
            yield ReceiptDamage(path, at), at
            return
        at += _HEAD.size + length


def _parse_own(own: bytes, names: Names, topics: list[str]) -> Signed[Receipt]:
    epoch, sequence, part, samples, received_ms, digest, signature, positions = _OWN.unpack_from(own)
    log: list[LogPosition] = []
    for index in range(positions):
        topic, partition, offset = _POSITION.unpack_from(own, _OWN.size + index * _POSITION.size)
        log.append((topics[topic], partition, offset))
    name = PushName(names[0], names[1], names[2], names[3], epoch, sequence, part)
    return Signed(Receipt(name, digest.hex(), samples, received_ms, tuple(log)), names[4], signature)
