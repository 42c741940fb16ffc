"""What is scraped, as anyone may see it who reaches the health port: without passwords, tokens and queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.scrape.loop import TargetLoop
from collector.scrape.pool import JobPool
from collector.scrape.target import Dropped
from kernel.clock import from_ms
from kernel.errors import without_passwords

_QUERY = re.compile(r"(https?://[^\s'\"?#]*)[?#][^\s'\"]*")
_USER = re.compile(r"(https?://)[^\s/@'\"]+@")
HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target. `health`: up, down or unknown (not scraped yet)."""

    job: str
    url: str
    labels: Mapping[str, str]
    discovered: Mapping[str, str]
    health: str
    last_scrape_ms: int | None
    last_seconds: float
    samples: int
    error: str
    interval_seconds: float
    timeout_seconds: float

    def as_prometheus(self) -> dict[str, Any]:
        """As Prometheus' /api/v1/targets names it, and the samples beside."""
        scraped = from_ms(self.last_scrape_ms).isoformat() if self.last_scrape_ms else "0001-01-01T00:00:00Z"
        return {
            "discoveredLabels": dict(self.discovered),
            "labels": dict(self.labels),
            "scrapePool": self.job,
            "scrapeUrl": self.url,
            "globalUrl": self.url,
            "lastError": self.error,
            "lastScrape": scraped,
            "lastScrapeDuration": self.last_seconds,
            "lastSamples": self.samples,
            "health": self.health,
            "scrapeInterval": f"{self.interval_seconds:g}s",
            "scrapeTimeout": f"{self.timeout_seconds:g}s",
        }


@dataclass(frozen=True, slots=True)
class JobView:
    """One job."""

    name: str
    rows: tuple[TargetRow, ...]
    dropped: tuple[Dropped, ...]
    dropped_count: int
    problems: tuple[str, ...]


def view_jobs(pools: Iterable[JobPool]) -> list[JobView]:
    """By job, as configured."""
    return [_view(pool) for pool in pools]


def _view(pool: JobPool) -> JobView:
    rows = [_row(pool, loop) for loop, _ in list(pool.loops.values())]
    rows.sort(key=lambda row: (row.health != "down", row.url))
    dropped = tuple(Dropped(without_secrets(one.labels), redacted(one.reason)) for one in pool.found.dropped)
    problems = tuple(map(redacted, pool.problems()))
    return JobView(pool.job.job_name, tuple(rows), dropped, pool.found.dropped_count, problems)


def _row(pool: JobPool, loop: TargetLoop) -> TargetRow:
    target = loop.target
    health = "unknown" if loop.last_scrape_ms is None else "down" if loop.last_error else "up"
    return TargetRow(
        pool.job.job_name,
        redacted(target.url),
        dict(target.labels),
        without_secrets(pool.found.targets.get(target, {})),
        health,
        loop.last_scrape_ms,
        loop.last_seconds,
        loop.last_samples,
        redacted(loop.last_error or ""),
        target.interval_seconds,
        target.timeout_seconds,
    )


def without_secrets(labels: Mapping[str, str]) -> dict[str, str]:
    """Parameters of the URL may be tokens: shown by name alone."""
    return {name: HIDDEN if name.startswith("__param_") else value for name, value in sorted(labels.items())}


def redacted(text: str) -> str:
    """URLs without user, query and fragment."""
    return _QUERY.sub(r"\1?" + HIDDEN, _USER.sub(r"\1", without_passwords(text)))
