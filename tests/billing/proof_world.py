"""A billed world as a customer has it: what it holds, what is refused of it, and a vendor that signs again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from billing.proof.compared import Given
from billing.proof.evidence import EVIDENCE, KEYS, Evidence, Sourced, load_evidence, render_evidence
from billing.proof.metered import stated_meters
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, parse_rows
from billing.proof.signatures import open_signer
from collector.spool.kept import KeptLane, read_keys
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from kernel.steps import StepFunction
from metering.usage.meter import LICENCE_METER, TARGET_UP
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow, UsageRows
from tests.billing.billed_world import Billed

Points = Sequence[tuple[int, int]]  # ms, milli-vCPU


def flip(path: Path, at: int) -> None:
    """One bit of one byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def refusal(billed: Billed, *spools: str, lake: Path | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        billed.verify(*spools, lake=lake)
    return str(caught.value)


def given(
    billed: Billed, change: Callable[[tuple[UsageRow, ...]], tuple[UsageRow, ...]] = lambda rows: rows
) -> Given:
    """The bundle, with rows as a vendor might have signed them."""
    rows = parse_rows((billed.bundle / ROWS).read_bytes(), ROWS)
    encoded = (billed.bundle / INVOICE).read_bytes()
    meters = stated_meters(billed.bundle, json.loads(encoded)["usage"], rows[0].organization)
    sourced: list[Sourced] = [*rows, *(row for one in meters for _, row in one.inside())]
    evidence = load_evidence(billed.bundle, encoded, sourced, billed.authority_pem)
    assert evidence is not None
    rows = change(rows)
    usage = UsageMonth(
        rows[0].organization,
        billed.period,
        UsageRows.of(rows[0].organization, rows),
        steps_of(billed),
        0,
        0,
        "",
        sealed=True,
    )
    return Given(usage, evidence, SystemClock().now_ms() + 10**9, str(billed.bundle))


def lane(billed: Billed, name: str) -> KeptLane:
    keys = read_keys((billed.bundle / KEYS).read_bytes(), (), billed.authority_pem)
    return KeptLane(billed.folder / name, keys, LICENCE_METER.metric, TARGET_UP)


def sign_again(original: Billed, billed: Billed, change: Callable[[Evidence], Evidence]) -> None:
    """As a vendor that lies about its evidence would."""
    encoded = (billed.bundle / INVOICE).read_bytes()
    signer = open_signer(original.folder / "authority", SystemClock())
    assert signer is not None
    for name, content in render_evidence(change(given(billed).evidence), encoded, signer).items():
        (billed.bundle / name).write_bytes(content)


def reissue(original: Billed, billed: Billed, document: Any = None, points: Points | None = None) -> None:
    """As a vendor that lies would: another document, other steps, and its own good signatures over them."""
    path = billed.bundle / SIGNATURE
    statement = json.loads(path.read_bytes())["statement"]
    if points is not None:
        (billed.bundle / STEPS).write_text(json.dumps(points))
    if document is not None:
        (billed.bundle / INVOICE).write_text(json.dumps(document))
    signer = open_signer(original.folder / "authority", SystemClock())
    assert signer is not None
    encoded = (billed.bundle / INVOICE).read_bytes()
    statement["sha256"] = sha256(encoded).hexdigest()
    statement["files"] = {
        name: sha256((billed.bundle / name).read_bytes()).hexdigest() for name in statement["files"]
    }
    path.write_bytes(signer.sign(statement))
    for path in billed.bundle.rglob(EVIDENCE):
        statement = json.loads(path.read_bytes())["statement"]
        path.write_bytes(signer.sign(statement | {"sha256": sha256(encoded).hexdigest()}))


def steps_of(billed: Billed) -> StepFunction:
    """The levels in the bundle."""
    return StepFunction(tuple((at_ms, level) for at_ms, level in json.loads((billed.bundle / STEPS).read_bytes())))
