"""Settings of the usage jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from kernel.settings import Section

ClusterPattern = Annotated[str, Field(pattern=r"^[^/*?\[]+/[^/]+/[^/]+$", max_length=300)]


class UsageSettings(Section):
    """How samples become hours."""

    staleness_limit_seconds: float = Field(
        300.0,
        gt=0,
        le=3600,
        description="Seconds a gauge sample holds when no other follows; default 300. Then the time counts as "
        "missing. Shorter than two scrape intervals turns every lost scrape into missing time.",
    )
    close_deadline_seconds: float = Field(
        7200.0,
        ge=0,
        description="Seconds after its end at which an hour is closed although collectors have not reported to be "
        "complete; default 7200. What arrives later makes a new revision.",
    )
    check_interval_seconds: float = Field(
        30.0,
        gt=0,
        description="Seconds between two looks for hours to close or to revise; default 30.",
    )
    revision_days: int = Field(
        62,
        ge=1,
        description="Days back in which late samples still make a new revision of a closed hour; default 62. Older "
        "ones stay in the lake and are not billed.",
    )
    catalogue: Path | None = Field(
        None,
        description="Path of a catalogue of meters in YAML; default the pack for Milvus that comes with byoc. Its "
        "id and version stand on every row: another content needs a new version, which computes closed hours anew, "
        "`revision_days` back.",
    )
    reconcile_vcpu_minutes: float = Field(
        1.0,
        ge=0,
        description="vCPU-minutes by which a cluster's hour may differ from what the provisioner declared; default "
        "1. A difference counts when it is above this and above `reconcile_ratio`.",
    )
    reconcile_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of what was declared by which a cluster's hour may differ; default 0.01.",
    )
    reconcile_edge_seconds: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Seconds before and after a change of state in which either level counts as declared; default "
        "60. At least one scrape interval and what the clocks of vendor and VPC differ, or changes are findings.",
    )
    reconcile_not_provisioned: tuple[ClusterPattern, ...] = Field(
        (),
        max_length=1000,
        description="Clusters that the provisioner did not make, as `ORGANIZATION/PROJECT/CLUSTER` with `*` in the "
        "last two; default none. The report states them as not provisioned by us: no finding and no alarm. "
        "Any other cluster that the provisioner does not know is one, and what it knows is compared anyway.",
    )
    reconcile_alert_hours: float = Field(
        24.0,
        gt=0,
        description="Hours for which a difference that was found keeps the alert UsageDiffers firing; default 24. "
        "The finding itself stays on the report.",
    )
