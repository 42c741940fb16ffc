"""`byoc verify-invoice`: what a customer runs, and how it says what was found."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernel.errors import InvalidInput

if TYPE_CHECKING:
    from billing.proof.verify import Verified
    from collector.spool.kept import KeptLane

EXIT_WRONG, EXIT_NOT_PROVED = 2, 3
_STATES = ("proved", "unproved", "yours")
_SHOWN = {"proved": "proved", "unproved": "NOT PROVED", "yours": "you check"}
_STATE, _SUBJECT, _LEAST = 12, 13, 40  # columns


def verify_invoice(
    bundle: Annotated[Path, typer.Argument(help="Folder of `byoc invoice bundle`.")],
    ca: Annotated[Path, typer.Option(help="The authority's certificate, which the collector got at enrolment.")],
    spool: Annotated[
        list[Path] | None, typer.Option(help="A collector's spool folder; again for each collector.")
    ] = None,
    keys: Annotated[
        list[Path] | None, typer.Option(help="A collector's receipt-keys.json, if a gateway's key was replaced.")
    ] = None,
    lake: Annotated[
        Path | None, typer.Option(help="Copies of the lake's files, by their names in the rows.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint that was kept: prove that nothing was rewritten since.")
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="End with 3 if anything is not proved.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Check an invoice offline: signature, checkpoints, rows, amounts; with --spool, its hours from kept frames.

    Ends with 0 if nothing is wrong, 2 if something is (or a file can't be read), 3 with --strict if something that
    more files would prove is not proved.
    """
    try:
        verified = _verify(bundle, ca, (spool or [], keys or [], lake), checkpoint)
    except InvalidInput as error:
        if not as_json:
            raise
        findings = [
            {"file": one.source, "place": one.where, "found": one.found, "allowed": one.allowed}
            for one in error.findings
        ]
        typer.echo(json.dumps({"result": "wrong", "findings": findings}, indent=2))
        raise typer.Exit(EXIT_WRONG) from error
    if as_json:
        typer.echo(json.dumps(_as_json(verified), indent=2))
    else:
        for line in render_verified(verified, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0):
            typer.echo(line)
    if strict and verified.unproved:
        raise typer.Exit(EXIT_NOT_PROVED)


def _verify(
    bundle: Path, ca: Path, given: tuple[list[Path], list[Path], Path | None], checkpoint: Path | None
) -> Verified:
    from billing.proof.held import Held
    from billing.proof.verify import verify_bundle
    from collector.spool.kept import KeptLane, read_keys
    from metering.usage.meter import LICENCE_METER, TARGET_UP

    spools, keys, lake = given
    authority = _read_certificate(ca)
    for folder in spools:
        if not folder.is_dir():
            raise InvalidInput.single(
                "--spool", "folder", str(folder), "a collector's spool folder, or a copy of it"
            )

    if lake is not None and not lake.is_dir():
        raise InvalidInput.single("--lake", "folder", str(lake), "a folder with copies of the lake's files")

    def open_spools(bundled: bytes) -> list[KeptLane]:
        known = read_keys(bundled, keys, authority)
        return [KeptLane(folder, known, LICENCE_METER.metric, TARGET_UP) for folder in spools]

    kept = _read(checkpoint, "--checkpoint", "a checkpoint that was kept") if checkpoint else None
    return verify_bundle(bundle, authority, Held(open_spools if spools else None, lake, kept))


def _read_certificate(path: Path) -> bytes:
    from cryptography import x509

    allowed = "the authority's certificate, ca.pem"
    content = _read(path, "--ca", allowed)
    try:
        x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise InvalidInput.single("--ca", str(path), "no certificate in PEM", allowed) from error
    return content


def _read(path: Path, option: str, allowed: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(option, str(path), error.strerror or str(error), allowed) from error


def render_verified(verified: Verified, columns: int) -> Iterator[str]:
    """A table: result, subject, what or why. `columns`: wrap to so many; 0: a line each."""
    for state in _STATES:
        for text in getattr(verified, state):
            subject, _, said = text.partition(": ")
            head = f"{_SHOWN[state]:<{_STATE}}{subject:<{_SUBJECT}}"
            width = columns - _STATE - _SUBJECT
            lines = textwrap.wrap(said, width) if width >= _LEAST else [said]
            yield head + lines[0]
            yield from (" " * (_STATE + _SUBJECT) + line for line in lines[1:])
    counts = f"{len(verified.proved)} proved, {len(verified.unproved)} not, {len(verified.yours)} for you to check"
    yield counts
    yield f"{verified.number} verified"


def _as_json(verified: Verified) -> dict[str, object]:
    found: dict[str, object] = {"result": "verified", "number": verified.number}
    for state in _STATES:
        told = (text.partition(": ") for text in getattr(verified, state))
        found[state] = [{"subject": subject, "text": said} for subject, _, said in told]
    return found
