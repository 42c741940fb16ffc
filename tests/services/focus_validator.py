"""focus-validator of the FinOps Foundation, for FOCUS 1.2, under the Python 3.12 that it needs.

Where no Python 3.12 is at hand its tests are skipped, also with BYOC_REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.services.environments import environment
from tests.services.errors import ServiceFailed, ServiceUnavailable

REQUIREMENTS = Path(__file__).with_name("focus-validator-requirements.txt")
VERSION, MODEL = "2.2.1", "1.2.0.1"
TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class FocusValidator:
    """An installed validator. A file takes some four seconds."""

    folder: Path

    def failures(self, file: Path, criteria: str) -> set[str]:
        """The rules that a Cost and Usage file breaks, such as `BilledCost-C-003-M`. Raises ServiceFailed.

        `criteria` are those of the specification that apply to the vendor, with commas between.
        """
        [packages] = self.folder.glob("lib/python3.12/site-packages")
        with tempfile.TemporaryDirectory() as out:
            report = Path(out) / "report.xml"
            options = {
                "--data-file": str(file.absolute()),
                "--validate-version": MODEL,
                "--focus-dataset": "CostAndUsage",
                "--applicability-criteria": criteria,
                "--output-type": "unittest",
                "--output-destination": str(report),
                "--rule-set-path": str(packages / "focus_validator/rules"),
            }
            (Path(out) / "focus_validator").symlink_to(packages / "focus_validator")  # it opens files by that path
            words = [word for option in options.items() for word in option]
            done = subprocess.run(
                [self.folder / "bin/focus-validator", "--block-download", *words],
                check=False,  # it ends with 0 whatever it finds
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                cwd=out,
            )
            if not report.exists():
                raise ServiceFailed(f"focus-validator ended with {done.returncode}:\n{done.stderr[-3000:]}")
            cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - written by the program we started
        if not any(len(case) == 0 for case in cases):
            raise ServiceFailed("focus-validator checked nothing")
        failed = [case for case in cases if {each.tag for each in case} & {"failure", "error"}]
        return {case.attrib["name"].split(" ")[0] for case in failed}


def find_focus_validator() -> FocusValidator:
    """Installed on first use; raises ServiceUnavailable."""
    for python in _pythons():
        try:
            works = subprocess.run([python, "--version"], check=False, capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if works.returncode == 0:
            return FocusValidator(environment(f"focus-validator-{VERSION}", REQUIREMENTS, python))
    raise ServiceUnavailable("no Python 3.12, which focus-validator needs")


def _pythons() -> Iterator[str]:
    """In PATH, and of pyenv, whose program in PATH may be of a version that is not chosen."""
    found = shutil.which("python3.12")
    if found:
        yield found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted(root.glob("versions/3.12.*/bin/python3.12")))
