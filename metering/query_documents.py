"""What lies beside samples, in the shapes of Prometheus' HTTP API: `/metadata` and `/query_exemplars` of `/api/v1`.

Documents only (prometheus.io/docs/prometheus/latest/querying/api): whoever serves them takes the organization from
the caller's identity, never from the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kernel.errors import InvalidInput
from kernel.window import Window
from metering.lake.api import Lake
from metering.promql.api import parse_expression, render_number, selectors_of
from metering.promql.syntax import Selector
from metering.record import parse_canonical_labels

MAX_EXEMPLARS = 100_000


async def metadata_document(
    lake: Lake,
    organization: str,
    metric: str | None = None,
    limit: int | None = None,
    limit_per_metric: int | None = None,
) -> dict[str, Any]:
    """`{"status", "data": {family: [{"type", "help", "unit"}]}}`, each distinct entry once, by family.

    `limit`: families at most, `limit_per_metric`: entries of each; None or 0: all. Raises LakeUnavailable,
    InvalidInput for a negative limit.
    """
    for name, given in (("limit", limit), ("limit_per_metric", limit_per_metric)):
        if given is not None and given < 0:
            raise InvalidInput.single("metadata", name, given, "0 or more")
    rows = (await lake.metadata(organization)).to_pylist()
    families: dict[str, set[tuple[str, str, str]]] = {}
    for row in rows:
        if metric is None or row["family"] == metric:
            families.setdefault(row["family"], set()).add((row["type"], row["help"], row["unit"]))
    data = {
        family: [
            {"type": kind, "help": told, "unit": unit}
            for kind, told, unit in sorted(families[family])[: limit_per_metric or None]
        ]
        for family in sorted(families)[: limit or None]
    }
    return {"status": "success", "data": data}


async def exemplars_document(
    lake: Lake, organization: str, query: str, start_ms: int, end_ms: int
) -> dict[str, Any]:
    """`{"status", "data": [{"seriesLabels", "exemplars": [{"labels", "value", "timestamp"}]}]}`.

    Of all series that any selector in `query` names, from `start_ms` to `end_ms` inclusive; values are strings,
    timestamps seconds. Raises InvalidInput (a bad query, an end before the start, too many exemplars),
    LakeUnavailable.
    """
    if end_ms < start_ms:
        raise InvalidInput.single("query_exemplars", "end", end_ms, f"at or after the start, {start_ms}")
    expression = parse_expression(query, "query_exemplars", "query")
    selectors = [selector for selector, _ in selectors_of(expression)]
    found = await lake.exemplars(organization, Window(start_ms, end_ms + 1))
    if found.num_rows > MAX_EXEMPLARS:
        raise InvalidInput.single(
            "query_exemplars", "end", f"{found.num_rows} exemplars", f"{MAX_EXEMPLARS} at most: ask for less time"
        )
    names = [selector.metric for selector in selectors if selector.metric is not None]
    rows = await lake.series(organization, names if len(names) == len(selectors) else None)
    series = await asyncio.to_thread(_chosen, rows, selectors)
    listed: dict[bytes, list[dict[str, Any]]] = {}
    for row in found.to_pylist():
        if row["series_id"] in series:
            listed.setdefault(row["series_id"], []).append(_exemplar(row))
    data: list[dict[str, Any]] = [{"seriesLabels": series[each], "exemplars": listed[each]} for each in listed]
    data.sort(key=lambda one: sorted(one["seriesLabels"].items()))
    return {"status": "success", "data": data}


def _exemplar(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "labels": dict(parse_canonical_labels(row["labels"])),
        "value": render_number(row["value"]),
        "timestamp": row["timestamp_ms"] / 1000,
    }


def _chosen(rows: Any, selectors: Sequence[Selector]) -> dict[bytes, dict[str, str]]:
    found = {}
    for row in rows.to_pylist():
        labels = dict(parse_canonical_labels(row["labels"]))
        if any(all(one.matches(labels.get(one.name, "")) for one in each.matchers) for each in selectors):
            found[row["series_id"]] = labels
    return found
