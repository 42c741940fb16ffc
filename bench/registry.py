"""Every benchmark of the design by its name, and why some are not measured yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bench import (
    close,
    collecting,
    documents,
    drafts,
    freshness,
    gateway,
    growth,
    ingest,
    invoices,
    lake,
    neighbour,
    numbers,
    queries,
    tenants,
    usage,
    verify,
)
from bench.outcome import Outcome


class Benchmark(Protocol):
    """`quick` stays under 50 seconds, by less data or fewer runs."""

    def __call__(self, *, quick: bool) -> Outcome:
        """Measure. Raises ServiceUnavailable when the peer is not installed."""


BENCHMARKS: Mapping[str, Benchmark] = {
    "collector-quiet": collecting.quiet,
    "collector": collecting.some_churn,
    "collector-churn": collecting.much_churn,
    "targets": collecting.targets,
    "milvus": collecting.milvus,
    "egress": collecting.egress,
    "memory": collecting.memory,
    "gateway": gateway.measure,
    "neighbour": neighbour.measure,
    "lake": lake.measure,
    "tenants": tenants.measure,
    "ingest": ingest.frames,
    "ingest-kafka": ingest.kafka,
    "ingest-rw1": ingest.rw1,
    "usage": usage.measure,
    "close": close.measure,
    "invoices": invoices.measure,
    "drafts": drafts.measure,
    "numbers": numbers.measure,
    "documents": documents.measure,
    "verify": verify.measure,
    "promql": queries.promql,
    "rules": queries.rules,
    "pages": freshness.pages,
    "freshness": freshness.freshness,
    "queryable": freshness.queryable,
    "growth": growth.measure,
    "growth-vendor": growth.vendor,
}

UNMEASURED: Mapping[str, str] = {}
