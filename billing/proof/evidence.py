"""Which files of the lake an invoice's rows were read from, and which pushes are in them: signed by the vendor.

A bundle that has these can be held against what the collectors kept: docs/verify.md.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from billing.proof.statement import InvoiceSigner, open_signed
from kernel.errors import InvalidInput, truncate
from metering.batches import OffsetRange, StoredBatch, parse_batches, render_batches
from metering.usage.meter import LICENCE_METER

EVIDENCE, FILES, BATCHES, KEYS = "evidence.json", "files.tsv", "batches.tsv", "receipt-keys.json"
SCHEMA = "byoc/invoice-evidence/1"
_SIGNED = (FILES, BATCHES, KEYS)
_FIELDS = 6
_LAST = 2**63


Definitions = Mapping[str, tuple[tuple[int, str], ...]]  # by file of rows; from an hour (ms) on, the meter as JSON


class Sourced(Protocol):
    """A row of usage."""

    @property
    def sources(self) -> tuple[str, ...]:
        """`name sha256` of the lake's files that it was read from."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A data file of the lake and the records it was made from. Its name begins with day, organization, project."""

    name: str
    sha256: str
    offsets: tuple[OffsetRange, ...]

    @property
    def project(self) -> str:
        parts = self.name.split("/")
        return parts[2] if len(parts) == 4 else ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the vendor says an invoice's rows were made from. `limit_ms`: how long a sample holds at most.

    `receipt_keys`: the keys that the vendor's gateways sign receipts with, signed by the authority.
    `definitions`: of meters whose rows were not made by one definition throughout.
    """

    files: tuple[SourceFile, ...]
    batches: tuple[StoredBatch, ...]
    limit_ms: int
    receipt_keys: bytes
    definitions: Definitions = field(default_factory=dict)


def source_files(rows: Iterable[Sourced], offsets: Mapping[str, Iterable[OffsetRange]]) -> tuple[SourceFile, ...]:
    """The files that rows name, with the offsets of each."""
    named = sorted({source for row in rows for source in row.sources})
    return tuple(
        SourceFile(name, digest, _joined(offsets[name]))
        for name, _, digest in (source.partition(" ") for source in named)
    )


def render_evidence(evidence: Evidence, encoded: bytes, signer: InvoiceSigner, of: str = "") -> dict[str, bytes]:
    """Files of the bundle by name, for the invoice whose canonical JSON is `encoded`; all in the folder `of`."""
    lines = [
        "\t".join(map(str, (file.name, file.sha256, *offsets))) + "\n"
        for file in evidence.files
        for offsets in file.offsets
    ]
    files = {
        FILES: "".join(lines).encode(),
        BATCHES: render_batches(evidence.batches),
        KEYS: evidence.receipt_keys,
    }
    statement = _statement(encoded, files, of) | {"staleness_limit_ms": evidence.limit_ms}
    if evidence.definitions:
        statement["definitions"] = evidence.definitions
    files[EVIDENCE] = signer.sign(statement)
    return {f"{of}/{name}" if of else name: content for name, content in files.items()}


def load_evidence(
    bundle: Path, encoded: bytes, rows: Iterable[Sourced], authority_pem: bytes, of: str = ""
) -> Evidence | None:
    """The evidence in the folder `of` of a bundle, None if it has none. Raises InvalidInput naming file and place.

    Signed by a key of the authority, for this invoice and folder; its files are those of the rows, its batches
    those of the files, and no others.
    """
    folder = bundle / of
    path = folder / EVIDENCE
    if not path.exists():
        return None
    files = {name: _read(folder / name) for name in _SIGNED}
    statement = open_signed(_read(path), authority_pem, str(path))
    for name, value in _statement(encoded, files, of).items():
        stated = statement.get(name)
        if stated == value:
            continue
        if name == "files" and isinstance(stated, dict):
            wrong = next(one for one in _SIGNED if stated.get(one) != value[one])
            raise InvalidInput.single(
                str(folder / wrong), "sha256", value[wrong], f"the signed {stated.get(wrong)}"
            )
        raise InvalidInput.single(str(path), f"statement.{name}", repr(stated), repr(value))
    limit_ms = statement.get("staleness_limit_ms")
    if not isinstance(limit_ms, int) or limit_ms <= 0:
        raise InvalidInput.single(str(path), "statement.staleness_limit_ms", repr(limit_ms), "milliseconds")
    sources = _parse_files(files[FILES], str(folder / FILES))
    batches = parse_batches(files[BATCHES], str(folder / BATCHES))
    _check_sources(folder, sources, rows)
    _check_batches(folder, sources, batches)
    definitions = _parse_definitions(statement.get("definitions", {}), str(path))
    return Evidence(sources, tuple(batches), limit_ms, files[KEYS], definitions)


def check_data_files(evidence: Evidence, lake: Path) -> int:
    """How many of the data files lie below `lake`, each as it was. Raises InvalidInput for one that is not."""
    found = 0
    for file in evidence.files:
        path = lake / file.name
        if path.is_file():
            digest = sha256(path.read_bytes()).hexdigest()
            if digest != file.sha256:
                raise InvalidInput.single(str(path), "sha256", digest, f"the file of the rows, {file.sha256}")
            found += 1
    return found


def _statement(encoded: bytes, files: Mapping[str, bytes], of: str) -> dict[str, Any]:
    meter = LICENCE_METER
    document = json.loads(encoded)
    return {
        "schema": SCHEMA,
        "number": document["number"],
        "sha256": sha256(encoded).hexdigest(),
        "files": {name: sha256(content).hexdigest() for name, content in files.items()},
        "meter": {"metric": meter.metric, "scale": meter.scale, "components": sorted(meter.components)},
        **({"of": of} if of else {}),
    }


def _parse_definitions(stated: Any, source: str) -> Definitions:
    try:
        return {str(file): tuple((int(at_ms), str(text)) for at_ms, text in told) for file, told in stated.items()}
    except (AttributeError, TypeError, ValueError) as error:
        where, allowed = "statement.definitions", "hours and definitions by file of rows"
        raise InvalidInput.single(source, where, truncate(repr(stated)), allowed) from error


def _joined(offsets: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Neighbours as one."""
    joined: list[OffsetRange] = []
    for one in sorted(offsets):
        if joined and joined[-1][:2] == one[:2] and joined[-1].last + 1 >= one.first:
            joined[-1] = joined[-1]._replace(last=max(joined[-1].last, one.last))
        else:
            joined.append(one)
    return tuple(joined)


def _parse_files(content: bytes, source: str) -> tuple[SourceFile, ...]:
    found: dict[tuple[str, str], list[OffsetRange]] = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        try:
            fields = line.split("\t")
            if len(fields) != _FIELDS:
                raise ValueError(f"{len(fields)} fields")
            name, digest, topic, *numbers = fields
            if ".." in name or name.startswith("/"):
                raise ValueError("a name that leads elsewhere")
            partition, first, last = map(int, numbers)
            found.setdefault((name, digest), []).append(OffsetRange(topic, partition, first, last))
        except ValueError as error:
            raise InvalidInput.single(
                source, f"line {number}", str(error), f"{_FIELDS} fields of a file"
            ) from error
    return tuple(SourceFile(name, digest, tuple(offsets)) for (name, digest), offsets in found.items())


def _check_sources(folder: Path, sources: Iterable[SourceFile], rows: Iterable[Sourced]) -> None:
    stated = {f"{file.name} {file.sha256}" for file in sources}
    named = {source for row in rows for source in row.sources}
    for source in sorted(named ^ stated):
        found, allowed = ("no such file", source) if source in named else (source, "files that rows name")
        raise InvalidInput.single(str(folder / FILES), "files", found, allowed)


def _check_batches(folder: Path, sources: Iterable[SourceFile], batches: Iterable[StoredBatch]) -> None:
    """Every batch is in a file of its project."""
    held: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for file in sources:
        for topic, partition, first, last in file.offsets:
            held.setdefault((file.project, topic, partition), []).append((first, last))
    joined = {place: _union(ranges) for place, ranges in held.items()}
    for number, batch in enumerate(batches, 1):
        ranges = joined.get((batch.project, batch.topic, batch.partition), [])
        at = bisect_right(ranges, (batch.offset, _LAST)) - 1
        if at < 0 or batch.offset > ranges[at][1]:
            where, found = f"line {number}", f"{batch.topic}/{batch.partition} offset {batch.offset}"
            raise InvalidInput.single(str(folder / BATCHES), where, found, f"records of the files in {FILES}")


def _union(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror, "a file of the bundle") from error
