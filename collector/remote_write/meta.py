"""What is kept beside a request in a receiver's spool: how much is in it, and of which metrics."""

from __future__ import annotations

from struct import Struct

from collector.left_meta import FrameMeta
from collector.remote_write.answers import Counts
from collector.remote_write.stream import Request
from collector.spool.frame import Frame

_COUNTS = Struct("<III")  # samples, histograms, exemplars


def render_meta(request: Request) -> bytes:
    """For the frame of a request."""
    counts = _COUNTS.pack(request.samples, request.histograms, request.exemplars)
    return counts + FrameMeta(request.families).render()


def counts_of(frame: Frame) -> Counts:
    """What is in its request."""
    if len(frame.meta) < _COUNTS.size:
        return Counts(frame.samples)
    return Counts(*_COUNTS.unpack_from(frame.meta))


def families_of(frame: Frame) -> bytes:
    """A FrameMeta as bytes; empty of frames of before."""
    return frame.meta[_COUNTS.size :]
