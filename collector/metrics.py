"""The collector's own metrics, served at /metrics. No label holds text that a target or tenant chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class CollectorMetrics:
    """One registry's worth."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scrapes = self._counter("scrapes", "Scrapes, by outcome.", ("outcome",))
        self.samples = self._counter("samples", "Samples scraped, by what became of them.", ("fate",))
        self.frames = self._counter("spool_frames", "Frames appended to the spool.", ("lane",))
        self.spool_failures = self._counter("spool_failures", "Frames that the disk did not take.", ("lane",))
        self.pushes = self._counter("pushes", "Requests to the gateway, by outcome.", ("lane", "outcome"))
        self.pushed_samples = self._counter("pushed_samples", "Samples acknowledged.", ("lane",))
        self.pushed_bytes = self._counter("pushed_bytes", "Body bytes acknowledged.", ("lane",))
        self.dead_letters = self._counter("dead_letter_samples", "Samples the gateway rejected.", ("lane",))
        self.not_taken = self._counter(
            "not_taken",
            "Histograms and exemplars that a receiver of remote write does not say it took.",
            ("lane", "kind"),
        )
        self.targets = self._gauge("targets", "Targets being scraped.")
        self.spool_pending = self._gauge(
            "spool_pending_bytes", "Bytes that the gateway does not have yet.", ("lane",)
        )
        self.spool_oldest = self._gauge("spool_oldest_seconds", "Age of the oldest frame not settled.", ("lane",))
        self.spool_gaps = self._gauge("spool_gaps", "Gap records written since start.", ("lane",))
        self.gap_notices = self._counter(
            "gap_notices", "Notices to the gateway of what will never arrive, by outcome.", ("lane", "outcome")
        )
        self.spool_bytes = self._gauge("spool_bytes", "Bytes in the spool.", ("lane",))
        self.dropped = self._gauge("spool_dropped_frames", "Frames dropped for the quota since start.", ("lane",))
        self.acknowledged = self._gauge("acknowledged_sequence", "Last acknowledged sequence.", ("lane",))
        self.lag = self._gauge("push_lag_seconds", "Age of the newest acknowledged complete-through time.")
        self.policy_changes = self._counter("policy_changes", "Times that another policy took effect.")
        self.policy_problem = self._gauge("policy_problem", "1: no valid policy file, so shipping is stopped.")
        self.shipping_stopped = self._gauge("shipping_stopped", "1: nothing is pushed; /readyz says why.")
        self.reload_failed = self._gauge("config_reload_failed", "1: the last look at the settings was refused.")
        self.reloads = self._counter("config_reloads", "Reloads of the settings, by outcome.", ("outcome",))
        self.receiver_requests = self._counter(
            "receiver_requests", "Requests to receivers of remote_write, by outcome.", ("receiver", "outcome")
        )
        self.receiver_written = self._counter(
            "receiver_written", "What receivers of remote_write say they took.", ("receiver", "kind")
        )
        self.receiver_lost = self._counter(
            "receiver_lost", "Samples, histograms and exemplars a receiver did not get.", ("receiver", "reason")
        )
        self.receiver_spool_bytes = self._gauge(
            "receiver_spool_bytes", "Bytes in the spool of a receiver.", ("receiver",)
        )
        self.certificate = self._gauge("certificate_expiry_timestamp_seconds", "End of the client certificate.")

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"byoc_collector_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"byoc_collector_{name}", text, labels, registry=self.registry)
