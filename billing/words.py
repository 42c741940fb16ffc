"""A document's own sentences in the language of its contract.

The canonical JSON is English. What the printed form says besides labels (descriptions of lines, facts, notes) is
found in `templates/words.json` by its English words; what a vendor wrote, and what is not there, stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).with_name("templates")
_WORDS: Mapping[str, Mapping[str, Mapping[str, str]]] = json.loads((_TEMPLATES / "words.json").read_text("utf-8"))
_LABELS: Mapping[str, Mapping[str, str]] = json.loads((_TEMPLATES / "labels.json").read_text("utf-8"))
_PHRASES = [(re.compile(pattern), said) for pattern, said in _WORDS["zh"]["phrases"].items()]
_FACTS = _WORDS["zh"]["facts"]  # by the fact's name


def in_language(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document as it is printed: its sentences in its own language. Amounts and names stay."""
    if document.get("language", "en") == "en":
        return document
    return {
        **document,
        "lines": [_line(line) for line in document["lines"]],
        "notes": [phrase(note) for note in document["notes"]],
        "rounding_policy": phrase(document["rounding_policy"]),
        **({"reason": phrase(document["reason"])} if "reason" in document else {}),
    }


def phrase(english: str) -> str:
    """One sentence in Chinese; unchanged when it is not one of ours."""
    for pattern, said in _PHRASES:
        found = pattern.fullmatch(english)
        if found:
            for place, group in enumerate(found.groups(), start=1):
                said = said.replace(f"\\{place}", phrase(group))
            return said
    return english


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    made = line["derivation"]
    rate = made["rate"] and {**made["rate"], "basis": phrase(made["rate"]["basis"])}
    facts = [
        {**fact, "label": _FACTS.get(fact["name"], fact["label"]), "shown": phrase(fact["shown"])}
        for fact in made["facts"]
    ]
    parts = [
        {**part, "label": phrase(part["label"]), "rate": {**part["rate"], "basis": phrase(part["rate"]["basis"])}}
        for part in made.get("parts", ())
    ]
    return {
        **line,
        "description": phrase(line["description"]),
        "notes": [phrase(note) for note in line["notes"]],
        "derivation": {**made, "rate": rate, "facts": facts, "parts": parts},
    }


def label(language: str, key: str) -> str:
    """One label of the printed form."""
    return _LABELS[language][key]
