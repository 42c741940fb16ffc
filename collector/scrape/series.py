"""What a target's state keeps of a series, and what is decided once when a series is first seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack

from collector.exposition.columns import MetricType, RawSeries
from collector.labels import METRIC_NAME, Labels, make_labels
from collector.policy import Policy
from collector.relabel import RelabelRule, relabel
from collector.wire.encode_rw2 import PreparedSeries, SymbolTable

STALE: float = unpack("<d", pack("<Q", 0x7FF0000000000002))[0]


class Series:
    """A series that may leave. `seen`: number of the last scrape it was in."""

    __slots__ = ("collided", "family", "labels", "listed", "origin", "prepared", "seen", "type")

    def __init__(self, labels: Labels, family: str, kind: MetricType, origin: int) -> None:
        self.labels = labels
        self.family = family
        self.type = kind
        self.origin = origin  # hash of the labels before the policy: another origin, same labels, is a collision
        self.seen = 0
        self.collided = False
        self.listed = False  # the ledger has its labels
        self.prepared: PreparedSeries | None = None

    def ready(self, table: SymbolTable) -> PreparedSeries:
        """Its bytes, prepared against this table."""
        if self.prepared is None:
            self.prepared = PreparedSeries(table, self.labels, self.type)
        return self.prepared


DROPPED = Series((), "", MetricType.UNKNOWN, 0)  # by metric_relabel_configs
DENIED = Series((), "", MetricType.UNKNOWN, 0)  # by the policy


class LimitExceeded(Exception):
    """label_limit or a length limit: the whole scrape fails, as in Prometheus."""


@dataclass(frozen=True, slots=True)
class SeriesRules:
    """All that decides about a new series, in the order of the fields."""

    target: Labels
    honor_labels: bool
    metric_relabel: Sequence[RelabelRule]
    external: Labels
    policy: Policy
    label_limit: int = 0
    name_bytes: int = 0
    value_bytes: int = 0

    def scraped(self, raw: RawSeries, known: dict[Labels, Series]) -> Series:
        """The series of a raw one: known already, new (and added to `known`), DROPPED or DENIED."""
        labels = {**raw.labels, METRIC_NAME: raw.name}
        self.check_limits(labels)
        self.add_target(labels)
        changed = relabel(labels, self.metric_relabel)
        if not changed or not changed.get(METRIC_NAME):
            return DROPPED
        return self._admit(changed, raw.family, raw.type, known)

    def reported(self, name: str, known: dict[Labels, Series]) -> Series:
        """A series about the scrape itself, such as `up`."""
        return self._admit({**dict(self.target), METRIC_NAME: name}, name, MetricType.GAUGE, known)

    def _admit(self, labels: dict[str, str], family: str, kind: MetricType, known: dict[Labels, Series]) -> Series:
        for name, value in self.external:
            labels.setdefault(name, value)
        origin = hash(make_labels(labels))
        allowed = self.policy.admit(family, labels)
        if allowed is None:
            return DENIED
        final = make_labels(allowed)
        series = known.get(final)
        if series is None:
            series = known[final] = Series(final, family, kind, origin)
        elif series.origin != origin:
            series.collided = True
        return series

    def add_target(self, labels: dict[str, str]) -> None:
        """Put the target's labels in, in place; one that is there already is kept or becomes `exported_`."""
        for name, value in self.target:
            own = labels.get(name)
            if self.honor_labels and own:
                continue
            if own:
                exported = f"exported_{name}"
                while labels.get(exported):
                    exported = f"exported_{exported}"
                labels[exported] = own
            labels[name] = value

    def check_limits(self, labels: dict[str, str]) -> None:
        """Raises LimitExceeded."""
        if self.label_limit and len(labels) > self.label_limit:
            raise LimitExceeded(f"{len(labels)} labels in a series; label_limit is {self.label_limit}")
        if not self.name_bytes and not self.value_bytes:
            return
        for name, value in labels.items():
            if self.name_bytes and len(name.encode()) > self.name_bytes:
                raise LimitExceeded(f"a label name longer than label_name_length_limit {self.name_bytes}")
            if self.value_bytes and len(value.encode()) > self.value_bytes:
                raise LimitExceeded(f"a label value longer than label_value_length_limit {self.value_bytes}")
