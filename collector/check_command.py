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


async def check(settings: CollectorSettings, asked: Asked, clock: Clock) -> list[PageCheck]:
    """A check for each target. Nothing is stored, sent or made.

    Raises InvalidInput, PolicyRefused (a signed policy that does not hold), NotFound (no such job or target).
    """
    held = await asyncio.to_thread(lambda: load_policy(settings, keep=False))
    if held.problem is not None:
        raise PolicyRefused(held.problem)
    jobs = [job for job in settings.scrape_configs if asked.job in (None, job.job_name)]
    if not jobs:
        raise NotFound(f"no job {asked.job!r} in scrape_configs" if asked.job else "scrape_configs names no job")
    if asked.body is not None:
        return [_of_body(settings, jobs[0], held.policy, asked.body)]
    checked = [page for job in jobs for page in await _of_job(settings, job, held.policy, asked.target, clock)]
    if not checked:
        raise NotFound(
            "no target: " + (f"none has {asked.target!r} in its URL" if asked.target else "none was found")
        )
    return checked


def _of_body(settings: CollectorSettings, job: ScrapeConfig, policy: Explained, path: Path) -> PageCheck:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror or error, "a readable file") from error
    found = find_targets(job, settings.global_, [_first_target(job)])
    target = next(iter(found.targets), Target(job.job_name, str(path), (("job", job.job_name),), 1.0, 1.0))
    content_type = OPENMETRICS if body.rstrip().endswith(b"# EOF") else "text/plain"
    return _checked(settings, job, policy, target, Page(bytearray(body), content_type), str(path))


def _first_target(job: ScrapeConfig) -> Discovered:
    for config in job.static_configs:
        for address in config.targets:
            return Discovered(address, dict(config.labels))
    return Discovered("target.example:80", {})


async def _of_job(
    settings: CollectorSettings, job: ScrapeConfig, policy: Explained, wanted: str | None, clock: Clock
) -> list[PageCheck]:
    found = await _discover(settings, job, clock)
    fetcher = Fetcher(job)
    checked = []
    try:
        for target in found.targets:
            if wanted is not None and wanted not in target.url:
                continue
            shown = redacted(target.url)
            try:
                page = await fetcher.fetch(target)
            except ScrapeFailed as failure:
                checked.append(PageCheck(job.job_name, shown, error=redacted(str(failure))))
                continue
            checked.append(await asyncio.to_thread(_checked, settings, job, policy, target, page, shown))
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


def _checked(
    settings: CollectorSettings, job: ScrapeConfig, policy: Explained, target: Target, page: Page, shown: str
) -> PageCheck:
    rules = SeriesRules(
        target.labels,
        job.honor_labels,
        [one.rule() for one in job.metric_relabel_configs],
        make_labels(settings.global_.external_labels),
        policy,
        job.label_limit,
        job.label_name_length_limit,
        job.label_value_length_limit,
    )
    is_billing = BillingNames(settings.lanes.billing)
    checker = Checker(rules, policy, lambda name: LANE_NAMES[0 if is_billing(name) else 1], job.sample_limit)
    try:
        return checker.page(job.job_name, shown, raw_series(page))
    except ExpositionError as error:
        return PageCheck(job.job_name, shown, error=str(error))


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
