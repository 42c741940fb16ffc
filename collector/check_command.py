"""`byoc collector check`, wired: finds targets, scrapes each once (or reads a body), says what each rule did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.check import Checker, PageCheck, families
from collector.discovery.sources import TargetSources
from collector.errors import PolicyRefused, ScrapeFailed
from collector.exposition import ExpositionError, RawSeries, read_series
from collector.labels import make_labels
from collector.lanes import BillingNames
from collector.left_report import printable
from collector.policy import Explained
from collector.policy_keeper import load_policy
from collector.scrape.fetch import Fetcher, Page
from collector.scrape.series import SeriesRules
from collector.scrape.settings import ScrapeConfig
from collector.scrape.state import LANE_NAMES
from collector.scrape.target import Discovered, Found, Target, find_targets
from collector.settings import CollectorSettings
from collector.targets_view import redacted
from kernel.clock import Clock
from kernel.errors import InvalidInput, NotFound

FOLLOW_SECONDS = 10.0  # until servers of a discovery have answered
OPENMETRICS = "application/openmetrics-text"


@dataclass(frozen=True, slots=True)
class Asked:
    """What to check. `target`: part of a URL; `body`: a file instead of targets, as if `job` had scraped it."""

    job: str | None = None
    target: str | None = None
    body: Path | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A job and what holds for its pages."""

    settings: CollectorSettings
    config: ScrapeConfig
    policy: Explained
    clock: Clock


async def check(settings: CollectorSettings, asked: Asked, clock: Clock) -> list[PageCheck]:
    """A check for each target. Nothing is stored, sent or made.

    Raises InvalidInput, PolicyRefused (a signed policy that does not hold), NotFound (no such job or target).
    """
    held = await asyncio.to_thread(lambda: load_policy(settings, keep=False))
    if held.problem is not None:
        raise PolicyRefused(held.problem)
    configs = [one for one in settings.scrape_configs if asked.job in (None, one.job_name)]
    jobs = [_Job(settings, one, held.policy, clock) for one in configs]
    if not jobs:
        raise NotFound(f"no job {asked.job!r} in scrape_configs" if asked.job else "scrape_configs names no job")
    if asked.body is not None:
        return [_of_body(jobs[0], asked.body)]
    checked = [page for job in jobs for page in await _of_job(job, asked.target)]
    if not checked:
        raise NotFound(
            "no target: " + (f"none has {asked.target!r} in its URL" if asked.target else "none was found")
        )
    return checked


def _of_body(job: _Job, path: Path) -> PageCheck:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror or error, "a readable file") from error
    config = job.config
    found = find_targets(config, job.settings.global_, [_first_target(config)])
    target = next(iter(found.targets), Target(config.job_name, str(path), (("job", config.job_name),), 1.0, 1.0))
    content_type = OPENMETRICS if body.rstrip().endswith(b"# EOF") else "text/plain"
    return _checked(job, target, Page(bytearray(body), content_type), str(path))


def _first_target(job: ScrapeConfig) -> Discovered:
    for config in job.static_configs:
        for address in config.targets:
            return Discovered(address, dict(config.labels))
    return Discovered("target.example:80", {})


async def _of_job(job: _Job, wanted: str | None) -> list[PageCheck]:
    found = await _discover(job.settings, job.config, job.clock)
    fetcher = Fetcher(job.config)
    checked = []
    try:
        for target in found.targets:
            if wanted is not None and wanted not in target.url:
                continue
            shown = redacted(target.url)
            try:
                page = await fetcher.fetch(target)
            except ScrapeFailed as failure:
                checked.append(PageCheck(job.config.job_name, shown, error=redacted(str(failure))))
                continue
            checked.append(await asyncio.to_thread(_checked, job, target, page, shown))
    finally:
        await fetcher.close()
    return checked


async def _discover(settings: CollectorSettings, job: ScrapeConfig, clock: Clock) -> Found:
    sources = TargetSources(job, clock)
    until = clock.monotonic() + FOLLOW_SECONDS
    try:
        while True:
            found = find_targets(job, settings.global_, await sources.refresh())
            if found.targets or not sources.tasks or sources.problems() or clock.monotonic() > until:
                break
            await clock.sleep(0.2)
        if sources.problems():
            raise NotFound(f"job {job.job_name}: " + "; ".join(map(redacted, sources.problems())))
        return found
    finally:
        await sources.close()


def _checked(job: _Job, target: Target, page: Page, shown: str) -> PageCheck:
    config = job.config
    rules = SeriesRules(
        target.labels,
        config.honor_labels,
        [one.rule() for one in config.metric_relabel_configs],
        make_labels(job.settings.global_.external_labels),
        job.policy,
        config.label_limit,
        config.label_name_length_limit,
        config.label_value_length_limit,
    )
    is_billing = BillingNames(job.settings.lanes.billing)
    checker = Checker(
        rules,
        job.policy,
        lambda name: LANE_NAMES[0 if is_billing(name) else 1],
        config.sample_limit,
        job.clock.now_ms() if config.honor_timestamps else None,
    )
    try:
        return checker.page(config.job_name, shown, raw_series(page))
    except ExpositionError as error:
        return PageCheck(config.job_name, shown, error=str(error))


def raw_series(page: Page) -> list[RawSeries]:
    """The series of a page as the target wrote them, in its order. Raises ExpositionError."""
    return read_series(bytes(page.body), page.content_type)


def render(checked: Sequence[PageCheck], only: str | None, limit: int) -> Iterator[str]:
    """For a person. `only`: leaves or stays; `limit`: most series of a target."""
    for page in checked:
        yield f"{printable(page.target)} (job {printable(page.job)}): {_outcome(page)}"
        shown = [one for one in page.series if only is None or (only == "leaves") is (one.leaves_as is not None)]
        for one in shown[:limit]:
            yield f"  {printable(one.series)}"
            yield from (f"    {printable(step)}" for step in one.steps)
            if one.leaves_as is None:
                yield f"    stays: {printable(one.reason)}"
            else:
                yield f"    leaves as {printable(one.leaves_as)} ({one.lane})"
        if len(shown) > limit:
            yield f"  and {len(shown) - limit} more: --limit"
    yield "family\tseries\tleave\tstay because"
    for name, total, leaving, reasons in families(one for page in checked for one in page.series):
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        yield f"{printable(name)}\t{total}\t{leaving}\t{printable(why)}"


def _outcome(page: PageCheck) -> str:
    if page.error is not None:
        return f"the scrape FAILS: {printable(page.error)}"
    return f"{len(page.series)} series, {page.leaving} leave"


def any_failed(checked: Iterable[PageCheck]) -> bool:
    """Whether the scrape of any target would fail."""
    return any(page.error is not None for page in checked)
