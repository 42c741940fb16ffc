"""The witness: stands at the targets, keeps every body as it was scraped, and later asks the lake for each value.

It shares nothing with the product but the network: bodies are decoded by prometheus-client's parser, the allow-list
is applied by a regular expression of its own, and rows are compared one by one, raw, before any deduplication.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from kernel.clock import Clock

SCRAPE_SERIES = frozenset(
    {
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    }
)
_NAME = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*", re.MULTILINE)
_TAKEN_IN_SECONDS = 2.0  # after which a scraper has parsed and spooled the last body it was handed
Labels = tuple[tuple[str, str], ...]
Row = tuple[Labels, int, float]  # labels with __name__, timestamp ms, value


@dataclass(frozen=True, slots=True)
class Scrape:
    """One body as it was handed to the scraper."""

    instance: str
    served_ms: int  # the scrape began before
    body: str


@dataclass(slots=True)
class Verdict:
    """What the comparison found, in samples; `failed_scrapes` are bodies served that the collector says it lost."""

    scraped: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    unexplained: int = 0  # rows of a witnessed target that no body accounts for
    failed_scrapes: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep the first few."""
        if len(self.examples) < 10:
            self.examples.append(text)


class Witness:
    """An HTTP server that fetches `?target=host:port` for the scraper, and remembers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._is_hushed = False
        self._under_way = 0
        self.scrapes: list[Scrape] = []

    async def start(self) -> str:
        """Listen on a free loopback port; returns host:port for relabelling `__address__`."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        app = web.Application()
        app.add_routes([web.get("/metrics", self._serve)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop. The bodies stay."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    async def hush(self) -> None:
        """Hand out no more bodies, and wait until the last is taken in: a scraper that is stopped gives up a scrape
        under way, whose body was served but never scraped."""
        self._is_hushed = True
        while self._under_way:
            await self._clock.sleep(0.05)
        await self._clock.sleep(_TAKEN_IN_SECONDS)

    async def _serve(self, request: web.Request) -> web.Response:
        if self._is_hushed:
            return web.Response(status=503, text="no more bodies\n")
        self._under_way += 1
        try:
            return await self._fetch(request)
        finally:
            self._under_way -= 1

    async def _fetch(self, request: web.Request) -> web.Response:
        assert self._session is not None
        instance = request.query.get("target", "")
        served_ms = self._clock.now_ms()
        if not re.fullmatch(r"127\.0\.0\.1:\d{1,5}", instance):
            return web.Response(status=400, text="target must be a loopback address\n")
        try:
            async with self._session.get(f"http://{instance}/metrics") as answer:
                body = await answer.text()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=502, text="target did not answer\n")
        if status == 200:
            self.scrapes.append(Scrape(instance, served_ms, body))
        return web.Response(status=status, text=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def compare(
    scrapes: Iterable[Scrape], rows: Iterable[Row], *, allowed: re.Pattern[str], attached: Callable[[str], Set[str]]
) -> Verdict:
    """Hold every allowed sample of every body against the raw rows of the lake.

    `attached` names, for an instance, the labels that scraping and shipping add: they are taken off its rows before
    comparing. A body whose scrape the collector reports as failed (`up` 0 at its time) was not scraped.
    """
    by_instance, up, scrape_times = _index(rows, attached)
    verdict = Verdict()
    for instance, bodies in _grouped(scrapes).items():
        times = scrape_times.get(instance, [])
        for body, timestamp_ms in zip(bodies, _match(bodies, times), strict=True):
            if timestamp_ms is not None and up.get((instance, timestamp_ms)) == 0.0:
                verdict.failed_scrapes += 1
                continue
            for labels, value in _samples(body.body, allowed):
                _check(verdict, by_instance[instance], labels, timestamp_ms, value)
        _count_unexplained(verdict, by_instance[instance])
    return verdict


def _count_unexplained(verdict: Verdict, rows: dict[tuple[Labels, int], Counter[bytes]]) -> None:
    """What is left after every body took its rows out: nothing but stale markers and the scrape's own series."""
    for (labels, at), values in rows.items():
        name = dict(labels).get("__name__", "")
        if name not in SCRAPE_SERIES and (extra := sum(count for bits, count in values.items() if bits != b"nan")):
            verdict.unexplained += extra
            verdict.note(f"no body has it: {name} at {at}")


def _check(
    verdict: Verdict, rows: dict[tuple[Labels, int], Counter[bytes]], labels: Labels, at: int | None, value: float
) -> None:
    verdict.scraped += 1
    found = rows.pop((labels, at), None) if at is not None else None
    name = dict(labels).get("__name__", "")
    if not found:
        verdict.lost += 1
        verdict.note(f"lost: {name} at {at}")
        return
    verdict.stored += 1
    copies = found.total()
    if copies > 1:
        verdict.duplicated += copies - 1
        verdict.note(f"{copies} rows: {name} at {at}")
    if _bits(value) not in found:
        verdict.different += 1
        verdict.note(f"another value: {name} at {at}")


def _index(
    rows: Iterable[Row], attached: Callable[[str], Set[str]]
) -> tuple[dict[str, dict[tuple[Labels, int], Counter[bytes]]], dict[tuple[str, int], float], dict[str, list[int]]]:
    """Rows by instance; `up` by instance and time; the times of the scrapes of each instance."""
    by_instance: dict[str, dict[tuple[Labels, int], Counter[bytes]]] = defaultdict(lambda: defaultdict(Counter))
    up: dict[tuple[str, int], float] = {}
    for labels, timestamp_ms, value in rows:
        named = dict(labels)
        instance = named.get("instance", "")
        if named.get("__name__") == "up":
            up[instance, timestamp_ms] = value
        taken_off = attached(instance)
        own = tuple(label for label in labels if label[0] not in taken_off)
        by_instance[instance][own, timestamp_ms][_bits(value)] += 1
    times: dict[str, list[int]] = defaultdict(list)
    for instance, timestamp_ms in sorted(up):
        times[instance].append(timestamp_ms)
    return by_instance, up, times


def _grouped(scrapes: Iterable[Scrape]) -> dict[str, list[Scrape]]:
    grouped: dict[str, list[Scrape]] = defaultdict(list)
    for scrape in sorted(scrapes, key=lambda scrape: scrape.served_ms):
        grouped[scrape.instance].append(scrape)
    return grouped


def _match(bodies: Sequence[Scrape], times: Sequence[int]) -> list[int | None]:
    """The scrape time of each body: the last one at or before it was served, and after the body before it."""
    matched: list[int | None] = []
    previous_ms = -1
    for body in bodies:
        index = bisect_right(times, body.served_ms)
        candidate = times[index - 1] if index else None
        matched.append(candidate if candidate is not None and candidate > previous_ms else None)
        previous_ms = body.served_ms
    return matched


def _samples(body: str, allowed: re.Pattern[str]) -> Iterable[tuple[Labels, float]]:
    written = set(_NAME.findall(body))
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            name = sample.name
            if name not in written:  # the parser puts _total on counters that lack it
                name = name.removesuffix("_total")
            if allowed.fullmatch(name):
                labels = {label: text for label, text in sample.labels.items() if text}
                yield tuple(sorted({**labels, "__name__": name}.items())), float(sample.value)


def _bits(value: float) -> bytes:
    # Ordinary NaNs are one value whatever their payload; the wire normalises them.
    return b"nan" if value != value else struct.pack("<d", value)  # noqa: PLR0124
