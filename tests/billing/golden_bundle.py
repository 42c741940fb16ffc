"""Writes tests/golden/bundle anew: `python -m tests.billing.golden_bundle`, when the format has changed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.billing.test_proof import NUMBER, Closed
from tests.golden import FOLDER

BUNDLE = FOLDER / "bundle"


def main() -> None:
    shutil.rmtree(BUNDLE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        closed = Closed(Path(folder))
        closed.say("invoice", "bundle", NUMBER, "--out", str(BUNDLE))
        (FOLDER / "bundle-ca.pem").write_bytes(closed.authority.certificate_pem)
        closed.deployment.database().close()


if __name__ == "__main__":
    main()
