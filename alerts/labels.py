"""Names of alerts and groups, as Alertmanager makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from metering.record import canonical_labels

GROUP_LABELS = ("alertname", "organization")
_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def fingerprint(labels: Mapping[str, str]) -> str:
    """16 hex digits: FNV-1a of the sorted labels (prometheus/common, model.LabelSet.Fingerprint)."""
    digest = _FNV_OFFSET
    for byte in canonical_labels(labels.items()):
        digest = ((digest ^ byte) * _FNV_PRIME) & _MASK
    return f"{digest:016x}"


def group_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that alerts of one notification share: name and organization."""
    return {name: labels[name] for name in GROUP_LABELS}


def group_key(labels: Mapping[str, str]) -> str:
    """`{}:{alertname="...", organization="..."}`."""
    inner = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in group_labels(labels).items()
    )
    return f"{{}}:{{{inner}}}"
