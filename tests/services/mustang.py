"""Mustang's validator: veraPDF judges the PDF, the schema and the published rules of Factur-X the XML in it."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.services.errors import ServiceFailed
from tests.services.kafka_jars import find_jars
from tests.services.process import find_program

POM = Path(__file__).with_name("mustang-pom.xml")
SCRIPT = Path(__file__).with_name("mustang.js")
SHELL = "org.mozilla.javascript.tools.shell.Main"  # Rhino, among the jars: a JRE alone has no compiler
FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one PDF: its standard ("3b"), clauses of ISO 19005 that fail, errors of its metadata and of its XML.

    Mustang's summary of a whole file says "valid" where its PDF is not PDF/A: look at all of these.
    """

    flavour: str
    clauses: frozenset[str]
    metadata: tuple[str, ...]
    xml: tuple[str, ...]
    is_pdf_a: bool
    is_xml_valid: bool

    @property
    def is_valid(self) -> bool:
        found = (*self.clauses, *self.metadata, *self.xml)
        return self.flavour == "3b" and self.is_pdf_a and self.is_xml_valid and not found


@dataclass(frozen=True, slots=True)
class Mustang:
    """The validator's jars and a Java to run them with."""

    java: str
    jars: Path

    def judge(self, paths: Sequence[Path]) -> dict[str, Judgement]:
        """A judgement for each file, by its name without `.pdf`. Raises ServiceFailed for a file without any."""
        command = [self.java, *FLAGS, "-cp", f"{self.jars}/*", SHELL, str(SCRIPT), *map(str, paths)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        reports = done.stdout.split("=== ")[1:]
        if done.returncode or len(reports) != len(paths):
            raise ServiceFailed(f"Mustang ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return {path.stem: _judgement(report) for path, report in zip(paths, reports, strict=True)}


def find_mustang() -> Mustang:
    """The validator, downloaded on first use; raises ServiceUnavailable."""
    version = re.search(r"<mustang\.version>(.+?)<", POM.read_text())
    if version is None:
        raise ValueError(f"{POM.name} names no mustang.version")
    java = find_program("java", how_to_get="apt-get install default-jre-headless")
    return Mustang(str(java), find_jars(POM, f"mustang-{version[1]}", "Mustang's validator"))


def _judgement(report: str) -> Judgement:
    root = ET.fromstring(report.partition("\n")[2].strip().encode())  # noqa: S314 - of our own process
    pdf, xml = root.find("pdf"), root.find("xml")
    said = pdf.text or "" if pdf is not None else ""
    flavour = re.search(r"flavour=(\w+)", said)
    return Judgement(
        flavour=flavour[1] if flavour else "",
        clauses=frozenset(re.findall(r"clause=([\d.]+)", said)),
        metadata=_errors(pdf),
        xml=_errors(xml),
        is_pdf_a="isCompliant=true" in said,
        is_xml_valid=xml is not None and xml.find("summary[@status='valid']") is not None,
    )


def _errors(part: ET.Element | None) -> tuple[str, ...]:
    return tuple("".join(each.itertext()) for each in part.iter("error")) if part is not None else ()
