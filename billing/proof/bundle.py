"""The files with which a customer checks an invoice without asking the vendor anything: docs/verify.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from billing.proof.checkpoint import CHECKPOINTS
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, render_rows, render_steps
from kernel.errors import ByocError, Conflict, truncate
from metering.usage.model import UsageMonth

Sign = Callable[[Mapping[str, str]], bytes]  # from the sha256 of files by name to `signature.json`


def render_bundle(
    encoded: bytes,
    usage: UsageMonth | None,
    sign: Sign,
    *,
    corrected_steps: Mapping[str, bytes] | None = None,
    tied: Mapping[str, bytes] | None = None,
    checkpoints: bytes | None = None,
) -> dict[str, bytes]:
    """The bundle's files by name. `sign` gives what was signed at issue, or signs now what never was.

    `corrected_steps`: the levels that earlier invoices were rated again from, by name of the file; `tied`: files
    that the document itself ties, such as the rows of its meters; `checkpoints`: the proof that a checkpoint holds
    the document, where one does. Raises Conflict when `usage` is not what the document was made from.
    """
    files = {INVOICE: encoded, **(tied or {}), **({CHECKPOINTS: checkpoints} if checkpoints else {})}
    signed = dict(corrected_steps or {})
    stated = json.loads(encoded)["usage"]
    if stated is not None:
        root = usage.rows.root if usage else None
        if usage is None or root != stated.get("merkle_root"):
            raise Conflict("the usage is not that of the invoice: no bundle of what was billed")
        files[ROWS] = render_rows(usage.rows)
        signed[STEPS] = render_steps(usage)
    signature = sign({name: sha256(content).hexdigest() for name, content in signed.items()})
    return {**files, **signed, SIGNATURE: signature}


def write_bundle(folder: Path, files: Mapping[str, bytes]) -> None:
    """Into a new folder. Raises ByocError; a folder that exists is not written to."""
    try:
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ByocError(f"{truncate(str(folder))} can't be written: {error.strerror}") from error
