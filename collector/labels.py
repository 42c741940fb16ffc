"""Label sets: sorted by name, names unique, no empty value."""

from __future__ import annotations

from collections.abc import Mapping

METRIC_NAME = "__name__"

Labels = tuple[tuple[str, str], ...]


def make_labels(pairs: Mapping[str, str]) -> Labels:
    """The canonical form: sorted, empty values left out (they mean "no such label")."""
    return tuple(sorted((name, value) for name, value in pairs.items() if value))


def render_labels(labels: Labels) -> str:
    """As Prometheus prints a series: `name{a="b"}`."""
    name = ""
    inner = []
    for key, value in labels:
        if key == METRIC_NAME:
            name = value
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            inner.append(f'{key}="{escaped}"')
    return f"{name}{{{','.join(inner)}}}" if inner else name
