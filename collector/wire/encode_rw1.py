"""Remote write 1.0: the whole labels of every series in every request.

Native histograms are the same message as in 2.0. What 1.0 has no place for: start timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from collector.labels import Labels
from collector.wire.frames.model import FamilyMetadata
from collector.wire.series import WireSeries
from collector.wire.varint import length_delimited, sample, varint

_DOUBLE = Struct("<d")


def encode_rw1(series: Iterable[WireSeries]) -> bytes:
    """The bytes of a `prometheus.WriteRequest`, not compressed. Labels must be sorted and unique."""
    series = list(series)
    told = {one.told.family: one.told for one in series if one.told is not None}
    return b"".join(map(_series, series)) + b"".join(map(_metadata, told.values()))


def _series(one: WireSeries) -> bytes:
    return length_delimited(
        b"\x0a",
        _labels(one.labels)
        + b"".join(sample(at, value) for at, value in one.samples)
        + b"".join(_exemplar(*exemplar) for exemplar in one.exemplars)
        + b"".join(length_delimited(b"\x22", message) for message in one.histograms),
    )


def _metadata(told: FamilyMetadata) -> bytes:
    """MetricMetadata: type = 1, metric_family_name = 2, help = 4, unit = 5."""
    content = b"\x08" + varint(told.type) if told.type else b""
    texts = ((b"\x12", told.family), (b"\x22", told.help), (b"\x2a", told.unit))
    return length_delimited(
        b"\x1a", content + b"".join(length_delimited(tag, text.encode()) for tag, text in texts if text)
    )


def _exemplar(value: float, at_ms: int, labels: Labels) -> bytes:
    content = _labels(labels) + b"\x11" + _DOUBLE.pack(value) + b"\x18" + varint(at_ms)
    return length_delimited(b"\x1a", content)


def _labels(labels: Labels) -> bytes:
    return b"".join(
        length_delimited(
            b"\x0a", length_delimited(b"\x0a", name.encode()) + length_delimited(b"\x12", value.encode())
        )
        for name, value in labels
    )
