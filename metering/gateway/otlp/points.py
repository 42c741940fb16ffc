"""Data points of each kind, into samples of the series that Prometheus makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from struct import unpack_from
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as OtlpExemplar
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from collector.wire.errors import WireError
from collector.wire.model import Labels
from collector.wire.protobuf import BYTES, FIXED64, VARINT
from metering.gateway.foreign.pushed import PushedExemplar, PushedHistogram
from metering.gateway.otlp.exponential import NotConvertible, native_histogram
from metering.gateway.otlp.fields import Field, Message, number_text, text_of
from metering.gateway.otlp.names import labels_of
from metering.gateway.otlp.plan import Kind, Plan
from metering.gateway.series import Refusal

_NO_RECORDED_VALUE = 1
_NANOS_PER_MS = 1_000_000
_MOST_BUCKETS = 10_000


@dataclass(slots=True)
class Found:
    """What was found in a body."""

    plan: Plan = field(default_factory=Plan)
    histograms: list[PushedHistogram] = field(default_factory=list)
    exemplars: list[PushedExemplar] = field(default_factory=list)
    refused: dict[Refusal, int] = field(default_factory=dict)
    fault: str = ""

    def refuse(self, reason: Refusal, points: int, fault: str) -> None:
        """Count points that can't be taken."""
        self.refused[reason] = self.refused.get(reason, 0) + points
        self.fault = self.fault or fault


class Metric(NamedTuple):
    """A metric of one resource and scope. `number` numbers a series of it, by suffix and further labels."""

    name: str
    number: Callable[[str, tuple[Field, ...], Labels], int]


@dataclass(slots=True)
class _Point:
    """The fields that the kinds of points share."""

    attributes: tuple[Field, ...]
    time: int
    start: int
    is_stale: bool
    singles: dict[int, int]
    doubles: dict[int, list[int]]
    exemplars: list[Field]


def _read(
    message: Message, span: Field, attributes: int, flags: int, exemplars: int = -1, columns: tuple[int, ...] = ()
) -> _Point:
    """The places of a point's fields, whose numbers are given where the kinds differ."""
    named: list[Field] = []
    point = _Point((), -1, -1, False, {}, {column: [] for column in columns}, [])
    for each in message.fields(span.start, span.end):
        if each.kind == BYTES and each.number == attributes:
            named.append(each)
        elif each.kind == BYTES and each.number == exemplars:
            point.exemplars.append(each)
        elif each.kind == BYTES and each.number in point.doubles:
            point.doubles[each.number] += range(each.start, each.end - 7, 8)
            if (each.end - each.start) % 8 or len(point.doubles[each.number]) > _MOST_BUCKETS:
                raise WireError.at(f"byte {each.start}", "a list of numbers", "eight bytes each, not too many")
        elif each.kind == FIXED64 and each.number == 2:
            point.start = each.start
        elif each.kind == FIXED64 and each.number == 3:
            point.time = each.start
        elif each.kind == FIXED64:
            point.singles[each.number] = each.start
        elif each.kind == VARINT and each.number == flags:
            point.is_stale = bool(each.start & _NO_RECORDED_VALUE)
    point.attributes = tuple(named)
    return point


def add_number(message: Message, span: Field, metric: Metric, found: Found) -> None:
    """A NumberDataPoint: as_double = 4, exemplars = 5, as_int = 6, attributes = 7, flags = 8."""
    point = _read(message, span, attributes=7, flags=8, exemplars=5)
    number = metric.number("", point.attributes, ())
    kind, place = (Kind.SIGNED, point.singles[6]) if 6 in point.singles else (Kind.DOUBLE, point.singles.get(4, -1))
    if point.is_stale:
        found.plan.unread.append(place)
        kind, place = Kind.STALE, -1
    found.plan.add(number, kind, place, point.time, point.start)
    _add_exemplars(message, point.exemplars, lambda _: number, found)


def add_histogram(message: Message, span: Field, metric: Metric, found: Found) -> None:
    """A HistogramDataPoint: count = 4, sum = 5, bucket_counts = 6, explicit_bounds = 7, exemplars = 8."""
    point = _read(message, span, attributes=9, flags=10, exemplars=8, columns=(6, 7))
    plan, buckets = found.plan, point.doubles[6]
    bounds = [unpack_from("<d", message.body, place)[0] for place in point.doubles[7]]
    if (buckets and len(buckets) != len(bounds) + 1) or any(not low < high for low, high in pairwise(bounds)):
        found.refuse(Refusal.BUCKETS, 1, f"a histogram of {len(buckets)} buckets and {len(bounds)} bounds")
        return
    first = len(plan.buckets)
    plan.buckets.extend(buckets)
    plan.first_buckets.extend([first] * len(buckets))
    plan.unread.extend([place for number, place in point.singles.items() if number in {11, 12}])
    numbers = []
    for index, bound in enumerate(bounds):
        numbers.append(metric.number("_bucket", point.attributes, (("le", number_text(bound)),)))
        kind, place = (Kind.CUMULATIVE, first + index) if buckets else (Kind.DOUBLE, -1)
        plan.add(numbers[-1], Kind.STALE if point.is_stale else kind, place, point.time, point.start)
    infinite = metric.number("_bucket", point.attributes, (("le", "+Inf"),))
    numbers.append(infinite)
    samples = [(infinite, Kind.UNSIGNED, point.singles.get(4, -1))]
    if 5 in point.singles:
        samples.append((metric.number("_sum", point.attributes, ()), Kind.DOUBLE, point.singles[5]))
    samples.append((metric.number("_count", point.attributes, ()), Kind.UNSIGNED, point.singles.get(4, -1)))
    _add(samples, point, found)

    def number_of(value: float) -> int:
        return next((number for number, bound in zip(numbers, bounds, strict=False) if value <= bound), infinite)

    _add_exemplars(message, point.exemplars, number_of, found)


def add_summary(message: Message, span: Field, metric: Metric, found: Found) -> None:
    """A SummaryDataPoint: count = 4, sum = 5, quantile_values = 6 {quantile = 1, value = 2}, attributes = 7."""
    quantiles: list[tuple[float, int]] = []
    for each in message.fields(span.start, span.end):
        if each.kind == BYTES and each.number == 6:
            places = {inside.number: inside.start for inside in message.fields(each.start, each.end)}
            share = unpack_from("<d", message.body, places[1])[0] if 1 in places else 0.0
            quantiles.append((share, places.get(2, -1)))
    point = _read(message, span, attributes=7, flags=8)
    samples = [
        (metric.number("", point.attributes, (("quantile", number_text(share)),)), Kind.DOUBLE, place)
        for share, place in quantiles
    ]
    samples.append((metric.number("_sum", point.attributes, ()), Kind.DOUBLE, point.singles.get(5, -1)))
    samples.append((metric.number("_count", point.attributes, ()), Kind.UNSIGNED, point.singles.get(4, -1)))
    _add(samples, point, found)


def _add(samples: Iterable[tuple[int, Kind, int]], point: _Point, found: Found) -> None:
    for number, kind, place in samples:
        if point.is_stale:
            found.plan.unread.append(place)
            kind, place = Kind.STALE, -1
        found.plan.add(number, kind, place, point.time, point.start)


def add_exponential(message: Message, span: Field, metric: Metric, found: Found) -> None:
    """An ExponentialHistogramDataPoint, as a native histogram."""
    found.plan.is_fixed = False
    attributes = [one for one in message.fields(span.start, span.end) if one.kind == BYTES and one.number == 1]
    exemplars = [one for one in message.fields(span.start, span.end) if one.kind == BYTES and one.number == 11]
    try:
        point: Any = ExponentialHistogramDataPoint.FromString(message.body[span.start : span.end])
        encoded = native_histogram(point)
    except DecodeError as error:
        raise WireError.at(f"byte {span.start}", f"a data point: {error}", "an exponential histogram") from None
    except NotConvertible as error:
        found.refuse(Refusal.HISTOGRAM, 1, str(error))
        return
    number = metric.number("", tuple(attributes), ())
    found.histograms.append(PushedHistogram(number, point.time_unix_nano // _NANOS_PER_MS, encoded))
    _add_exemplars(message, exemplars, lambda _: number, found)


def _add_exemplars(
    message: Message, exemplars: Iterable[Field], number_of: Callable[[float], int], found: Found
) -> None:
    for span in exemplars:
        found.plan.is_fixed = False
        try:
            read: Any = OtlpExemplar.FromString(message.body[span.start : span.end])
        except DecodeError as error:
            raise WireError.at(f"byte {span.start}", f"an exemplar: {error}", "an Exemplar") from None
        value = float(read.as_int) if read.WhichOneof("value") == "as_int" else read.as_double
        named = labels_of((one.key, text_of(one.value)) for one in read.filtered_attributes)
        if read.trace_id:
            named["trace_id"] = read.trace_id.hex()
        if read.span_id:
            named["span_id"] = read.span_id.hex()
        at_ms = read.time_unix_nano // _NANOS_PER_MS
        found.exemplars.append(PushedExemplar(number_of(value), value, at_ms, tuple(sorted(named.items()))))
