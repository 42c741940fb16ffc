"""What is decided once when a series is first seen: its labels, its lane, whether it may leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from operator import itemgetter
from struct import pack, unpack

from collector.exposition import MetricType, RawSeries
from collector.labels import METRIC_NAME, Labels, render_labels
from collector.policy import Policy
from collector.relabel import RelabelRule, relabel
from collector.wire.frames import MAX_ENTRY_BYTES

STALE: float = unpack("<d", pack("<Q", 0x7FF0000000000002))[0]
TYPE_BYTES = {
    MetricType.UNKNOWN: b"\0",
    MetricType.COUNTER: b"\1",
    MetricType.GAUGE: b"\2",
    MetricType.HISTOGRAM: b"\3",
    MetricType.GAUGEHISTOGRAM: b"\4",
    MetricType.SUMMARY: b"\5",
    MetricType.INFO: b"\6",
    MetricType.STATESET: b"\7",
}  # io.prometheus.write.v2.Metadata.MetricType
_NAME = METRIC_NAME.encode()
_MOST_FORMS = 1_000
_SHOWN: dict[tuple[bytes, ...], tuple[Callable[[list[bytes]], object], bytes]] = {}  # by names, as met
_FORMS: dict[tuple[str, ...], tuple[tuple[str, ...], bytes]] = {}  # by label names, as met


class Outcome(Enum):
    """Why a series does not leave."""

    DROPPED = "dropped"  # by metric_relabel_configs
    DENIED = "denied"  # by the policy
    TOO_LONG = "too_long"  # its labels do not fit into a frame


@dataclass(frozen=True, slots=True)
class Admitted:
    """A series that may leave. `entry`: its type and canonical labels, as frames carry them."""

    entry: bytes
    family: str
    origin: int  # hash of the labels before the policy: another origin, same labels, is a collision
    is_billing: bool
    is_veiled: bool = False  # a label leaves as a pseudonym


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
    is_billing: Callable[[str], bool] = lambda name: True

    def scraped(self, raw: RawSeries) -> Admitted | Outcome:
        """What becomes of a series of the target. Its limits are looked at before, by `check_limits`."""
        labels = self.relabelled({**raw.labels, METRIC_NAME: raw.name})
        return Outcome.DROPPED if labels is None else self._admit(labels, raw.family, raw.type)

    def reported(self, name: str) -> Admitted | Outcome:
        """What becomes of a series about the scrape itself, such as `up`."""
        labels = {**dict(self.target), METRIC_NAME: name}
        self._add_external(labels)
        return self._admit(labels, name, MetricType.GAUGE)

    def relabelled(self, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that the policy is asked about; None: dropped. `labels`, as scraped, is changed."""
        self.add_target(labels)
        changed = relabel(labels, self.metric_relabel)
        if not changed or not changed.get(METRIC_NAME):
            return None
        self._add_external(changed)
        return changed

    def looked_at(self) -> frozenset[str] | None:
        """Names of the labels whose values decide anything; None: values move between names, so any may."""
        if any(rule.moves_values for rule in self.metric_relabel):
            return None
        return self.policy.looked_at.union(*(rule.looks_at for rule in self.metric_relabel))

    def now(self) -> SeriesRules:
        """These rules with the policy that holds now, and goes on to hold in them."""
        return replace(self, policy=self.policy.now)

    def _add_external(self, labels: dict[str, str]) -> None:
        for name, value in self.external:
            labels.setdefault(name, value)

    def _admit(self, labels: dict[str, str], family: str, kind: MetricType) -> Admitted | Outcome:
        origin = hash(_canonical(labels))
        allowed = self.policy.admit(family, labels)
        if allowed is None:
            return Outcome.DENIED
        entry = TYPE_BYTES[kind] + _canonical(allowed)
        if len(entry) > MAX_ENTRY_BYTES:
            return Outcome.TOO_LONG
        is_veiled = any(labels.get(name) != value for name, value in allowed.items())
        return Admitted(entry, family, origin, self.is_billing(allowed.get(METRIC_NAME, "")), is_veiled)

    def add_target(self, labels: dict[str, str]) -> None:
        """Put the target's labels in; those of its own that have the same name are renamed, or honoured."""
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

    @property
    def has_limits(self) -> bool:
        return bool(self.label_limit or self.name_bytes or self.value_bytes)

    def check_limits(self, labels: Mapping[str, str]) -> None:
        """Of a series as the target wrote it, with its name. Raises LimitExceeded."""
        if self.label_limit and len(labels) > self.label_limit:
            raise LimitExceeded(f"{len(labels)} labels in a series; label_limit is {self.label_limit}")
        if not self.name_bytes and not self.value_bytes:
            return
        for name, value in labels.items():
            if self.name_bytes and len(name.encode()) > self.name_bytes:
                raise LimitExceeded(f"a label name longer than label_name_length_limit {self.name_bytes}")
            if self.value_bytes and len(value.encode()) > self.value_bytes:
                raise LimitExceeded(f"a label value longer than label_value_length_limit {self.value_bytes}")


def _canonical(labels: Mapping[str, str]) -> bytes:
    names = tuple(labels)
    order, form = _FORMS.get(names) or _form(names)
    values = [labels[name] for name in order]
    if all(values):
        return form % tuple([value.encode() for value in values])
    return _canonical({name: value for name, value in labels.items() if value})


def _form(names: tuple[str, ...]) -> tuple[tuple[str, ...], bytes]:
    """Of labels with these names: the names in order, and what the values are put into."""
    if len(_FORMS) >= _MOST_FORMS:
        _FORMS.clear()
    order = tuple(sorted(names))
    form = b"".join(name.encode().replace(b"%", b"%%") + b"\xff%b\xff" for name in order)
    _FORMS[names] = order, form or b"\xff"
    return _FORMS[names]


def labels_of(entry: bytes) -> Labels:
    """The labels of an entry."""
    parts = entry[1:].split(b"\xff")
    return tuple((name.decode(), value.decode()) for name, value in zip(parts[:-1:2], parts[1::2], strict=True))


def shown(entries: Sequence[bytes]) -> list[str]:
    """As Prometheus prints each series."""
    joined = b"".join(entries)
    if b'"' in joined or b"\\" in joined or b"\n" in joined:
        return [render_labels(labels_of(entry)) for entry in entries]
    texts = []
    for entry in entries:
        parts = entry.split(b"\xff")
        names = tuple(parts[:-1:2])
        pick, form = _SHOWN.get(names) or _shown_form(names)
        texts.append(form % pick(parts))
    return b"\n".join(texts).decode().split("\n") if texts else []


def _shown_form(names: tuple[bytes, ...]) -> tuple[Callable[[list[bytes]], object], bytes]:
    """Of entries with these names, the type before the first: the values in the order shown, and the form."""
    if len(_SHOWN) >= _MOST_FORMS:
        _SHOWN.clear()
    form, first, others = b"", [], []
    for place, name in enumerate(names):
        name = name[1:] if place == 0 else name
        if name == _NAME:
            first.append(2 * place + 1)
        else:
            others.append(2 * place + 1)
            form += (b"," if form else b"") + name.replace(b"%", b"%%") + b'="%b"'
    inner = b"{" + form + b"}" if form else b""
    _SHOWN[names] = itemgetter(*first, *others), b"%b" * len(first) + inner
    return _SHOWN[names]
