"""What the gateway says about itself. No label holds text that a tenant chose."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Outcome(StrEnum):
    """What became of a push."""

    WRITTEN = "written"
    PARTLY = "partly_written"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown_state"
    LIMITED = "limited"
    BUSY = "busy"
    LOG_UNAVAILABLE = "log_unavailable"


class Closed(StrEnum):
    """Why a connection was closed or a request turned away."""

    NO_CERTIFICATE = "no_certificate"
    WEAK_CIPHER = "weak_cipher"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SILENT = "silent"
    TOO_MANY = "too_many_connections"
    STALE_REVOCATIONS = "stale_revocations"


class GatewayMetrics:
    """The metrics of one gateway, in the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pushes = Counter("byoc_gateway_pushes", "Pushes by outcome.", ["outcome"], registry=registry)
        self.samples = Counter(
            "byoc_gateway_samples_written", "Samples appended to the log, by lane.", ["lane"], registry=registry
        )
        self.refused = Counter(
            "byoc_gateway_samples_refused", "Samples and histograms not written.", ["reason"], registry=registry
        )
        self.claims = Counter(
            "byoc_gateway_labels_overwritten",
            "Series whose organization or project label was not the certificate's.",
            registry=registry,
        )
        self.given_up = Counter(
            "byoc_gateway_given_up_pushes",
            "Push numbers that collectors said will never come, as often as they said it.",
            ["reason"],
            registry=registry,
        )
        self.received = Counter("byoc_gateway_received_bytes", "Bytes of bodies, as sent.", registry=registry)
        self.append_seconds = Histogram(
            "byoc_gateway_append_seconds", "From the call of an append to its return.", registry=registry
        )
        self.in_flight = Gauge("byoc_gateway_pushes_in_flight", "Pushes being worked on.", registry=registry)
        self.connections = Gauge("byoc_gateway_connections", "Open connections.", registry=registry)
        self.turned_away = Counter(
            "byoc_gateway_turned_away", "Requests and connections turned away.", ["reason"], registry=registry
        )
        self.certificates = Counter(
            "byoc_gateway_certificate_requests", "Enrolments and renewals.", ["path", "outcome"], registry=registry
        )
        self.tenants = Gauge("byoc_gateway_tenants", "Tenants in memory.", registry=registry)
        self.refusals_kept_back = Counter(
            "byoc_gateway_refusals_kept_back",
            "Refusals over what is kept in memory for one collector; told after a restart.",
            registry=registry,
        )
        self.groups = Gauge("byoc_gateway_frame_groups", "Groups of frames in memory.", registry=registry)
        self.active_series = Gauge("byoc_gateway_active_series", "Active series of all tenants.", registry=registry)
        self.expiry = Gauge(
            "byoc_gateway_certificate_expiry_timestamp_seconds",
            "When the gateway's own certificate ends.",
            registry=registry,
        )
