"""Which pushes each data file was made from, kept for longer than the log and the files themselves.

Beside each commit the writer stores, for each partition, the records that it took, as
`proof/batches/<topic>/<partition>/<first>-<last>.tsv.zst`, the same offsets as in the names of the files. A merged
file's name leads to `proof/merged/<lineage>.json`, the offsets of the files it came from. Usage rows go on naming
files that merging and retention have long deleted, so nothing here is swept: a bucket's own rule may let `proof/`
expire.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

import zstandard

from kernel.errors import InvalidInput
from kernel.objects import ObjectNotFound, ObjectStore, check_name
from metering.batches import OffsetRange, StoredBatch, parse_batches, render_batches
from metering.lake.errors import LakeDamaged
from metering.lake.lineage import load_lineage
from metering.lake.positions import FileName, parse_compacted_name, parse_file_name
from metering.record import PART_STRIDE, BatchHeader

_BATCHES, _MERGED = "proof/batches/", "proof/merged/"
_AT_ONCE = 32  # objects that are asked for at the same time
_MOST_BYTES = 256 * 1024 * 1024


def stored_batch(topic: str, partition: int, offset: int, header: BatchHeader) -> StoredBatch:
    """A record that was stored, by its header."""
    sequence = header.sequence
    return StoredBatch(
        topic,
        partition,
        offset,
        header.tenant.organization,
        header.tenant.project,
        header.collector,
        header.lane.value,
        sequence.epoch if sequence else None,
        sequence.number if sequence else None,
        sequence.part // PART_STRIDE if sequence else None,
        header.sha256,
    )


async def save_batches(objects: ObjectStore, taken: Mapping[OffsetRange, Sequence[StoredBatch]]) -> None:
    """Before the commit of the files that are made from these offsets; the same again is no harm."""
    for offsets, batches in taken.items():
        content = await asyncio.to_thread(_packed, batches)  # of thousands of pushes: not on the loop
        await objects.put(check_name(_batches_name(offsets)), content)


def _packed(batches: Sequence[StoredBatch]) -> bytes:
    return zstandard.ZstdCompressor(level=9).compress(render_batches(batches))


async def save_merged(objects: ObjectStore, lineage: str, names: Iterable[FileName]) -> None:
    """Which offsets the file of that lineage was merged from; before the commit of the file."""
    ranges = sorted({(*name.source, name.first, name.last) for name in names})
    await objects.put(f"{_MERGED}{lineage}.json", json.dumps(ranges, separators=(",", ":")).encode())


async def ranges_of(objects: ObjectStore, path: str) -> tuple[OffsetRange, ...]:
    """The commits that a data file was made from, by its name; the file may be gone. Raises LakeDamaged."""
    name = parse_file_name(path)
    if name is not None:
        return (OffsetRange(*name.source, name.first, name.last),)
    compacted = parse_compacted_name(path)
    if compacted is None:
        raise LakeDamaged(f"{path} was not written by the lake writer, so its source is not known")
    try:
        stored = await objects.get(f"{_MERGED}{compacted.lineage}.json")
    except ObjectNotFound:  # merged before these were kept
        found = await load_lineage(objects, compacted)
        return tuple(sorted({OffsetRange(*each.source, each.first, each.last) for each in found}))
    return tuple(OffsetRange(*each) for each in json.loads(stored))


async def load_batches(objects: ObjectStore, organization: str, ranges: Iterable[OffsetRange]) -> list[StoredBatch]:
    """The organization's records of these commits, in order. Raises LakeDamaged for a commit that is not known."""
    wanted, limit = sorted(set(ranges)), asyncio.Semaphore(_AT_ONCE)

    async def one(offsets: OffsetRange) -> list[StoredBatch]:
        async with limit:
            return [each for each in await _load(objects, offsets) if each.organization == organization]

    found: list[StoredBatch] = []
    for start in range(0, len(wanted), 1000):
        for each in await asyncio.gather(*map(one, wanted[start : start + 1000])):
            found += each
    return found


async def _load(objects: ObjectStore, offsets: OffsetRange) -> list[StoredBatch]:
    name = _batches_name(offsets)
    try:
        content = await objects.get(name)
        text = zstandard.ZstdDecompressor().decompress(content, max_output_size=_MOST_BYTES)
        return parse_batches(text, name)
    except ObjectNotFound as error:
        raise LakeDamaged(f"{name} is gone: it was stored before batches were kept, or expired") from error
    except (zstandard.ZstdError, InvalidInput) as error:
        raise LakeDamaged(f"{name} was altered ({error}); restore it from a copy") from error


def _batches_name(offsets: OffsetRange) -> str:
    topic, partition, first, last = offsets
    return f"{_BATCHES}{topic}/{partition}/{first:020d}-{last:020d}.tsv.zst"
