"""Targets: what discovery found, relabelled into an address to scrape and the labels of its series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import urlencode

from collector.labels import Labels, make_labels
from collector.relabel import RelabelRule, relabel
from collector.scrape.settings import GlobalSettings, ScrapeConfig, check_address
from collector.spelling import parse_duration
from kernel.logs import logger

_log = logger("discovery")
MAX_DROPPED_KEPT = 1000  # of a job, for people to look at


@dataclass(frozen=True, slots=True)
class Discovered:
    """One address with its labels (`__meta_*` included), before relabelling."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One page to scrape. Two of one job with the same labels and URL are one target."""

    job_name: str
    url: str
    labels: Labels
    interval_seconds: float
    timeout_seconds: float

    def offset_seconds(self) -> float:
        """Where in its interval this target is scraped: spread by its name, the same after a restart."""
        digest = blake2b(f"{self.job_name}\0{self.url}\0{self.labels}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 * self.interval_seconds


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was discovered and is not scraped; `labels` as before relabelling."""

    labels: Mapping[str, str]
    reason: str


@dataclass(slots=True)
class Found:
    """What a job scrapes, each with its labels before relabelling, and what it leaves out, up to a bound."""

    targets: dict[Target, Mapping[str, str]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    dropped_count: int = 0

    def drop(self, labels: Mapping[str, str], reason: str) -> None:
        """Leave one out."""
        self.dropped_count += 1
        if len(self.dropped) < MAX_DROPPED_KEPT:
            self.dropped.append(Dropped(labels, reason))


def make_targets(job: ScrapeConfig, defaults: GlobalSettings, found: Iterable[Discovered]) -> list[Target]:
    """The targets that a job's `relabel_configs` leave, without doubles, as Prometheus' PopulateLabels."""
    return list(find_targets(job, defaults, found).targets)


def find_targets(job: ScrapeConfig, defaults: GlobalSettings, found: Iterable[Discovered]) -> Found:
    """The same with what was left out, and why."""
    rules = [one.rule() for one in job.relabel_configs]
    made = Found()
    for one in found:
        labels = discovered_labels(job, defaults, one)
        target = _make_target(job, labels, rules)
        if isinstance(target, str):
            made.drop(labels, target)
        elif target in made.targets:
            made.drop(labels, "the same target was found before")
        else:
            made.targets[target] = labels
    return made


def discovered_labels(job: ScrapeConfig, defaults: GlobalSettings, found: Discovered) -> dict[str, str]:
    """What relabelling begins with."""
    interval, timeout = job.timing(defaults)
    return {
        "job": job.job_name,
        "__scrape_interval__": f"{round(interval * 1000)}ms",
        "__scrape_timeout__": f"{round(timeout * 1000)}ms",
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
        **{f"__param_{name}": values[0] for name, values in job.params.items() if values},
        **found.labels,
        "__address__": found.address,
    }


def _make_target(job: ScrapeConfig, labels: dict[str, str], rules: list[RelabelRule]) -> Target | str:
    """The target; or why there is none."""
    changed = relabel(labels, rules)
    if changed is None:
        return "dropped by relabel_configs"
    if not changed.get("__address__"):
        return "no __address__ after relabel_configs"
    changed.setdefault("instance", changed["__address__"])
    try:
        return Target(
            job.job_name,
            _url(job, changed),
            make_labels({name: value for name, value in changed.items() if not name.startswith("__")}),
            parse_duration(changed["__scrape_interval__"]),
            parse_duration(changed["__scrape_timeout__"]),
        )
    except (ValueError, KeyError) as error:
        _log.warning("target_left_out", job=job.job_name, address=changed["__address__"], error=str(error))
        return str(error)


def _url(job: ScrapeConfig, labels: Mapping[str, str]) -> str:
    """Raises ValueError when relabelling made an address or scheme that is none."""
    address, scheme = check_address(labels["__address__"]), labels.get("__scheme__", "")
    if scheme not in ("http", "https"):
        raise ValueError(f"scheme {scheme!r}: http or https is allowed")
    params = {name: list(values) for name, values in job.params.items()}
    for name, value in labels.items():
        if name.startswith("__param_"):
            key = name.removeprefix("__param_")
            params[key] = [value, *params.get(key, [])[1:]]
    path = labels.get("__metrics_path__", "/")
    query = urlencode(sorted(params.items()), doseq=True)
    return f"{scheme}://{address}{path if path.startswith('/') else '/' + path}" + (f"?{query}" if query else "")
