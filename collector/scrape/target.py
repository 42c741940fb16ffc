"""Targets: what discovery found, relabelled into an address to scrape and the labels of its series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from urllib.parse import urlencode

from collector.labels import Labels, make_labels
from collector.relabel import RelabelRule, relabel
from collector.scrape.settings import GlobalSettings, ScrapeConfig, check_address
from collector.spelling import parse_duration
from kernel.logs import logger

_log = logger("discovery")


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


def make_targets(job: ScrapeConfig, defaults: GlobalSettings, found: Iterable[Discovered]) -> list[Target]:
    """The targets that a job's `relabel_configs` leave, without doubles, as Prometheus' PopulateLabels."""
    rules = [one.rule() for one in job.relabel_configs]
    targets: dict[Target, None] = {}
    for one in found:
        target = _make_target(job, defaults, one, rules)
        if target is not None:
            targets[target] = None
    return list(targets)


def _make_target(
    job: ScrapeConfig, defaults: GlobalSettings, found: Discovered, rules: list[RelabelRule]
) -> Target | None:
    interval, timeout = job.timing(defaults)
    labels = {
        "job": job.job_name,
        "__scrape_interval__": f"{round(interval * 1000)}ms",
        "__scrape_timeout__": f"{round(timeout * 1000)}ms",
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
        **{f"__param_{name}": values[0] for name, values in job.params.items() if values},
        **found.labels,
        "__address__": found.address,
    }
    changed = relabel(labels, rules)
    if changed is None or not changed.get("__address__"):
        return None
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
        return None


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
