"""One line of an invoice, told from its derivation down to the pushes that its usage came with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from billing.document import utc_text
from billing.proof.behind import Behind
from billing.proof.evidence import Evidence, SourceFile
from kernel.errors import NotFound
from metering.batches import StoredBatch
from metering.usage.model import MeterRow
from metering.usage.rows import UsageRow


def line_of(document: Mapping[str, Any], position: int) -> Mapping[str, Any]:
    """Line `position`, from 1. Raises NotFound."""
    lines = document["lines"]
    if not 1 <= position <= len(lines):
        raise NotFound(f"{document['number']} has lines 1 to {len(lines)}, no {position}")
    line: Mapping[str, Any] = lines[position - 1]
    return line


def explain_line(currency: str, line: Mapping[str, Any], found: Behind, evidence: Evidence | None) -> Iterator[str]:
    """The explanation of a line, as text lines: its arithmetic, hours with their gaps, files with their pushes.

    Rows of an hour are told as `metering.usage.places` has them: file by its hash, row group, first and last row.
    Without evidence no pushes are told.
    """
    yield f"{line['amount']} {currency}  {line['kind']}  {line['description']}"
    yield f"period  {line['period']['start']} to {line['period']['end']}"
    yield from _arithmetic(line["derivation"])
    for hour in sorted(found.hours, key=lambda one: (one.hour.start_ms, one.project, one.cluster, one.component)):
        yield from _hour(hour)
    for row in sorted(found.metered, key=lambda one: (one.hour.start_ms, one.project, one.cluster, one.dimensions)):
        yield _metered(row, found)
    yield from _files({source for row in found.rows for source in row.sources}, evidence)


def _arithmetic(made: Mapping[str, Any]) -> Iterator[str]:
    for fact in made["facts"]:
        yield f"fact  {fact['label']}: {fact['shown']}"
    for part in made.get("parts", ()):
        quantity, rate = part["quantity"], part["rate"]
        yield f"part  {part['label']}: {quantity['exact']} {quantity['unit']} x {rate['exact']} ({rate['basis']})"
        yield f"      = {part['amount']['exact']}"
    quantity, rate = made["quantity"], made["rate"]
    yield f"quantity  {quantity['exact']} {quantity['unit']}"
    if rate:
        yield f"rate  {rate['exact']} = {rate['basis']}"
    yield f"unrounded  {made['unrounded']['exact']}"
    yield f"rounding  {made['rounding']['exact']}"


def _hour(row: UsageRow) -> Iterator[str]:
    yield (
        f"hour  {utc_text(row.hour.start_ms)} revision {row.revision}  {row.project}/{row.cluster} "
        f"{row.component}: {row.milli_vcpu_ms} milli-vCPU-ms, peak {row.peak_milli_vcpu}{_unseen(row)}"
    )
    for gap in row.gaps:
        level = "not known" if gap.milli_vcpu is None else f"{gap.milli_vcpu} milli-vCPU"
        times = f"{utc_text(gap.window.start_ms)} to {utc_text(gap.window.end_ms)}"
        yield f"gap   {times}  {row.component}, level before it {level}"


def _metered(row: MeterRow, found: Behind) -> str:
    labels = "".join(f" {name}={value}" for name, value in row.dimensions)
    filled = f", {row.estimated_ms} ms of them estimated" if row.estimated_ms else ""
    return (
        f"hour  {utc_text(row.hour.start_ms)} revision {row.revision}  {row.project}/{row.cluster}{labels} "
        f"{found.meter}: {row.quantity}{_unseen(row, filled)}"
    )


def _unseen(row: UsageRow | MeterRow, filled: str = "") -> str:
    missing = f", {row.missing_ms} ms not observed{filled}" if row.missing_ms else ""
    return missing + (f"  rows {row.places}" if row.places else "")


def _files(sources: set[str], evidence: Evidence | None) -> Iterator[str]:
    known = {f"{file.name} {file.sha256}": file for file in evidence.files} if evidence else {}
    for source in sorted(sources):
        yield f"file  {source}"
        if evidence and source in known:
            yield from _pushes(_of_file(evidence.batches, known[source]))


def _of_file(batches: Sequence[StoredBatch], file: SourceFile) -> Iterator[StoredBatch]:
    """Those that it was made from; `batches` are in the order of the log, and a month has many."""
    for topic, partition, first, last in file.offsets:
        start = bisect_left(batches, (topic, partition, first), key=_place)
        yield from batches[start : bisect_right(batches, (topic, partition, last), lo=start, key=_place)]


def _place(batch: StoredBatch) -> tuple[str, int, int]:
    return batch.topic, batch.partition, batch.offset


def _pushes(batches: Iterable[StoredBatch]) -> Iterator[str]:
    """A line for each sender and epoch: which numbers of its pushes."""
    senders: dict[tuple[str, str, str, int], set[int]] = defaultdict(set)
    unnumbered: dict[tuple[str, str], int] = defaultdict(int)
    for one in batches:
        if one.epoch is None or one.number is None:
            unnumbered[one.project, one.collector] += 1
        else:
            senders[one.project, one.collector, one.lane, one.epoch].add(one.number)
    for (project, collector, lane, epoch), numbers in sorted(senders.items()):
        told = ", ".join(_ranges(sorted(numbers)))
        yield f"push  {project}/{collector} {lane} epoch {epoch}: {told}"
    for (project, collector), count in sorted(unnumbered.items()):
        yield f"push  {project}/{collector}: {count} without a number"


def _ranges(numbers: list[int]) -> Iterator[str]:
    """Neighbours as one: `1-40`, `42`."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"
