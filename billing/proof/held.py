"""A bundle's rows against what the customer holds: what collectors kept, and copies of the lake's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from billing.document import utc_ms
from billing.gaps import with_gaps
from billing.proof.evidence import EVIDENCE, Evidence, Sourced, check_data_files, load_evidence
from billing.proof.findings import Findings, Missing
from billing.proof.loading import Bundle, load_rows, load_usage, parse_json, read_file, window_of
from billing.proof.metered import StatedMeter, stated_meters
from billing.proof.rows import BILLED, CORRECTED, INVOICE, ROWS
from billing.proof.sections import Section, sections_of
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.window import Window
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow

if TYPE_CHECKING:
    from billing.proof.compared import Given, Kept

FROM_SAMPLES = "hours: that they are what the collectors sent: {}"
_NOT_GIVEN = FROM_SAMPLES.format("their frames are not compared (--spool)")
_NOT_BUNDLED = FROM_SAMPLES.format("the bundle does not say which pushes its rows were made from")


@dataclass(frozen=True, slots=True)
class Held:
    """`spools`: from the bundle's receipt keys to what collectors kept; None: not given. `lake`: a folder.

    `checkpoint`: one that the vendor handed out before, as it was.
    """

    spools: Callable[[bytes], Sequence[Kept]] | None = None
    lake: Path | None = None
    checkpoint: bytes | None = None


def prove_own(bundle: Bundle, usage: UsageMonth, held: Held, found: Findings) -> None:
    """The document's own period. Raises InvalidInput naming the first difference."""
    own = next(load_sections(bundle))
    if not (bundle.folder / EVIDENCE).exists() and (held.spools is not None or held.lake is not None):
        allowed = "a bundle made with the lake, which names its pushes"
        raise InvalidInput.single(str(bundle.folder / EVIDENCE), "file", "none", allowed)
    _prove(bundle, own, usage, held, found)


def prove_others(bundle: Bundle, held: Held, found: Findings) -> None:
    """The periods that it corrects, and those of true-ups. Raises InvalidInput naming the first difference."""
    try:
        others = [section for section in load_sections(bundle) if not section.is_own]
    except Missing as missing:
        found.unproved.append(FROM_SAMPLES.format(missing))
        return
    for section in others:
        _prove(bundle, section, load_section(bundle, section), held, found)


def load_sections(bundle: Bundle) -> Iterator[Section]:
    """The parts of its document. Raises InvalidInput, Missing."""

    def period_of(number: str) -> Window:
        path = bundle.folder / CORRECTED / number / BILLED / INVOICE
        if not path.parent.exists():
            raise Missing(f"the bundle holds nothing of {number}, which it corrects")
        return window_of(parse_json(read_file(path), path)["period"])

    return sections_of(bundle.document, period_of)


def load_section(bundle: Bundle, section: Section) -> UsageMonth:
    """Rows and levels of a part, as the document states them. Raises InvalidInput."""
    folder, stated = bundle.folder / section.folder, section.stated
    rows = with_gaps(load_rows(folder), stated.get("gaps", ()), str(bundle.folder / INVOICE), section.place)
    owner = OrganizationId(bundle.document["customer"]["organization"])
    usage = load_usage(folder, owner, section.period, rows)
    if usage.revision_digest != stated["revision_digest"]:
        allowed = f"the document's, {stated['revision_digest']}"
        raise InvalidInput.single(str(folder / ROWS), "sha256", usage.revision_digest, allowed)
    return usage


def _prove(bundle: Bundle, section: Section, usage: UsageMonth, held: Held, found: Findings) -> None:
    shown, left = list[str](), list[str]()
    meters = stated_meters(bundle.folder / section.folder, section.stated, usage.organization)
    rows: list[Sourced] = [row for row in usage.rows if row.hour.intersection(section.window)]
    rows += [row for one in meters for _, row in one.inside()]
    evidence = load_evidence(bundle.folder, bundle.encoded, rows, bundle.authority_pem, section.evidence)
    if evidence is None:
        left.append(_NOT_BUNDLED)
    else:
        meters = _defined(bundle, section, meters, evidence, found)
        many = f"{len(evidence.batches)} pushes in the {len(evidence.files)} files of the rows"
        shown.append(f"evidence: the vendor signed {many}")
        if held.lake is not None:
            _prove_files(evidence, held.lake, shown, left)
        if held.spools is None:
            left.append(_NOT_GIVEN)
        else:
            from billing.proof.recompute import recompute  # its libraries take half a second to load

            given = given_of(bundle, section, usage, evidence, meters)
            more, less = recompute(given, held.spools(evidence.receipt_keys))
            shown += more
            left += less
    found.proved += section.texts(shown)
    found.unproved += section.texts(left)


def _defined(
    bundle: Bundle, section: Section, meters: tuple[StatedMeter, ...], evidence: Evidence, found: Findings
) -> tuple[StatedMeter, ...]:
    source, told = str(bundle.folder / section.evidence / EVIDENCE), evidence.definitions
    for name in sorted(told.keys() & {one.file for one in meters}):
        found.yours.append(
            f"meters: that the rows of {name} follow several definitions in turn, which {source} has"
        )
    return tuple(one.defined_by(told.get(one.file, ()), source) for one in meters)


def _prove_files(evidence: Evidence, lake: Path, shown: list[str], left: list[str]) -> None:
    count, whole = check_data_files(evidence, lake), len(evidence.files)
    if count:
        shown.append(f"files: {count} of {whole} files of the rows have their sha256")
    if count < whole:
        left.append(f"files: {whole - count} of {whole} files of the rows do not lie in {lake} (--lake)")


def given_of(
    bundle: Bundle, section: Section, usage: UsageMonth, evidence: Evidence, meters: tuple[StatedMeter, ...] = ()
) -> Given:
    """A part of a document, to be held against spools."""
    from billing.proof.compared import Given

    return Given(
        usage=usage,
        evidence=evidence,
        issued_ms=utc_ms(bundle.document["issued_at"]),
        folder=str(bundle.folder / section.folder),
        meters=meters,
        fills_gaps="gaps" in section.stated,
        part=section.window,
        evidence_folder=str(bundle.folder / section.evidence),
        stated_at=(str(bundle.folder / INVOICE), section.place),
        billed=_billed(bundle, section),
    )


def _billed(bundle: Bundle, section: Section) -> tuple[UsageRow, ...] | None:
    """The rows as the corrected invoice had them; None where the bundle has no such."""
    folder = bundle.folder / section.billed
    return load_rows(folder) if section.billed and folder.exists() else None
