"""Settings of the gateway: where it listens, and what one tenant may do to it."""

from __future__ import annotations

from pydantic import Field

from collector.wire.model import DecodeLimits
from kernel.identity.authority import MAX_RENEWAL_GRACE
from kernel.settings import Section

_MIB = 1024 * 1024


class TenantLimits(Section):
    """What each tenant (project of an organization) may send. Checked before anything is appended."""

    samples_per_second: float = Field(
        default=100_000.0,
        gt=0,
        description="Samples a second, averaged over the burst. Default 100,000. Above it a push is answered 429"
        " with Retry-After; senders that do not retry on 429 lose it.",
    )
    burst_samples: int = Field(
        default=1_000_000,
        ge=1,
        description="Samples that may come at once after a quiet time. Default 1,000,000, ten seconds' worth: a"
        " collector that was cut off can send its backlog at this rate first.",
    )
    active_series: int = Field(
        default=500_000,
        ge=1,
        description="Series of one tenant seen within `active_series_seconds`. Default 500,000, about 50 MB of"
        " memory when full. Known series pass; a new one is refused until others have been silent for that long."
        " Each begun kilobyte of labels counts as one, since everything behind the gateway keeps the labels.",
    )
    active_series_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds that a series counts as active after its last sample. Default 3600.",
    )
    labels_per_series: int = Field(
        default=64, ge=3, le=1000, description="Labels of one series, its name included. Default 64."
    )
    label_name_bytes: int = Field(
        default=256, ge=16, le=16_384, description="Bytes of a label's name in UTF-8. Default 256."
    )
    label_value_bytes: int = Field(
        default=4096, ge=64, le=65_536, description="Bytes of a label's value in UTF-8. Default 4096."
    )
    series_bytes: int = Field(
        default=32_768,
        ge=256,
        le=262_144,
        description="Bytes of all labels of one series. Default 32,768. It must fit a log record many times over.",
    )
    future_seconds: int = Field(
        default=600,
        ge=0,
        description="How far a timestamp may be ahead of the gateway's clock. Default 600. A sample from the far"
        " future would hold the tenant's newest value for years.",
    )
    future_wait_seconds: int = Field(
        default=86_400,
        ge=0,
        description="A push of our own collector whose timestamps are at most so far beyond `future_seconds` is"
        " answered 429 until its time has come, not 400, so that a collector with a wrong clock loses nothing."
        " Default 86,400: every mistaken time zone. Further ahead: 400, the samples become dead letters there.",
    )
    age_days: int = Field(
        default=800,
        ge=1,
        description="How old a sample may be, in days. Default 800: a backfill of two years. Each day that is"
        " touched becomes a partition of the lake.",
    )
    concurrent_pushes: int = Field(
        default=4,
        ge=1,
        description="Pushes of one tenant that are read and decoded at once. Default 4. More wait, unread.",
    )
    requests_per_second: float = Field(
        default=200.0,
        gt=0,
        description="Requests a second of one tenant, of any kind, after a burst of two seconds' worth. Default"
        " 200: a fifth of a core at most. More are not refused but wait for their turn; who sends 100,000 samples a"
        " second in bodies of 2,000 needs 50.",
    )
    connections: int = Field(
        default=64,
        ge=1,
        description="Connections of one tenant that are open at once, its collectors together. Default 64; a"
        " collector keeps a few. Above it: 503, and the connection is closed.",
    )
    series_cache_bytes: int = Field(
        default=256 * _MIB,
        ge=0,
        description="Memory for what is known of a tenant's series, so that labels are checked once, not at each"
        " push: half for the series, half for the bodies that they came in. Default 256 MiB, about 150,000 series"
        " of ten labels; more series, or 0, cost several times the CPU.",
    )


class BodyLimits(Section):
    """What one body may hold, so that what it makes the gateway allocate is known before it is read."""

    body_bytes: int = Field(
        default=8 * _MIB,
        ge=1024,
        description="Bytes of a body as sent (compressed). Default 8 MiB. Above it: 413, unread.",
    )
    decompressed_bytes: int = Field(
        default=32 * _MIB,
        ge=1024,
        description="Bytes that a body may declare to be when decompressed. Default 32 MiB. Above it: 413, unread.",
    )
    series: int = Field(default=100_000, ge=1, description="Series in one body. Default 100,000. Above it: 413.")
    samples: int = Field(default=500_000, ge=1, description="Samples in one body. Default 500,000. Above it: 413.")
    read_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds in which a body must have arrived. Default 30. A slower one: 408, connection closed.",
    )

    def for_decoding(self) -> DecodeLimits:
        """The same for the decoder."""
        return DecodeLimits(
            max_decompressed_bytes=self.decompressed_bytes,
            max_series=self.series,
            max_samples=self.samples,
            max_symbols=max(1000, 5 * self.series),
            max_labels=max(1000, 10 * self.series),
        )


class GatewaySettings(Section):
    """The section `gateway` of the vendor's settings."""

    host: str = Field(default="127.0.0.1", description="Address to listen on. Default 127.0.0.1; 0.0.0.0 for all.")
    port: int = Field(
        default=8443, ge=0, le=65535, description="Port to listen on. Default 8443; 0 takes a free one and logs it."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve the port. Default 1: the gateway runs inside `byoc up`. More: each is a"
        " process of its own on a core of its own, with about 100 MB; they share each tenant's limits.",
    )
    host_names: tuple[str, ...] = Field(
        default=("localhost", "127.0.0.1"),
        min_length=1,
        description="DNS names and addresses in the gateway's own certificate. Default localhost, 127.0.0.1."
        " Collectors check the name that they were told to push to against it.",
    )
    handshake_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds for the TLS handshake, and again for the first request that names its sender. Default"
        " 10. A connection that takes longer is closed.",
    )
    keepalive_seconds: float = Field(
        default=300.0, gt=0, description="Seconds that an idle connection stays open. Default 300."
    )
    concurrent_pushes: int = Field(
        default=64,
        ge=1,
        description="Pushes of all tenants whose bodies are in memory at the same time. Default 64, at most 64"
        " times `body.body_bytes`. More wait, unread.",
    )
    concurrent_decodes: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Bodies that are decoded at the same time, in threads. Default 2. Bounds memory to this many"
        " decompressed bodies. Of two or more, one tenant never takes all.",
    )
    waiting_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that a push waits for its turn. Default 10. Then 503 with Retry-After, unread.",
    )
    append_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that an append to the log may take. Default 30. Then 503 with Retry-After: the outcome"
        " is unknown and the sender sends again.",
    )
    enrolments_per_minute: float = Field(
        default=30.0,
        gt=0,
        description="Enrolments tried from one address, and renewals of one collector, in a minute. Default 30."
        " Above it: 429.",
    )
    certificate_seconds: int = Field(
        default=86_400,
        ge=1,
        le=90 * 86_400,
        description="Seconds that a collector's certificate is good for. Default 86,400, a day; renewed at two"
        " thirds of it. Longer: a stolen one is good for longer, unless it is revoked.",
    )
    renewal_grace_days: int = Field(
        default=30,
        ge=0,
        le=MAX_RENEWAL_GRACE.days,
        description="Days after its end in which a certificate that was not revoked may still renew itself, and do"
        " nothing else. Default 30: a collector that was cut off for a month comes back without a new token. 0: a"
        " collector that misses its renewal must be enrolled again.",
    )
    body: BodyLimits = Field(default=BodyLimits(), description="Limits of one request's body.")
    tenant: TenantLimits = Field(default=TenantLimits(), description="Limits of one tenant; the same for each.")
