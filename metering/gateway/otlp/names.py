"""Names of metrics and labels: the strategy "UnderscoreEscapingWithSuffixes", the default of Prometheus 3.

Source: prometheus/otlptranslator (metric_namer.go, label_namer.go, unit_suffixes.go); OpenTelemetry specification,
"Prometheus and OpenMetrics compatibility".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_UNITS = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_UNDERSCORES = re.compile(r"_{2,}")


@lru_cache(maxsize=10_000)
def metric_name(name: str, unit: str, *, is_counter: bool, is_gauge: bool) -> str:
    """The name of a metric, its unit and kind in its suffixes. Empty if nothing of it may stand in a name."""
    tokens = [token for token in _NOT_IN_NAMES.split(name) if token]
    main, per = _unit_suffixes(unit)
    if main and main not in tokens:
        tokens.append(main)
    if per and per not in tokens:
        tokens += ["per", per]
    if is_counter:
        tokens = _moved_to_end(tokens, "total")
    if unit == "1" and is_gauge:
        tokens = _moved_to_end(tokens, "ratio")
    joined = "_".join(tokens)
    return f"_{joined}" if joined[:1].isdigit() else joined


def unit_of(unit: str) -> str:
    """The unit as it stands in a name, for the metadata."""
    main, per = _unit_suffixes(unit)
    return "_per_".join(part for part in (main, per) if part) if main else f"per_{per}" if per else ""


@lru_cache(maxsize=10_000)
def label_name(name: str) -> str:
    """The name of a label."""
    if not name:
        return ""
    cleaned = _UNDERSCORES.sub("_", _NOT_IN_LABELS.sub("_", name))
    if name.startswith("__") and name.endswith("__") and len(name) > 4:
        cleaned = f"__{cleaned.strip('_')}__"  # reserved names stay what they are
    if cleaned[0].isdigit():
        return f"key_{cleaned}"
    return f"key{cleaned}" if cleaned[0] == "_" and not cleaned.startswith("__") else cleaned


def labels_of(attributes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Attributes as labels; values of names that become one are joined by semicolons, in the order of the names."""
    labels: dict[str, str] = {}
    for name, value in sorted(attributes):
        label = label_name(name)
        if label:
            labels[label] = f"{labels[label]};{value}" if label in labels else value
    return labels


def identity_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """The labels job and instance of a resource."""
    labels = {}
    if service := attributes.get("service.name"):
        namespace = attributes.get("service.namespace")
        labels["job"] = f"{namespace}/{service}" if namespace else service
    if instance := attributes.get("service.instance.id"):
        labels["instance"] = instance
    return labels


def _unit_suffixes(unit: str) -> tuple[str, str]:
    main, _, per = (part.strip() for part in unit.partition("/"))
    return _suffix(main, _UNITS), _suffix(per, _PER_UNITS)


def _suffix(unit: str, known: Mapping[str, str]) -> str:
    if not unit or "{" in unit or "}" in unit:
        return ""
    return _NOT_IN_UNITS.sub("_", known.get(unit, unit)).strip("_")


def _moved_to_end(tokens: list[str], token: str) -> list[str]:
    return [*(each for each in tokens if each != token), token]
