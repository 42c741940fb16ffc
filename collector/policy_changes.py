"""What a change of policy is, in words: one line for each thing that was added or removed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from collector.policy_settings import PolicySettings
from kernel.errors import truncate

MAX_LINES = 100
_LISTS = ("drop", "remove_labels", "exemplar_labels", "help_texts")


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """An entry of the ledger. `digest`: SHA-256 of the file, or of the section's rules as JSON."""

    source: str
    mode: str
    digest: str
    version: int
    key: str  # which key of pseudonyms: a fingerprint
    rules: PolicySettings
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LastPolicy:
    """What the ledger knows of the policy. `rules` None: they were too long to keep, or can't be read any more."""

    digest: str
    key: str
    rules: PolicySettings | None


class PolicyJournal(Protocol):
    """Where changes of the policy are written down: the ledger. Blocking."""

    def last_policy(self) -> LastPolicy | None:
        """The last change written down."""

    def policy_changed(self, change: PolicyChange) -> None:
        """Durable when it returns. Raises sqlite3.Error, OSError."""

    def shipping_changed(self, reason: str | None) -> None:
        """Shipping stopped for this reason, or goes on (None). Raises sqlite3.Error, OSError."""


def summarize(old: PolicySettings | None, new: PolicySettings) -> tuple[str, ...]:
    """What is new in `new`; bounded. Without an old one, what there is."""
    lines = [truncate(line) for line in _lines(_fields(old), _fields(new))]
    if len(lines) > MAX_LINES:
        return (*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES} more")
    return tuple(lines)


def _fields(settings: PolicySettings | None) -> dict[str, Any]:
    if settings is None:
        return {
            "enabled": True,
            "allow": [],
            "drop": [],
            "drop_series": [],
            "remove_labels": [],
            "exemplar_labels": [],
            "help_texts": [],
        }
    return settings.model_dump(mode="json", exclude={"version"})


def _lines(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    if old["enabled"] != new["enabled"]:
        yield f"enabled: {str(new['enabled']).lower()}"
    for name in _LISTS:
        yield from _difference(name, old[name], new[name])
    for name in ("drop_series", "allow"):
        yield from _rules(name, old[name], new[name])


def _rules(name: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    for at in range(max(len(old), len(new))):
        where = f"{name}[{at}]"
        if at >= len(new):
            yield f"{where} removed: {', '.join(old[at]['metrics'])}"
        elif at >= len(old):
            yield f"{where} added: {', '.join(new[at]['metrics'])}"
        elif old[at] != new[at]:
            for key, value in new[at].items():
                yield from _field(f"{where}.{key}", old[at][key], value)


def _field(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(new, list):
        yield from _difference(where, old, new)
    elif old != new:
        yield f"{where}: {old} -> {new}"


def _difference(where: str, old: list[str], new: list[str]) -> Iterator[str]:
    added = [f"+{one}" for one in new if one not in old]
    removed = [f"-{one}" for one in old if one not in new]
    if added or removed:
        yield f"{where}: {' '.join(added + removed)}"
    elif old != new:
        yield f"{where}: another order"
