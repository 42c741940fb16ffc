"""The files with which a customer checks an invoice without asking the vendor anything: docs/verify.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from billing.proof.checkpoint import CHECKPOINTS
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, render_rows, render_steps
from kernel.errors import ByocError, Conflict, truncate
from metering.usage.model import UsageMonth, canonical_line, tree_root

Sign = Callable[[Mapping[str, str]], bytes]  # from the sha256 of files by name to `signature.json`


def render_bundle(
    encoded: bytes, usage: UsageMonth | None, sign: Sign, checkpoints: bytes | None = None
) -> dict[str, bytes]:
    """The bundle's files by name. `sign` gives what was signed at issue, or signs now what never was.

    `checkpoints`: the proof that a checkpoint holds the document, where one does. Raises Conflict when `usage` is
    not what the document was made from.
    """
    chained = {CHECKPOINTS: checkpoints} if checkpoints else {}
    stated = json.loads(encoded)["usage"]
    if stated is None:
        return {INVOICE: encoded, SIGNATURE: sign({}), **chained}
    root = tree_root(canonical_line(row) for row in usage.rows).hex() if usage else None
    if usage is None or root != stated.get("merkle_root"):
        raise Conflict("the usage was revised since, or is not stored any more: no bundle of what was billed")
    steps = render_steps(usage)
    signature = sign({STEPS: sha256(steps).hexdigest()})
    return {INVOICE: encoded, ROWS: render_rows(usage.rows), STEPS: steps, SIGNATURE: signature, **chained}


def write_bundle(folder: Path, files: Mapping[str, bytes]) -> None:
    """Into a new folder. Raises ByocError; a folder that exists is not written to."""
    try:
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ByocError(f"{truncate(str(folder))} can't be written: {error.strerror}") from error
