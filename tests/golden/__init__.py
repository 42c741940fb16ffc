"""Expected documents and figures, committed so that a change shows as a diff to be reviewed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def pricing_example(identifier: str) -> dict[str, Any]:
    """A worked example of pricing.json: published figures, and what we give where we differ."""
    examples = json.loads((FOLDER / "pricing.json").read_text())["examples"]
    [found] = [example for example in examples if example["id"] == identifier]
    assert isinstance(found, dict)
    return found
