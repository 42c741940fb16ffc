"""What the customer lets out, as written in collector.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from kernel.settings import Section


class Unlisted(StrEnum):
    """What happens to a label that no list names."""

    REMOVE = "remove"
    PSEUDONYM = "pseudonym"
    DROP_SERIES = "drop_series"


# Labels of the series that a BYOC vendor reads; none of them holds a customer's own names.
PLAIN_LABELS = (
    "job", "instance", "cluster", "component", "state", "organization", "project", "node_id", "role_name",
    "status", "type", "function_name", "msg_type", "query_type", "segment_state", "segment_level",
    "segment_is_sorted", "index_task_status", "cache_name", "cache_state", "data_source", "import_stage",
    "scope", "full_method", "reduce_level", "lock_name", "lock_source", "lock_type", "lock_op", "load_type",
    "cgo_name", "cgo_type", "queue_type", "rg", "cause", "is_vector_index", "state_name", "task_type",
    "persistent_data_op_type", "meta_op_type", "partition_num", "collection_id", "partition_id", "segment_id",
    "channel_term", "version", "le", "quantile", "code", "method", "implementation", "major", "minor",
    "patchlevel", "build_time", "git_commit", "deploy_mode", "dependency_type", "wal_name", "subscription",
    "shard", "goversion", "space", "flag",
)  # fmt: skip
# Labels that hold names a customer chose: they leave as pseudonyms, stable, so that series stay apart.
PSEUDONYM_LABELS = (
    "db_name", "collection_name", "username", "index_name", "channel_name", "database", "partition_name",
    "collection", "alias", "user", "host", "hostname", "client_id", "topic", "bucket", "path",
)  # fmt: skip
DEFAULT_METRICS = (
    "up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
    "scrape_series_added", "byoc_*", "milvus_*", "process_cpu_seconds_total", "process_resident_memory_bytes",
    "process_start_time_seconds", "process_open_fds", "process_max_fds", "go_goroutines",
)  # fmt: skip


class AllowRule(Section):
    """Series that may leave, and with which labels."""

    metrics: tuple[str, ...] = Field(
        min_length=1, description="Names of metrics or metric families; * stands for any characters; no default."
    )
    labels: tuple[str, ...] = Field(
        PLAIN_LABELS, description="Labels that leave as they are; '*' for all; default the vendor's usual ones."
    )
    pseudonyms: tuple[str, ...] = Field(
        PSEUDONYM_LABELS,
        description="Labels whose values leave as keyed pseudonyms; default those with chosen names.",
    )
    unlisted: Unlisted = Field(
        Unlisted.REMOVE, description="What is done with any other label: remove, pseudonym or drop_series."
    )


class PolicySettings(Section):
    """The allow-list. What no rule names does not leave; the first rule that names a series decides."""

    enabled: bool = Field(True, description="False lets everything out, unchanged; default true.")
    allow: tuple[AllowRule, ...] = Field(
        (AllowRule(metrics=DEFAULT_METRICS),), description="What may leave; default Milvus and byoc series."
    )
    drop: tuple[str, ...] = Field(
        (), description="Names of metrics that never leave, before all rules; default none."
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        for pattern in (*self.drop, *(name for rule in self.allow for name in rule.metrics)):
            if not pattern or any(character.isspace() for character in pattern):
                raise ValueError(f"{pattern!r}: a metric name, maybe with *, is allowed")
        return self
