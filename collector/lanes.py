"""Which lane of the spool a series travels in: what is billed has a lane and a quota of its own."""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache

from pydantic import Field, field_validator

from kernel.settings import Section

DEFAULT_BILLING = ("up", "byoc_*", "*_licence_*", "*_license_*")


class LaneSettings(Section):
    """What goes where."""

    billing: tuple[str, ...] = Field(
        DEFAULT_BILLING,
        description="Names of metrics that are billed; * stands for any characters; default up, byoc_*, licences."
        " They are kept before all others when the disk is short.",
    )

    @field_validator("billing")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name or any(character.isspace() for character in name):
                raise ValueError(f"{name!r}: a metric name, maybe with *, is allowed")
        return names


class BillingNames:
    """Whether a metric is billed, by its name as it leaves."""

    def __init__(self, names: tuple[str, ...]) -> None:
        literal = (name.replace("[", "[[]").replace("?", "[?]") for name in names)
        pattern = re.compile("|".join(map(fnmatch.translate, literal))) if names else None
        self._matches = lru_cache(10_000)(lambda name: pattern is not None and pattern.fullmatch(name) is not None)

    def __call__(self, name: str) -> bool:
        return self._matches(name)
