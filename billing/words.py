"""A document's own sentences in the language of its contract.

The canonical JSON is English. What the printed form says besides labels (descriptions of lines, facts, notes) is
found in `templates/words.json` by its English words; what a vendor wrote, and what is not there, stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).with_name("templates")
_WORDS: Mapping[str, Mapping[str, Mapping[str, str]]] = json.loads((_TEMPLATES / "words.json").read_text("utf-8"))
_LABELS: Mapping[str, Mapping[str, str]] = json.loads((_TEMPLATES / "labels.json").read_text("utf-8"))
_PHRASES = [(re.compile(pattern), said) for pattern, said in _WORDS["zh"]["phrases"].items()]
_BLOCKS = [(re.compile(pattern), said) for pattern, said in _WORDS["zh"]["blocks"].items()]  # with a unit in them
_FACTS = _WORDS["zh"]["facts"]  # by the fact's name
_MODELS, _UNITS = _WORDS["zh"]["price_models"], _WORDS["zh"]["units"]
_MULTIPLES, _TIMES = _WORDS["zh"]["multiples"], _WORDS["zh"]["times"]
_TIMED = re.compile(rf"(?:(.+)-)?({'|'.join(_TIMES)})s?")
_MULTIPLE = re.compile(rf"({'|'.join(_MULTIPLES)}) (.+)")
_QUANTITY = re.compile(r"(-?[0-9][0-9.]*) (.+)")


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


def phrase(english: str, within: Callable[[str], str] | None = None) -> str:
    """One sentence in Chinese; unchanged when it is not one of ours. `within`: what says its parts, else this."""
    for pattern, said in _PHRASES:
        found = pattern.fullmatch(english)
        if found:
            for place, group in enumerate(found.groups(), start=1):
                said = said.replace(f"\\{place}", (within or phrase)(group))
            return said
    return english


def unit(english: str) -> str:
    """A unit in Chinese: `vCPU-minute` is vCPU·分钟, `million vectors` 百万向量. What is not known stays."""
    if found := _MULTIPLE.fullmatch(english):
        return _MULTIPLES[found[1]] + unit(found[2])
    if found := _TIMED.fullmatch(english):
        return f"{unit(found[1])}·{_TIMES[found[2]]}" if found[1] else _TIMES[found[2]]
    return str(_UNITS.get(english) or _UNITS.get(english.removesuffix("s")) or english)


def _priced(basis: str) -> str:
    """How a part is priced; a vendor's unit may stand in it."""
    for pattern, said in _BLOCKS:
        if found := pattern.fullmatch(basis):
            for place, group in enumerate(found.groups(), start=1):
                said = said.replace(f"\\{place}", unit(group))
            return said
    return phrase(basis, _priced)


def _fact(fact: Mapping[str, str]) -> dict[str, str]:
    shown = phrase(fact["shown"])
    if fact["name"] == "price_model":
        shown = _MODELS.get(shown, shown)
    elif fact["shown"] != fact["value"] and (found := _QUANTITY.fullmatch(shown)):
        shown = f"{found[1]} {unit(found[2])}"
    return {**fact, "label": _FACTS.get(fact["name"], fact["label"]), "shown": shown}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    quantity = {**part["quantity"], "unit": unit(part["quantity"]["unit"])}
    rate = {**part["rate"], "basis": _priced(part["rate"]["basis"])}
    return {**part, "label": phrase(part["label"]), "quantity": quantity, "rate": rate}


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    made = line["derivation"]
    rate = made["rate"] and {**made["rate"], "basis": phrase(made["rate"]["basis"])}
    quantity = {**made["quantity"], "unit": unit(made["quantity"]["unit"])}
    return {
        **line,
        "description": phrase(line["description"]),
        "notes": [phrase(note) for note in line["notes"]],
        "derivation": {
            **made,
            "quantity": quantity,
            "rate": rate,
            "facts": [_fact(fact) for fact in made["facts"]],
            "parts": [_part(part) for part in made.get("parts", ())],
        },
    }


def label(language: str, key: str) -> str:
    """One label of the printed form."""
    return _LABELS[language][key]
