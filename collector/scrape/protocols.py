"""Which formats a target is asked for: Prometheus 3's `scrape_protocols`."""

from __future__ import annotations

from dataclasses import dataclass

from collector.scrape.settings import GlobalSettings, ScrapeConfig, ScrapeProtocol

_FAMILIES = "proto=io.prometheus.client.MetricFamily;encoding=delimited"
_MEDIA = {
    ScrapeProtocol.PROTOBUF: f"application/vnd.google.protobuf;{_FAMILIES}",
    ScrapeProtocol.OPENMETRICS_1: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
    ScrapeProtocol.OPENMETRICS_0: "application/openmetrics-text;version=0.0.1",
    ScrapeProtocol.TEXT_1: "text/plain;version=1.0.0;escaping=allow-utf-8",
    ScrapeProtocol.TEXT_0: "text/plain;version=0.0.4;escaping=allow-utf-8",
}
_USUAL = (ScrapeProtocol.OPENMETRICS_1, ScrapeProtocol.TEXT_0)


@dataclass(frozen=True, slots=True)
class Protocols:
    """`accept`: the header. `native`, `classic`: which histograms are taken from protobuf."""

    accept: str
    native: bool
    classic: bool

    @classmethod
    def of(cls, job: ScrapeConfig, defaults: GlobalSettings) -> Protocols:
        """What the settings of a job ask for."""
        native = _chosen(job.scrape_native_histograms, defaults.scrape_native_histograms)
        asked = job.scrape_protocols or defaults.scrape_protocols
        if asked is None:
            asked = (ScrapeProtocol.PROTOBUF, *_USUAL) if native else _USUAL
        weights = range(len(_MEDIA) + 1, 0, -1)
        parts = [f"{_MEDIA[one]};q=0.{weight}" for one, weight in zip(dict.fromkeys(asked), weights, strict=False)]
        classic = _chosen(job.always_scrape_classic_histograms, defaults.always_scrape_classic_histograms)
        return cls(",".join([*parts, "*/*;q=0.1"]), native, classic)


def _chosen(own: bool | None, default: bool) -> bool:
    return default if own is None else own
