"""The vendor's own project is nobody else's: what is published under it is believed (licence gauges)."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.migrate import migrate
from kernel.clock import VirtualClock
from kernel.database import Database, sqlite_url
from kernel.errors import InvalidInput
from kernel.identity.enrolment import EnrolmentTokens
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant, parse_customer_project


def test_nobody_enrols_under_the_vendors_project(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(database)
    tokens = EnrolmentTokens(database, VirtualClock())
    tenant = Tenant(OrganizationId("org-a"), ProjectId("vendor"))
    with pytest.raises(InvalidInput, match="vendor's"):
        tokens.create(tenant, CollectorId("vendor-billing"))
    assert tokens.list() == []
    database.close()


def test_a_customer_project_is_any_other_id() -> None:
    assert parse_customer_project("vendor-east") == "vendor-east"
    for refused in ("vendor", "Vendor", "v", "-a"):
        with pytest.raises(InvalidInput):
            parse_customer_project(refused)
