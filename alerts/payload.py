"""The webhook body: Alertmanager's format, version 4, key by key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.labels import group_labels
from kernel.clock import from_ms

VERSION = "4"
STILL_FIRING = "0001-01-01T00:00:00Z"  # Go's zero time, which receivers know as "no end"


@dataclass(frozen=True, slots=True)
class AlertEntry:
    """One life of an alert; without an end it fires."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    generator_url: str
    starts_at_ms: int
    ends_at_ms: int | None

    @property
    def status(self) -> str:
        return "firing" if self.ends_at_ms is None else "resolved"


@dataclass(frozen=True, slots=True)
class Notification:
    """What one request tells: alerts of one group, at least one."""

    receiver: str
    group_key: str
    alerts: Sequence[AlertEntry]
    truncated_alerts: int
    external_url: str


def render_payload(notification: Notification) -> str:
    """The JSON text. The same notification gives the same text."""
    alerts = sorted(notification.alerts, key=lambda alert: (alert.starts_at_ms, alert.fingerprint))
    body = {
        "receiver": notification.receiver,
        "status": "firing" if any(alert.status == "firing" for alert in alerts) else "resolved",
        "alerts": [_render_alert(alert) for alert in alerts],
        "groupLabels": group_labels(alerts[0].labels),
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": notification.external_url,
        "version": VERSION,
        "groupKey": notification.group_key,
        "truncatedAlerts": notification.truncated_alerts,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _render_alert(alert: AlertEntry) -> dict[str, object]:
    return {
        "status": alert.status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": render_time(alert.starts_at_ms),
        "endsAt": STILL_FIRING if alert.ends_at_ms is None else render_time(alert.ends_at_ms),
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }


def render_time(moment_ms: int) -> str:
    """RFC 3339 as Go prints it: no trailing zeros in the fraction."""
    moment = from_ms(moment_ms)
    fraction = f".{moment_ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *rest = maps
    return {name: text for name, text in sorted(first.items()) if all(other.get(name) == text for other in rest)}
