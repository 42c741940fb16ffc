"""What ties an invoice's rows to the pushes that collectors sent, from the lake of a vendor side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from billing.proof.evidence import Evidence, Sourced, source_files
from collector.wire.receipt import render_key_set
from console.up import open_lake
from console.wiring import Vendor
from kernel.errors import Conflict
from kernel.identity.authority import CertificateAuthority
from kernel.ids import OrganizationId
from metering.lake.errors import LakeDamaged
from metering.usage.settings import UsageSettings


def load_evidence_of(vendor: Vendor, organization: OrganizationId, rows: Sequence[Sourced]) -> Evidence:
    """The evidence of rows. Raises Conflict where the lake does not know it, ObjectsUnavailable."""
    authority = CertificateAuthority.open(vendor.authority_folder, vendor.clock)
    keys = render_key_set([authority.receipt_key().public_key()], authority.sign_statement)
    limit_ms = round(vendor.section("usage", UsageSettings).staleness_limit_seconds * 1000)
    names = {source.partition(" ")[0] for row in rows for source in row.sources}

    async def load() -> Evidence:
        lake = await open_lake(vendor)
        try:
            offsets, batches = await lake.batches(organization, names)
        finally:
            await lake.close()
        return Evidence(source_files(rows, offsets), tuple(batches), limit_ms, keys)

    try:
        return asyncio.run(load())
    except LakeDamaged as error:
        raise Conflict(f"the lake does not say which pushes the rows were made from: {error}") from error
