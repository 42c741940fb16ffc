"""`collector.yaml`: everything that runs in the customer's VPC is set here."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from collector.client.settings import check_proxy_url
from collector.client.tls import check_tls_files
from collector.exposition import ReaderChoice
from collector.lanes import LaneSettings
from collector.policy_settings import PolicyFileSettings, PolicySettings, PseudonymSettings
from collector.remote_write.settings import RemoteWriteSettings, check_receivers
from collector.scrape.settings import GlobalSettings, ScrapeConfig
from collector.spelling import Duration, Size
from kernel.settings import Section, Settings, anchored, load_settings


class ProxySettings(Section):
    """The way out, if there is no direct one."""

    url: str | None = Field(
        None, description="HTTP proxy for the way to the gateway (CONNECT); default HTTPS_PROXY and NO_PROXY."
    )
    username: str | None = Field(None, description="User at the proxy; default none.")
    password: SecretStr | None = Field(None, description="Password at the proxy; default none. Never printed.")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if urlsplit(url).username is not None:
            raise ValueError("http://host[:port] is allowed; user and password are `username` and `password`")
        return check_proxy_url(url)


class GatewaySettings(Section):
    """Where pushes go, and who we are there."""

    url: str = Field(description="https://host[:port] of the gateway, without path; no default.")
    ca_file: Path | None = Field(
        None, description="PEM of the gateway's authority, for enrolment; default the machine's trust."
    )
    token_file: Path | None = Field(
        None, description="File with the single-use enrolment token; needed until there is a certificate."
    )
    identity: Path = Field(
        Path("identity"),
        description="Folder of key and certificate, mode 0700; default ./identity beside this file.",
    )
    proxy: ProxySettings = Field(ProxySettings(), description="Proxy on the way to the gateway.")
    timeout: Duration = Field(30.0, gt=0, description="Seconds until a push counts as failed; default 30s.")
    min_backoff: Duration = Field(0.5, gt=0, description="Seconds before the first retry; default 500ms.")
    max_backoff: Duration = Field(60.0, gt=0, description="Most seconds between retries; default 1m.")

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        parts = urlsplit(url)
        if (
            parts.scheme != "https"
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or parts.username
        ):
            raise ValueError("https://host[:port] is allowed, without path, query or user")
        _ = parts.port
        return url.rstrip("/")


class SpoolSettings(Section):
    """The disk between scrape and push."""

    folder: Path = Field(Path("spool"), description="Folder of the spool; default ./spool beside this file.")
    billing_quota: Size = Field(
        4 * 1024**3,
        ge=16 * 1024**2,
        description="Most bytes of unsent billing frames; over it the oldest go, each gap recorded; default 4GB.",
    )
    history_quota: Size = Field(
        1024**3,
        ge=16 * 1024**2,
        description="Most bytes of unsent history frames; over it a backfill waits; default 1GB.",
    )
    bulk_quota: Size = Field(
        2 * 1024**3,
        ge=16 * 1024**2,
        description="Most bytes of unsent bulk frames; over it the oldest go, each gap recorded; default 2GB.",
    )
    bulk_max_age: Duration = Field(
        7 * 86_400.0,
        ge=0,
        description="Unsent bulk frames older than this go, each gap recorded; 0 for no bound; default 7d.",
    )
    segment: Size = Field(
        16 * 1024**2,
        ge=64 * 1024,
        description="Bytes of a segment file; each begins with a whole dictionary; default 16MB.",
    )
    segment_age: Duration = Field(3600.0, gt=0, description="Age at which a segment file ends; default 1h.")
    linger: Duration = Field(
        0.05, ge=0, le=5, description="How long a small scrape waits for others to share its push; default 50ms."
    )
    keep: Duration = Field(
        400 * 86_400.0,
        ge=0,
        description="How long billing frames, those of backfills and all receipts are kept, to prove what was"
        " billed; default 400d."
        " 1,000 series that change at every scrape take 10 MB a day.",
    )
    keep_bytes: Size = Field(
        16 * 1024**3,
        ge=0,
        description="Most bytes of kept billing frames, and again of backfills; over it the oldest go, which is"
        " recorded; default 16GB.",
    )
    fresh_after: Duration = Field(
        30.0,
        ge=0,
        description="Older frames become a backlog, sent beside the fresh ones; 0: all in order; default 30s.",
    )
    backlog_rate: Size = Field(
        8 * 1024**2, ge=0, description="Most bytes a second of a backlog; 0 for no bound; default 8MB."
    )
    dead_letters: Size = Field(
        64 * 1024**2,
        ge=0,
        description="Most bytes of the dead-letter file; over it rejected samples are only counted; default 64MB.",
    )


class ReloadSettings(Section):
    """Reading the settings and the files they name again, without a restart; SIGHUP does it at once."""

    interval: Duration = Field(
        5.0,
        ge=0,
        description="Seconds between looks at the files' content; default 5s. 0: only on SIGHUP.",
    )


class LeftSettings(Section):
    """The ledger of what left."""

    minutes_kept: Duration = Field(
        2 * 86_400.0, ge=3600, description="Seconds that entries are kept as written; then by hour; default 2d."
    )
    hours_kept: Duration = Field(
        35 * 86_400.0, ge=86_400, description="Seconds that hours are kept; then days are; default 35d."
    )
    days_kept: Duration = Field(
        800 * 86_400.0, ge=86_400, description="Seconds that days are kept; then only totals are; default 800d."
    )

    max_series: int = Field(
        200_000, ge=0, description="Most series listed one by one; over it they are only counted; default 200000."
    )


class HealthSettings(Section):
    """The collector's own endpoints: /healthz, /readyz, /metrics, /targets."""

    host: str = Field("127.0.0.1", description="Address to listen on; default 127.0.0.1.")
    port: int = Field(9464, ge=0, le=65535, description="Port to listen on, 0 for a free one; default 9464.")


class CollectorSettings(Settings):
    """The whole of collector.yaml. Environment: BYOC_COLLECTOR_GATEWAY__URL is gateway.url."""

    model_config = ConfigDict(populate_by_name=True)
    env_prefix: ClassVar[str] = "BYOC_COLLECTOR_"

    global_: GlobalSettings = Field(GlobalSettings(), alias="global", description="Defaults of all jobs.")
    scrape_configs: tuple[ScrapeConfig, ...] = Field((), description="The scrape jobs; default none.")
    policy: PolicySettings = Field(
        PolicySettings(), description="What may leave; the default is a short allow-list."
    )
    policy_file: PolicyFileSettings = Field(
        PolicyFileSettings(), description="The policy as a file of its own, instead of the section `policy`."
    )
    pseudonyms: PseudonymSettings = Field(PseudonymSettings(), description="The key behind the pseudonyms.")
    lanes: LaneSettings = Field(LaneSettings(), description="Which series travel in the lane of what is billed.")
    gateway: GatewaySettings = Field(description="Where pushes go.")
    spool: SpoolSettings = Field(SpoolSettings(), description="The disk between scrape and push.")
    remote_write: tuple[RemoteWriteSettings, ...] = Field(
        (), description="Receivers of your own that get what leaves too; default none."
    )
    left: LeftSettings = Field(LeftSettings(), description="The ledger of what left.")
    health: HealthSettings = Field(HealthSettings(), description="The collector's own endpoints.")
    reader: ReaderChoice = Field(
        ReaderChoice.AUTO,
        description="How pages are read: native (compiled; no start where it was not built), pure (pyarrow: slower,"
        " and 30 MB more), or auto: native where it was built; default auto.",
    )
    reload: ReloadSettings = Field(ReloadSettings(), description="Changes without a restart.")

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.policy_file.path is not None and self.policy != PolicySettings():
            raise ValueError("policy and policy_file.path are both set: one of them is allowed")
        return self

    @model_validator(mode="after")
    def _check_jobs(self) -> Self:
        names = [job.job_name for job in self.scrape_configs]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"job_name is there twice: {', '.join(doubled)}")
        check_receivers(self.remote_write)
        for job in self.scrape_configs:
            interval, timeout = job.timing(self.global_)
            if timeout > interval:
                raise ValueError(f"job {job.job_name}: scrape_timeout is longer than scrape_interval")
        return self


def load_collector_settings(path: Path) -> CollectorSettings:
    """The settings of a file; relative paths are relative to the file. Raises InvalidInput."""
    settings = load_settings(CollectorSettings, path)
    folder = path.absolute().parent
    gateway = settings.gateway.model_copy(
        update={
            "identity": folder / settings.gateway.identity,
            "ca_file": settings.gateway.ca_file and folder / settings.gateway.ca_file,
            "token_file": settings.gateway.token_file and folder / settings.gateway.token_file,
        }
    )
    spool = settings.spool.model_copy(update={"folder": folder / settings.spool.folder})
    jobs = tuple(_anchored(job, folder) for job in settings.scrape_configs)
    receivers = tuple(one.anchored(folder) for one in settings.remote_write)
    for one in receivers:
        check_tls_files(one.tls_config, f"remote_write {one.folder_name}")
    return settings.model_copy(
        update={
            "gateway": gateway,
            "spool": spool,
            "scrape_configs": jobs,
            "remote_write": receivers,
            "policy_file": anchored(settings.policy_file, folder),
            "pseudonyms": anchored(settings.pseudonyms, folder),
        }
    )


def _anchored(job: ScrapeConfig, folder: Path) -> ScrapeConfig:
    """The job with every path made absolute. Raises InvalidInput when a file of TLS is not good."""
    job = job.anchored(folder)
    check_tls_files(job.tls_config, job.job_name)
    for one in (*job.http_sd_configs, *job.kubernetes_sd_configs):
        check_tls_files(one.tls_config, job.job_name)
    return job
