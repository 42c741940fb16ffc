"""`scrape_configs` and `global`, as Prometheus users know them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from collector.client.settings import HttpClientSettings
from collector.relabel import Action, RelabelRule
from collector.scrape.discovery_settings import HttpSdConfig, KubernetesSdConfig
from collector.spelling import Duration, Size
from kernel.settings import Section

LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class RelabelSettings(Section):
    """One relabelling rule."""

    source_labels: tuple[str, ...] = Field((), description="Labels whose values are joined; default none.")
    separator: str = Field(";", description="Between the joined values; default ';'.")
    target_label: str = Field("", description="The label that is set (replace, hashmod, lowercase, uppercase).")
    regex: Annotated[str, BeforeValidator(lambda value: value if value is not None else "")] = Field(
        "(.*)", description="RE2, matched against the whole of the joined value; default '(.*)'."
    )
    modulus: int = Field(0, ge=0, description="For hashmod: the number of buckets; no default.")
    replacement: str = Field("$1", description="What is written, with $1 for groups; default '$1'.")
    action: Annotated[Action, BeforeValidator(lambda value: str(value).lower())] = Field(
        Action.REPLACE, description="What the rule does; default replace."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanting_target = {
            Action.REPLACE, Action.HASHMOD, Action.LOWERCASE, Action.UPPERCASE, Action.KEEPEQUAL, Action.DROPEQUAL,
        }  # fmt: skip
        if self.action in wanting_target and not self.target_label:
            raise ValueError(f"action {self.action} needs a target_label")
        if self.action is Action.HASHMOD and self.modulus == 0:
            raise ValueError("action hashmod needs a modulus")
        self.rule()
        return self

    def rule(self) -> RelabelRule:
        """The rule to apply."""
        return RelabelRule(
            self.action, self.source_labels, self.separator, self.regex, self.modulus, self.target_label,
            self.replacement,
        )  # fmt: skip


class StaticConfig(Section):
    """Targets written out."""

    targets: tuple[str, ...] = Field((), max_length=100_000, description="host:port of each target; default none.")
    labels: dict[LabelName, str] = Field({}, description="Labels of all these targets; default none.")

    @field_validator("targets")
    @classmethod
    def _addresses(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            check_address(target)
        return targets


class FileSdConfig(Section):
    """Targets in files of YAML or JSON, read again when they change."""

    files: tuple[str, ...] = Field(min_length=1, description="Paths; the last part may hold *; no default.")
    refresh_interval: Duration = Field(
        30.0, gt=0, description="Seconds between looks at the files; default 30s. Longer: changes are seen later."
    )


class ScrapeProtocol(StrEnum):
    """A format of a page, as Prometheus names it."""

    PROTOBUF = "PrometheusProto"
    OPENMETRICS_1 = "OpenMetricsText1.0.0"
    OPENMETRICS_0 = "OpenMetricsText0.0.1"
    TEXT_1 = "PrometheusText1.0.0"
    TEXT_0 = "PrometheusText0.0.4"


class ScrapeConfig(HttpClientSettings):
    """One scrape job."""

    job_name: str = Field(min_length=1, description="Label `job` of its series; unique; no default.")
    scrape_interval: Duration | None = Field(
        None, gt=0, description="Seconds from scrape to scrape; default global's."
    )
    scrape_timeout: Duration | None = Field(
        None, gt=0, description="Seconds until a scrape fails; default global's."
    )
    metrics_path: str = Field("/metrics", description="Path of the page; default /metrics.")
    scheme: Literal["http", "https"] = Field("http", description="http or https; default http.")
    params: dict[str, tuple[str, ...]] = Field({}, description="Parameters of the URL; default none.")
    honor_labels: bool = Field(
        False, description="Keep a target's own label over ours (ours else wins); default false."
    )
    honor_timestamps: bool = Field(True, description="Use timestamps the target writes; default true.")
    sample_limit: int = Field(
        0,
        ge=0,
        description="Most series of a scrape that may leave; default 0: no limit. Over it series of the last scrape"
        " go on, new ones stay here, counted, with a warning and up 1. Prometheus fails the whole scrape.",
    )
    body_size_limit: Size = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Most bytes of a page, unpacked; over it the scrape fails; default 64MB.",
    )
    label_limit: int = Field(0, ge=0, description="Most labels of a series; over it the scrape fails; 0: no limit.")
    label_name_length_limit: int = Field(0, ge=0, description="Longest label name in bytes; 0: no limit.")
    label_value_length_limit: int = Field(0, ge=0, description="Longest label value in bytes; 0: no limit.")
    scrape_protocols: tuple[ScrapeProtocol, ...] | None = Field(
        None, min_length=1, description="Formats to ask for, the best first; default global's."
    )
    scrape_native_histograms: bool | None = Field(
        None, description="Ask for protobuf first and take native histograms; default global's."
    )
    always_scrape_classic_histograms: bool | None = Field(
        None,
        validation_alias=AliasChoices("always_scrape_classic_histograms", "scrape_classic_histograms"),
        description="Take classic buckets also of histograms that are native; default global's.",
    )
    static_configs: tuple[StaticConfig, ...] = Field((), description="Targets written out; default none.")
    file_sd_configs: tuple[FileSdConfig, ...] = Field((), description="Targets in files; default none.")
    http_sd_configs: tuple[HttpSdConfig, ...] = Field((), description="Targets that a server names; default none.")
    kubernetes_sd_configs: tuple[KubernetesSdConfig, ...] = Field(
        (), description="Targets that a Kubernetes API server knows; default none."
    )
    relabel_configs: tuple[RelabelSettings, ...] = Field((), description="Rules on targets before scraping.")
    metric_relabel_configs: tuple[RelabelSettings, ...] = Field((), description="Rules on series after scraping.")

    def anchored(self, folder: Path) -> Self:
        """The job with every path relative to `folder` made absolute."""
        files = tuple(
            one.model_copy(update={"files": tuple(str(folder / name) for name in one.files)})
            for one in self.file_sd_configs
        )
        updates: dict[str, object] = {
            "file_sd_configs": files,
            "http_sd_configs": tuple(one.anchored(folder) for one in self.http_sd_configs),
            "kubernetes_sd_configs": tuple(one.anchored(folder) for one in self.kubernetes_sd_configs),
        }
        return super().anchored(folder).model_copy(update=updates)

    def timing(self, defaults: GlobalSettings) -> tuple[float, float]:
        """Interval and timeout in seconds; a timeout that is only global's is cut to the interval."""
        interval = self.scrape_interval or defaults.scrape_interval
        timeout = self.scrape_timeout or min(defaults.scrape_timeout, interval)
        return interval, timeout


class GlobalSettings(Section):
    """Defaults of all jobs."""

    scrape_interval: Duration = Field(60.0, gt=0, description="Seconds from scrape to scrape; default 1m.")
    scrape_timeout: Duration = Field(10.0, gt=0, description="Seconds until a scrape fails; default 10s.")
    scrape_protocols: tuple[ScrapeProtocol, ...] | None = Field(
        None,
        min_length=1,
        description="Formats to ask for, the best first; default OpenMetricsText1.0.0 and PrometheusText0.0.4, with"
        " PrometheusProto before them when native histograms are asked for.",
    )
    scrape_native_histograms: bool = Field(
        False,
        description="Ask for protobuf first and take native histograms; default false: classic buckets alone.",
    )
    always_scrape_classic_histograms: bool = Field(
        False, description="Take classic buckets also of histograms that are native; default false."
    )
    external_labels: dict[LabelName, str] = Field(
        {}, description="Labels added to every series that has no such label; default none."
    )


def check_address(address: str) -> str:
    """`address` if it is host:port. Raises ValueError."""
    parts = urlsplit(f"//{address}")
    if not parts.hostname or "/" in address or "@" in address or "?" in address or "#" in address:
        raise ValueError(f"{address!r}: host:port is allowed, without scheme, path or user")
    _ = parts.port  # raises ValueError when it is no number
    return address
