"""Remote write 1.0: the whole labels of every series in every request."""

from __future__ import annotations

from collections.abc import Iterable

from collector.labels import Labels
from collector.wire.series import WireSeries
from collector.wire.varint import length_delimited, sample


def encode_rw1(series: Iterable[WireSeries]) -> bytes:
    """The bytes of a `prometheus.WriteRequest`, not compressed. Labels must be sorted and unique."""
    return b"".join(
        length_delimited(b"\x0a", _labels(one.labels) + b"".join(sample(at, value) for at, value in one.samples))
        for one in series
    )


def _labels(labels: Labels) -> bytes:
    return b"".join(
        length_delimited(
            b"\x0a", length_delimited(b"\x0a", name.encode()) + length_delimited(b"\x12", value.encode())
        )
        for name, value in labels
    )
