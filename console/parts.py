"""The parts of the vendor side, as `byoc up --only` names them."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """Each meets the others at the log, the lake and the database alone."""

    GATEWAY = "gateway"  # takes pushes; more of them may run, on one log and database
    LAKE = "lake"  # writes what the log holds; with Kafka more may run, each with partitions of its own
    USAGE = "usage"  # closes hours; safe to run twice
    LICENCES = "licences"  # publishes the licence gauges
    ALERTS = "alerts"  # rules and receivers
    PROVISIONER = "provisioner"  # workflows of clusters; one process alone
