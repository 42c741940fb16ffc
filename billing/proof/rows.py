"""Usage rows as the text that an invoice's Merkle root is over."""

from __future__ import annotations

import json

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import Window
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow, UsageRows, canonical_line

INVOICE, ROWS, STEPS, SIGNATURE = "invoice.json", "rows.tsv", "steps.json", "signature.json"  # of a bundle
CORRECTED, BILLED, NOW, COUNTED = "corrects", "billed", "now", "counted"  # folders of a bundle
METERS, EARLIER, CAPACITY, THRESHOLDS, DRAWN = "meters", "earlier", "capacity", "thresholds", "drawn"
PREPAID = "prepaid.json"
MARKETPLACE = "marketplace"  # folder of what AWS Marketplace was told
_FIELDS = 12


def render_rows(rows: UsageRows) -> bytes:
    """The canonical lines, sorted: the leaves in their order."""
    return b"".join(rows.leaves)


def render_steps(usage: UsageMonth) -> bytes:
    """The organization's levels of a period as JSON: `steps.json`."""
    return json.dumps(usage.step.points).encode()


def now_steps(number: str) -> str:
    """The file of a bundle with the levels that invoice `number` was rated again from."""
    return f"{CORRECTED}/{number}/{NOW}/{STEPS}"


def parse_rows(content: bytes, source: str) -> tuple[UsageRow, ...]:
    """The rows of such a text. Raises InvalidInput with the line: not canonical, not sorted, or twice."""
    rows = []
    before = b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        where = f"line {number}"
        if line <= before:
            raise InvalidInput.single(source, where, "a line that is not after the one before", "sorted lines")
        rows.append(_row(line, source, where))
        before = line
    return tuple(rows)


def _row(line: bytes, source: str, where: str) -> UsageRow:
    try:
        fields = line.decode().removesuffix("\n").split("\t")
        if len(fields) != _FIELDS:
            raise ValueError(f"{len(fields)} fields")
        organization, project, cluster, component = fields[:4]
        start, end, revision, integral, observed, missing, peak = map(int, fields[4:11])
        row = UsageRow(
            organization=OrganizationId(organization),
            project=ProjectId(project),
            cluster=ClusterId(cluster),
            component=component,
            hour=Window(start, end),
            revision=revision,
            milli_vcpu_ms=integral,
            observed_ms=observed,
            missing_ms=missing,
            peak_milli_vcpu=peak,
            sources=tuple(fields[11].split(",")) if fields[11] else (),
        )
    except ValueError as error:
        raise InvalidInput.single(source, where, str(error), "a canonical usage row of 12 fields") from error
    if canonical_line(row) != line:
        raise InvalidInput.single(source, where, "another spelling", "the canonical text of the row")
    return row
