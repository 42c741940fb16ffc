"""What one target's series are from scrape to scrape: new, known, vanished. Pure: no clock, no I/O.

Each method makes a `Scrape`: the rows to send. The caller stores it and then calls `stored`; only what was stored
counts as sent when the next scrape asks what vanished.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.exposition import Columns, KeyCache, RawSeries, parse_exposition
from collector.labels import Labels
from collector.scrape.series import DENIED, DROPPED, STALE, Series, SeriesRules
from collector.wire.encode_rw2 import SymbolTable, encode_scrape

AUTO_METRICS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
MAX_AHEAD_MS = 600_000  # of a target's own timestamps over our clock; Prometheus' bound


@dataclass(slots=True)
class Scrape:
    """Rows of one scrape of one target, by column, and what becomes of the target's state once they are stored."""

    at_ms: int
    series: list[Series] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    present: dict[Series, None] = field(default_factory=dict)  # without explicit timestamps: these can go stale
    scraped: int = 0
    denied: int = 0  # samples the policy kept inside
    over_limit: int = 0
    duplicates: int = 0
    collided: int = 0  # samples whose labels the policy made equal to another's
    too_new: int = 0  # samples that the target dated far ahead of our clock
    added: int = 0
    relabelled: int = 0

    def add(self, series: Series, value: float, timestamp_ms: int) -> None:
        self.series.append(series)
        self.values.append(value)
        self.timestamps_ms.append(timestamp_ms)


class TargetState:
    """The series of one target."""

    def __init__(self, rules: SeriesRules, *, honor_timestamps: bool, sample_limit: int) -> None:
        self._rules = rules
        self._honor_timestamps = honor_timestamps
        self._limit = sample_limit
        self._known: dict[Labels, Series] = {}
        self._policy = rules.policy.version
        self._cache: KeyCache[Series] = KeyCache(self._admit)
        self._auto = [rules.reported(name, self._known) for name in AUTO_METRICS]
        self._present: dict[Series, None] = {}
        self._auto_sent = False
        self._scrapes = 0
        self._table = SymbolTable()

    def _follow_policy(self) -> None:
        """Under another policy every series is decided anew; one that may leave no more ends."""
        version = self._rules.policy.version  # before any decision, so that a change meanwhile is seen next time
        if version == self._policy:
            return
        self._policy = version
        self._cache.entries = {}
        for series in self._known.values():
            series.collided = False
        old, self._auto = self._auto, [self._rules.reported(name, self._known) for name in AUTO_METRICS]
        if self._auto_sent:
            self._present |= dict.fromkeys(one for one in old if one is not DENIED and one not in self._auto)

    def _admit(self, raw: RawSeries) -> Series:
        return self._rules.scraped(raw, self._known)

    def scraped(self, body: bytes, content_type: str, at_ms: int, seconds: float) -> Scrape:
        """The rows of a body. Raises ExpositionError, LimitExceeded; then call `failed`."""
        self._follow_policy()
        columns = parse_exposition(body, content_type, self._cache)
        self._scrapes += 1
        scrape = Scrape(at_ms, scraped=len(columns.values))
        self._take_rows(scrape, columns)
        self._count_added(scrape)
        self._add_stale(scrape)
        self._add_auto(scrape, (1.0, seconds, scrape.scraped, scrape.relabelled, scrape.added))
        return scrape

    def failed(self, at_ms: int, seconds: float) -> Scrape:
        """The target did not answer: every series ends, `up` is 0."""
        self._follow_policy()
        self._scrapes += 1
        scrape = Scrape(at_ms)
        self._add_stale(scrape)
        self._add_auto(scrape, (0.0, seconds, 0, 0, 0))
        return scrape

    def ended(self, at_ms: int) -> Scrape:
        """The target is gone, or the collector stops: every series ends, `up` too."""
        self._follow_policy()
        self._scrapes += 1
        scrape = Scrape(at_ms)
        self._add_stale(scrape)
        if self._auto_sent:
            self._add_auto(scrape, (STALE,) * len(AUTO_METRICS))
        return scrape

    def stored(self, scrape: Scrape) -> None:
        """The rows are safe in the spool."""
        self._present = scrape.present
        self._auto_sent = True
        for series in scrape.series:
            series.listed = True
        if scrape.scraped:
            self._forget_vanished(scrape)

    def encode(self, scrape: Scrape) -> bytes:
        """The rows as a remote write 2.0 body, not compressed."""
        table = self._table
        prepared = [one.prepared or one.ready(table) for one in scrape.series]
        return encode_scrape(table, prepared, scrape.values, scrape.timestamps_ms)

    def _take_rows(self, scrape: Scrape, columns: Columns[Series]) -> None:
        newcomers: list[tuple[Series, float]] = []
        number, at_ms, limit, present = self._scrapes, scrape.at_ms, self._limit, scrape.present
        explicit = columns.timestamps if self._honor_timestamps else {}
        for row, (series, value) in enumerate(zip(columns.entries, columns.values, strict=True)):
            if series is DROPPED or series is DENIED:
                scrape.denied += series is DENIED
                scrape.relabelled += series is DENIED
                continue
            scrape.relabelled += 1
            if explicit and row in explicit:
                if explicit[row] > at_ms + MAX_AHEAD_MS:
                    scrape.too_new += 1
                elif series.collided:
                    scrape.collided += 1
                else:
                    scrape.add(series, value, explicit[row])
            elif series.seen == number:
                scrape.duplicates += 1
            else:
                series.seen = number
                if limit and series not in self._present:
                    newcomers.append((series, value))
                    continue
                present[series] = None
                scrape.add(series, value, at_ms)
        self._take_newcomers(scrape, newcomers)
        self._leave_out_collided(scrape)

    def _take_newcomers(self, scrape: Scrape, newcomers: list[tuple[Series, float]]) -> None:
        room = max(0, self._limit - len(scrape.series))
        for series, value in newcomers[:room]:
            scrape.present[series] = None
            scrape.add(series, value, scrape.at_ms)
        scrape.over_limit = max(0, len(newcomers) - room)

    @staticmethod
    def _leave_out_collided(scrape: Scrape) -> None:
        collided = {series for series in scrape.present if series.collided}
        if not collided:
            return
        rows = zip(scrape.series, scrape.values, scrape.timestamps_ms, strict=True)
        kept = [row for row in rows if row[0] not in collided]
        scrape.collided += len(scrape.series) - len(kept)
        scrape.series = [row[0] for row in kept]
        scrape.values = [row[1] for row in kept]
        scrape.timestamps_ms = [row[2] for row in kept]
        for series in collided:
            del scrape.present[series]

    def _count_added(self, scrape: Scrape) -> None:
        scrape.added = len(scrape.present.keys() - self._present.keys())

    def _add_stale(self, scrape: Scrape) -> None:
        for series in self._present:
            if series not in scrape.present:
                scrape.add(series, STALE, scrape.at_ms)

    def _add_auto(self, scrape: Scrape, values: tuple[float, ...]) -> None:
        for series, value in zip(self._auto, values, strict=True):
            if series is not DENIED and series not in scrape.present:
                scrape.add(series, float(value), scrape.at_ms)

    def _forget_vanished(self, scrape: Scrape) -> None:
        """Bound the caches by what is there, not by all that ever was."""
        cache = self._cache.entries
        if len(cache) <= 2 * scrape.scraped + 1000 and len(self._known) <= 2 * len(scrape.present) + 1000:
            return
        number = self._scrapes
        self._cache.entries = {key: one for key, one in cache.items() if one.seen == number}
        kept = {*self._cache.entries.values(), *scrape.present, *self._auto} - {DENIED, DROPPED}
        self._known = {one.labels: one for one in kept}
        self._table = SymbolTable()
        for series in (*kept, *scrape.series):
            series.prepared = None
