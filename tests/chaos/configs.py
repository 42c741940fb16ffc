"""The settings of a vendor and a collector that are in a hurry, and the collector's way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from console.up import open_authority
from console.wiring import open_vendor
from kernel.identity.enrolment import EnrolmentTokens
from kernel.ids import CollectorId, Tenant


def write_vendor(path: Path, deployment: Mapping[str, Any], gateway: Mapping[str, Any]) -> None:
    content = {
        "deployment": dict(deployment),
        "gateway": dict(gateway),
        "lake": {"commit_seconds": 0.5, "retry_seconds": 0.2},
        "up": {"gauge_seconds": 1.0},
        "usage": {"check_interval_seconds": 1.0},
    }
    path.write_text(yaml.safe_dump(content))


def write_collector(
    path: Path, enrolled: tuple[bytes, str], url: str, targets: Sequence[str], spool: Mapping[str, Any]
) -> None:
    """`enrolled`: the authority's certificate and a token. The folder of `path` is made."""
    folder = path.parent
    folder.mkdir()
    (folder / "ca.pem").write_bytes(enrolled[0])
    (folder / "token").write_text(enrolled[1])
    content = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "chaos", "static_configs": [{"targets": list(targets)}]}],
        "policy": {"allow": [{"metrics": ["up", "chaos_*", "scrape_*"], "labels": ["*"], "pseudonyms": []}]},
        "gateway": {
            "url": url,
            "ca_file": "ca.pem",
            "token_file": "token",
            "timeout": "5s",
            "min_backoff": "100ms",
            "max_backoff": "500ms",
        },
        "health": {"port": 0},
        "spool": dict(spool),
    }
    path.write_text(yaml.safe_dump(content))


async def enrol(vendor_config: Path, tenant: Tenant, collector: CollectorId) -> tuple[bytes, str]:
    """The authority's certificate, and a token for one collector."""
    vendor = open_vendor(None, vendor_config)
    try:
        authority = open_authority(vendor).certificate_pem
        tokens = EnrolmentTokens(vendor.database(), vendor.clock, vendor.audit())
        return authority, tokens.create(tenant, collector)
    finally:
        await vendor.close()
