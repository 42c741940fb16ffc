"""What ties an invoice's rows to the pushes that collectors sent, from the lake of a vendor side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from billing.proof.evidence import Evidence, Sourced, source_files
from collector.wire.receipt import render_key_set
from console.up import open_lake
from console.wiring import Vendor
from kernel.identity.authority import CertificateAuthority
from kernel.ids import OrganizationId
from metering.lake.errors import LakeDamaged
from metering.usage.settings import UsageSettings


def load_evidence_of(
    vendor: Vendor, organization: OrganizationId, parts: Mapping[str, Sequence[Sourced]]
) -> tuple[dict[str, Evidence], dict[str, str]]:
    """By part, the evidence of its rows, and why the lake does not know it. Raises ObjectsUnavailable."""
    authority = CertificateAuthority.open(vendor.authority_folder, vendor.clock)
    keys = render_key_set([authority.receipt_key().public_key()], authority.sign_statement)
    limit_ms = round(vendor.section("usage", UsageSettings).staleness_limit_seconds * 1000)
    found: dict[str, Evidence] = {}
    unknown: dict[str, str] = {}

    async def load() -> None:
        lake = await open_lake(vendor)
        try:
            for part, rows in parts.items():
                names = {source.partition(" ")[0] for row in rows for source in row.sources}
                try:
                    offsets, batches = await lake.batches(organization, names)
                except LakeDamaged as error:
                    unknown[part] = f"the lake does not say which pushes the rows were made from: {error}"
                else:
                    found[part] = Evidence(source_files(rows, offsets), tuple(batches), limit_ms, keys)
        finally:
            await lake.close()

    if parts:
        asyncio.run(load())
    return found, unknown
