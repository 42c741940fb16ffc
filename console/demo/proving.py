"""The act of proof: one line of the invoice explained, and the whole of it verified as the customer would."""

from __future__ import annotations

import json

from console.demo.files import FLEXIBLE
from console.demo.programs import ProgramFailed, succeed
from console.demo.stage import Stage


async def prove(stage: Stage) -> None:
    """`byoc invoice explain` and `bundle` on the vendor's side, then the customer's `byoc verify-invoice`."""
    invoice = json.loads((stage.out / "invoice.json").read_text(encoding="utf-8"))
    number = invoice["number"]
    line = next(place for place, one in enumerate(invoice["lines"], start=1) if not one["informational"])
    explained = await succeed(stage.config, "invoice", "explain", number, "--line", str(line))
    (stage.out / "explained.txt").write_text(explained + "\n", encoding="utf-8")
    lines = explained.splitlines()
    reasons = [text for text in lines if not text.startswith(("hour ", "gap ", "file ", "push "))]
    for text in reasons:
        stage.say(text)
    stage.say(f"and {len(lines) - len(reasons)} lines of hours, gaps, files and pushes: explained.txt")
    await succeed(stage.config, "invoice", "checkpoint", "--out", str(stage.out / "checkpoint.json"))
    await succeed(stage.config, "invoice", "bundle", number, "--out", str(stage.out / "bundle"))
    verified = await succeed(None, *_verification(stage))
    (stage.out / "verified.txt").write_text(verified + "\n", encoding="utf-8")
    _judge(stage, number, verified)


def _verification(stage: Stage) -> list[str]:
    """The customer's command: bundle, checkpoint, what its collector kept, and the certificate that it got."""
    folder = stage.customer_folder(FLEXIBLE.organization)
    bundle, kept = stage.out / "bundle", stage.out / "checkpoint.json"
    words = ("verify-invoice", bundle, "--ca", folder / "ca.pem", "--checkpoint", kept, "--spool", folder / "spool")
    return [*map(str, words)]


def _judge(stage: Stage, number: str, verified: str) -> None:
    """Raises ProgramFailed unless the last line says that it is verified, and something before it was proved."""
    *said, last = verified.splitlines()
    for text in said:
        stage.say(text)
    proved = [text for text in said if text.startswith("proved ")]
    if last != f"{number} verified" or not all(
        any(words in text for text in proved) for words in ("lines recomputed", "rows recomputed from")
    ):
        raise ProgramFailed(f"{number} was not verified: {verified}")
    stage.figures["invoice_statements_proved"] = len(proved)
    stage.figures["invoice_statements_not_proved"] = sum(text.startswith("NOT PROVED") for text in said)
