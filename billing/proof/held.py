"""A bundle's rows against what the customer holds: what collectors kept, and copies of the lake's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from billing.document import utc_ms
from billing.proof.evidence import EVIDENCE, Sourced, check_data_files, load_evidence
from billing.proof.metered import stated_meters
from kernel.errors import InvalidInput
from metering.usage.model import UsageMonth

if TYPE_CHECKING:
    from billing.proof.compared import Kept

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


def prove_held(
    folder: Path, document: Mapping[str, Any], encoded: bytes, usage: UsageMonth, authority_pem: bytes, held: Held
) -> tuple[list[str], list[str]]:
    """What was proved and what was not, in words. Raises InvalidInput naming the first difference."""
    meters = stated_meters(folder, document)
    rows: list[Sourced] = [*usage.rows, *(row for one in meters for _, row in one.inside())]
    evidence = load_evidence(folder, encoded, rows, authority_pem)
    if evidence is None:
        if held.spools is not None or held.lake is not None:
            allowed = "a bundle made with the lake, which names its pushes"
            raise InvalidInput.single(str(folder / EVIDENCE), "file", "none", allowed)
        return [], [_NOT_BUNDLED]
    proved = [
        f"evidence: the vendor signed {len(evidence.batches)} pushes in the {len(evidence.files)} files of the rows"
    ]
    absent: list[str] = []
    if held.lake is not None:
        count, whole = check_data_files(evidence, held.lake), len(evidence.files)
        if count:
            proved.append(f"files: {count} of {whole} files of the rows have their sha256")
        if count < whole:
            absent.append(f"files: {whole - count} of {whole} files of the rows do not lie in {held.lake} (--lake)")
    if held.spools is None:
        return proved, [*absent, _NOT_GIVEN]
    from billing.proof.compared import Given
    from billing.proof.recompute import recompute  # its libraries take half a second to load

    fills_gaps = "gaps" in document["usage"]
    given = Given(usage, evidence, utc_ms(document["issued_at"]), str(folder), meters, fills_gaps)
    found, unproved = recompute(given, held.spools(evidence.receipt_keys))
    return proved + found, absent + unproved
