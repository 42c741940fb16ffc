"""What a compacted file was merged from: the names of the files that the writer had made, as an object.

Those names say which records each was made from, so a proof still leads from a row back to the pushes after the
files themselves are gone. The object is stored under its own hash before the file is committed that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from kernel.objects import ObjectNotFound, ObjectStore
from metering.lake.errors import LakeDamaged
from metering.lake.positions import CompactedName, FileName, parse_compacted_name, parse_file_name

PREFIX = "lineage/"


async def origins(objects: ObjectStore, location: str) -> tuple[FileName, ...]:
    """The files of the writer that this one is or was merged from, in order. Raises LakeDamaged."""
    name = parse_file_name(location)
    if name is not None:
        return (name,)
    compacted = parse_compacted_name(location)
    if compacted is None:
        raise LakeDamaged(f"{location} was not written by the lake writer, so its source is not known")
    return await load_lineage(objects, compacted)


async def load_lineage(objects: ObjectStore, name: CompactedName) -> tuple[FileName, ...]:
    """What a compacted file was merged from. Raises LakeDamaged."""
    try:
        content = await objects.get(lineage_name(name.lineage))
    except ObjectNotFound as error:
        raise LakeDamaged(f"the lineage {name.lineage} is gone; restore it from a copy") from error
    if hashlib.sha256(content).hexdigest() != name.lineage:
        raise LakeDamaged(f"the lineage {name.lineage} was altered; restore it from a copy")
    found = [parse_file_name(each) for each in json.loads(content)["files"]]
    if None in found:
        raise LakeDamaged(f"the lineage {name.lineage} names files that the writer did not make")
    return tuple(each for each in found if each is not None)


async def save_lineage(objects: ObjectStore, names: Iterable[FileName]) -> str:
    """Store what a file is merged from; returns the hash, the same for the same files."""
    content = render_lineage(sorted(names))
    sha256 = hashlib.sha256(content).hexdigest()
    # Again even if it is there: that makes it young, and a sweep leaves it alone until the commit refers to it.
    await objects.put(lineage_name(sha256), content)
    return sha256


def render_lineage(names: Sequence[FileName]) -> bytes:
    """The document; `names` in order."""
    return json.dumps({"files": [str(name) for name in names], "version": 1}, separators=(",", ":")).encode()


def lineage_name(sha256: str) -> str:
    """Where the lineage of that hash is stored."""
    return f"{PREFIX}{sha256}.json"
