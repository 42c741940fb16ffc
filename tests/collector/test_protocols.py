"""Which formats a target is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from collector.exposition.protobuf import ACCEPTED
from collector.scrape.protocols import Protocols
from collector.scrape.settings import GlobalSettings, ScrapeConfig

OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
OPENMETRICS_0 = "application/openmetrics-text;version=0.0.1"
TEXT_1 = "text/plain;version=1.0.0;escaping=allow-utf-8"
TEXT = "text/plain;version=0.0.4;escaping=allow-utf-8"


def protocols(job: dict[str, Any], **defaults: Any) -> Protocols:
    config = ScrapeConfig.model_validate({"job_name": "j", **job})
    return Protocols.of(config, GlobalSettings.model_validate(defaults))


@pytest.mark.parametrize(
    ("job", "defaults", "accept"),
    [
        ({}, {}, f"{OPENMETRICS};q=0.6,{TEXT};q=0.5,*/*;q=0.1"),
        ({}, {"scrape_native_histograms": True}, f"{ACCEPTED};q=0.6,{OPENMETRICS};q=0.5,{TEXT};q=0.4,*/*;q=0.1"),
        ({"scrape_native_histograms": False}, {"scrape_native_histograms": True},
         f"{OPENMETRICS};q=0.6,{TEXT};q=0.5,*/*;q=0.1"),
        ({"scrape_protocols": ["PrometheusText0.0.4"]}, {"scrape_protocols": ["PrometheusProto"]},
         f"{TEXT};q=0.6,*/*;q=0.1"),
        ({}, {"scrape_protocols": ["PrometheusProto", "PrometheusText1.0.0", "OpenMetricsText0.0.1"]},
         f"{ACCEPTED};q=0.6,{TEXT_1};q=0.5,{OPENMETRICS_0};q=0.4,*/*;q=0.1"),
    ],
)  # fmt: skip
def test_the_best_format_is_asked_for_first(job: dict[str, Any], defaults: dict[str, Any], accept: str) -> None:
    assert protocols(job, **defaults).accept == accept


def test_classic_buckets_beside_native_ones_may_be_asked_for_by_both_names() -> None:
    assert not protocols({"scrape_native_histograms": True}).classic
    for name in ("always_scrape_classic_histograms", "scrape_classic_histograms"):
        assert protocols({name: True}).classic
    assert protocols({}, always_scrape_classic_histograms=True).classic


@pytest.mark.parametrize("wrong", [[], ["PrometheusText"], "PrometheusProto"])
def test_what_is_no_format_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        protocols({"scrape_protocols": wrong})
