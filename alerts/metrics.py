"""Our own figures. Labels are names of settings and enums, never text that a tenant chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class AlertMetrics:
    """The metrics of evaluation and delivery, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"byoc_alerts_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"byoc_alerts_{name}", text, labels, registry=registry)

        self.evaluations = counter("evaluations_total", "Evaluations of a group for an organization", "rule_group")
        self.missed = counter("evaluations_missed_total", "Evaluation times that were skipped", "rule_group")
        self.rule_errors = counter("rule_errors_total", "Rules that had no value", "rule_group")
        self.tick_seconds = Histogram(
            "byoc_alerts_tick_seconds", "Evaluation and its transaction, all due groups", registry=registry
        )
        self.transitions = counter("transitions_total", "Alerts that changed their state", "state")
        self.deliveries = counter("delivery_attempts_total", "Attempts to deliver", "receiver", "outcome")
        self.escalated = counter("escalated_total", "Changes copied to a fallback receiver", "receiver")
        self.expired = counter("expired_total", "Notifications given up", "receiver")
        self.outbox_waiting = gauge("outbox_waiting", "Changes that wait for a receiver", "receiver")
        self.outbox_oldest_seconds = gauge("outbox_oldest_seconds", "Age of the oldest of them", "receiver")
        self.alerts = gauge("alerts", "Alerts now", "state")
        self.head_series = gauge("head_series", "Series in memory")
        self.head_bytes = gauge("head_bytes", "Memory of the head")
        self.head_refused = gauge("head_refused", "Samples or series not taken into the head", "reason")
        self.records = counter("records_total", "Log records read", "outcome")
        self.evaluated_lag_seconds = gauge(
            "evaluated_lag_seconds", "Clock minus the oldest group's last evaluation"
        )
