"""Bodies of `ExportMetricsServiceRequest` by column.

    ResourceMetrics  resource = 1, scope_metrics = 2;  ScopeMetrics  scope = 1, metrics = 2, schema_url = 3
    Metric           name = 1, description = 2, unit = 3, gauge = 5, sum = 7, histogram = 9,
                     exponential_histogram = 10, summary = 11

Sources: open-telemetry/opentelemetry-proto; prometheus/prometheus, storage/remote/otlptranslator. A process exports
the same points in the same order each time, so a body is compared with those before, its numbers masked; one that
is like none of them is walked through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from collector.wire.model import DecodeLimits, Labels
from collector.wire.protobuf import BYTES, decode_whole
from metering.gateway.foreign.loose import Loose
from metering.gateway.foreign.pushed import Pushed, SeriesNumbers
from metering.gateway.otlp.fields import Field, Message
from metering.gateway.otlp.names import identity_of, label_name, labels_of, metric_name, unit_of
from metering.gateway.otlp.plan import Kind, Template
from metering.gateway.otlp.points import Found, Metric, add_exponential, add_histogram, add_number, add_summary
from metering.gateway.series import METRIC_NAME, Refusal
from metering.samples import Metadata

_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL, _SUMMARY = 5, 7, 9, 10, 11
_KINDS = {
    _GAUGE: ("gauge", add_number),
    _SUM: ("unknown", add_number),
    _HISTOGRAM: ("histogram", add_histogram),
    _EXPONENTIAL: ("histogram", add_exponential),
    _SUMMARY: ("summary", add_summary),
}
_CUMULATIVE = 2
_IDENTIFYING = frozenset({"service.namespace", "service.name", "service.instance.id"})
_SERIES_BYTES = 250
_FIELDS_PER_SAMPLE, _LEAST_FIELDS = 4, 10_000
_TEMPLATES = 64
TARGET_INFO = "target_info"
_Key = tuple[tuple[bytes, ...], str, tuple[bytes, ...], Labels]


class OtlpDecoder:
    """Reads the bodies of one tenant's senders. Not for concurrent use."""

    def __init__(self, numbers: SeriesNumbers, max_bytes: int) -> None:
        self._numbers = numbers
        self._max_bytes = max_bytes
        self._templates: list[Template] = []  # the last used last
        self._known: dict[_Key, int] = {}
        self._known_bytes = 0
        self._told: dict[str, Metadata] = {}

    @property
    def known_bytes(self) -> int:
        """About what the series take that are known."""
        return self._known_bytes

    def decode(self, body: bytes, limits: DecodeLimits) -> Pushed:
        """The columns of a decompressed body. Raises BodyTooLarge, WireError."""
        for place in range(len(self._templates) - 1, -1, -1):
            if self._templates[place].is_like(body):
                template = self._templates.pop(place)
                self._templates.append(template)
                return template.plan.read(body)
        return decode_whole(lambda: self._walk(body, limits), len(body), limits.max_decompressed_bytes)

    def _walk(self, body: bytes, limits: DecodeLimits) -> Pushed:
        walk = _Walk(body, limits, self._numbers, self._known)
        found = walk.read()
        self._known_bytes += walk.learned_bytes
        Loose(body, limits).check_samples(len(found.plan) + len(found.histograms) + len(found.exemplars))
        if found.plan.is_fixed and not found.refused and len(found.plan):
            self._keep(Template(body, found.plan))
        return replace(
            found.plan.read(body),
            histograms=found.histograms,
            exemplars=found.exemplars,
            metadata=self._news(walk.metadata),
            refused=Counter(found.refused),
            fault=found.fault,
        )

    def _news(self, metadata: list[Metadata]) -> list[Metadata]:
        """What was not told before."""
        news = [told for told in metadata if self._told.get(told.family) != told]
        for told in news:
            self._told[told.family] = told
            self._known_bytes += _SERIES_BYTES + len(told.family) + len(told.help)
        return news

    def _keep(self, template: Template) -> None:
        self._templates.append(template)
        while len(self._templates) > _TEMPLATES or (
            self._templates and sum(one.size_bytes for one in self._templates) > self._max_bytes
        ):
            del self._templates[0]


@dataclass(frozen=True, slots=True)
class _Context:
    """What the series of one resource and scope share."""

    name: tuple[bytes, ...]
    labels: dict[str, str]


class _Walk:
    """One body."""

    def __init__(self, body: bytes, limits: DecodeLimits, numbers: SeriesNumbers, known: dict[_Key, int]) -> None:
        self._body = body
        self._message = Message(body, max(_LEAST_FIELDS, _FIELDS_PER_SAMPLE * limits.max_samples))
        self._numbers, self._known = numbers, known
        self._loose = Loose(body, limits)
        self._found = Found()
        self.metadata: list[Metadata] = []
        self.learned_bytes = 0

    def read(self) -> Found:
        for each in self._message.fields(0, len(self._body)):
            if each.number == 1 and each.kind == BYTES:
                self._read_resource(each)
        return self._found

    def _read_resource(self, span: Field) -> None:
        resource: tuple[Field, ...] = ()
        attributes: list[tuple[str, str]] = []
        scopes = []
        for each in self._message.fields(span.start, span.end):
            if each.number == 1 and each.kind == BYTES:
                resource = (each,)
                fields = self._message.fields(each.start, each.end)
                attributes += [
                    self._message.attribute(one) for one in fields if one.number == 1 and one.kind == BYTES
                ]
            elif each.number == 2 and each.kind == BYTES:
                scopes.append(each)
        identity = identity_of(dict(attributes))
        first = len(self._found.plan)
        for scope in scopes:
            self._read_scope(scope, resource, identity)
        self._add_target_info(attributes, identity, first)

    def _read_scope(self, span: Field, resource: tuple[Field, ...], identity: dict[str, str]) -> None:
        named: dict[str, str] = {}
        metrics, scope = [], list(resource)
        for each in self._message.fields(span.start, span.end):
            if each.number == 1 and each.kind == BYTES:
                scope.append(each)
                named.update(self._scope_labels(each))
            elif each.number == 2 and each.kind == BYTES:
                metrics.append(each)
            elif each.number == 3 and each.kind == BYTES and each.end > each.start:
                scope.append(each)
                named["otel_scope_schema_url"] = self._message.text(each)
        context = _Context(tuple([self._body[one.start : one.end] for one in scope]), named | identity)
        for metric in metrics:
            self._read_metric(metric, context)

    def _scope_labels(self, span: Field) -> dict[str, str]:
        """InstrumentationScope: name = 1, version = 2, attributes = 3."""
        labels = {}
        for each in self._message.fields(span.start, span.end):
            if each.kind != BYTES or each.end == each.start:
                continue
            if each.number in {1, 2}:
                labels["otel_scope_name" if each.number == 1 else "otel_scope_version"] = self._message.text(each)
            elif each.number == 3:
                key, value = self._message.attribute(each)
                labels[f"otel_scope_{label_name(key)}"] = value
        return labels

    def _read_metric(self, span: Field, context: _Context) -> None:
        texts, data = {1: "", 2: "", 3: ""}, None
        for each in self._message.fields(span.start, span.end):
            if each.kind == BYTES and each.number in texts:
                texts[each.number] = self._message.text(each)
            elif each.kind == BYTES and each.number in _KINDS:
                data = each
        if data is None:
            return
        kind, add = _KINDS[data.number]
        points, temporality, is_monotonic = [], 0, False
        for each in self._message.fields(data.start, data.end):
            if each.number == 1 and each.kind == BYTES:
                points.append(each)
            elif each.number == 2 and each.kind != BYTES:
                temporality = each.start
            elif each.number == 3 and each.kind != BYTES:
                is_monotonic = bool(each.start)
        if data.number in {_SUM, _HISTOGRAM, _EXPONENTIAL} and temporality != _CUMULATIVE:
            fault = f"{texts[1][:100]} is not cumulative: set the exporter's temporality to cumulative"
            self._found.refuse(Refusal.TEMPORALITY, len(points), fault)
            return
        is_counter = data.number == _SUM and is_monotonic
        name = metric_name(texts[1], texts[3], is_counter=is_counter, is_gauge=data.number == _GAUGE)
        self._tell(name, "counter" if is_counter else kind, texts)
        metric = Metric(name, self._numberer(name, context))
        for point in points:
            add(self._message, point, metric, self._found)
            self._loose.check_samples(len(self._found.plan))

    def _tell(self, name: str, kind: str, texts: dict[int, str]) -> None:
        self.metadata.append(Metadata(name, kind, texts[2], unit_of(texts[3])))
        self._loose.check_series(len(self.metadata))

    def _numberer(self, name: str, context: _Context) -> Callable[[str, tuple[Field, ...], Labels], int]:
        body, known = self._body, self._known

        def number(suffix: str, attributes: tuple[Field, ...], further: Labels) -> int:
            raw = tuple([body[one.start : one.end] for one in attributes])
            key = (context.name, name + suffix, raw, further)
            found = known.get(key)
            if found is None:
                named = labels_of(self._message.attribute(one) for one in attributes)
                found = self._number(named | context.labels | dict(further) | {METRIC_NAME: name + suffix})
                if found >= 0:  # a refused series may be of any size, and there may be any number of them
                    known[key] = found
                    self.learned_bytes += _SERIES_BYTES + sum(map(len, raw))
            return found

        return number

    def _number(self, labels: dict[str, str]) -> int:
        self._loose.check_labels(len(labels))
        return self._numbers.number(tuple(sorted(labels.items())))

    def _add_target_info(self, attributes: list[tuple[str, str]], identity: dict[str, str], first: int) -> None:
        """What else is known of the resource, once it has an identity and a sample."""
        further = [one for one in attributes if one[0] not in _IDENTIFYING]
        plan = self._found.plan
        if not (identity and further) or len(plan) == first:
            return
        plan.newest.append((len(plan), first))
        number = self._number(labels_of(further) | identity | {METRIC_NAME: TARGET_INFO})
        plan.add(number, Kind.ONE, -1, -1, -1)
