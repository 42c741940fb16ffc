"""What a receiver of remote write took of what is no plain sample, by its own word: the rest is counted."""

from __future__ import annotations

from collections.abc import Sequence

from collector.metrics import CollectorMetrics
from collector.push.answer import Answer
from collector.push.version import WireProtocol
from collector.wire.headers import EXEMPLARS_WRITTEN, HISTOGRAMS_WRITTEN
from collector.wire.series import WireSeries
from kernel.logs import logger

_log = logger("push")


class Taken:
    """One lane's. Remote write 1.0 has no word for it: what went there counts as not known to be taken."""

    def __init__(self, metrics: CollectorMetrics, lane: str) -> None:
        self._metrics = metrics
        self._lane = lane
        self._is_said = False

    def note(self, rows: Sequence[WireSeries], answer: Answer, protocol: WireProtocol) -> None:
        """An answer of success to these."""
        counts = (
            ("histograms", HISTOGRAMS_WRITTEN, sum(len(one.histograms) for one in rows)),
            ("exemplars", EXEMPLARS_WRITTEN, sum(len(one.exemplars) for one in rows)),
        )
        for kind, header, sent in counts:
            said = answer.header(header) or ""
            written = int(said) if said.isascii() and said.isdigit() else 0
            if sent > written:
                self._metrics.not_taken.labels(self._lane, kind).inc(sent - written)
                self._say(kind, protocol)

    def _say(self, kind: str, protocol: WireProtocol) -> None:
        if not self._is_said:
            self._is_said = True
            _log.warning("not_taken", lane=self._lane, kind=kind, protocol=protocol.value, more="in the metrics")
