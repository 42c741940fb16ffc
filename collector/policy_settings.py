"""What the customer lets out, as written in collector.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from kernel.settings import Section

# Patterns of a label's value, or one; * stands for any characters, a label that is not there has the value "".
Values = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


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
    where: dict[str, Values] = Field(
        {},
        description="Only series whose labels are so: name -> a value or several, with *; all hold; default none.",
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


class DropRule(Section):
    """Series that never leave, whatever a rule of `allow` says."""

    metrics: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Names of metrics or metric families, with *; default all."
    )
    where: dict[str, Values] = Field(
        min_length=1, description="Labels that make a series stay: name -> a value or several, with *; no default."
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
    drop_series: tuple[DropRule, ...] = Field(
        (), description="Series that never leave, by name and label, before all rules; default none."
    )
    remove_labels: tuple[str, ...] = Field(
        (), description="Labels removed whatever a rule says, with *; default none. Not `__name__`."
    )

    exemplar_labels: tuple[str, ...] = Field(
        (),
        description="Labels that leave with an exemplar, with *; others are removed; default none: exemplars stay.",
    )
    help_texts: tuple[str, ...] = Field(
        (),
        description="Families whose HELP texts leave with their series, with *: free text that the target's authors"
        " wrote. Not of a family that a pseudonym is in. Default none: texts stay; types and units leave.",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        for pattern in self._patterns():
            if not pattern or any(character.isspace() for character in pattern):
                raise ValueError(f"{pattern!r}: a name, maybe with *, is allowed")
        return self

    def _patterns(self) -> Iterator[str]:
        yield from (*self.drop, *self.remove_labels, *self.exemplar_labels, *self.help_texts)
        rules: tuple[AllowRule | DropRule, ...] = (*self.allow, *self.drop_series)
        for rule in rules:
            yield from (*rule.metrics, *rule.where)


class PolicyDocument(PolicySettings):
    """A policy file: the same as the section `policy`, with a number of its own."""

    version: int = Field(
        0,
        ge=0,
        le=2**53 - 1,
        description="Number of this policy; a signed one has to be above the last that was accepted; default 0.",
    )


class PolicyMode(StrEnum):
    """Who may change the policy file."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"


class PolicyFileSettings(Section):
    """A file that you own instead of the section `policy`, read again when it changes."""

    path: Path | None = Field(None, description="The policy file; default none: the section `policy` holds.")
    mode: PolicyMode = Field(
        PolicyMode.UNSIGNED,
        description="unsigned (default): a changed file holds at once, and the ledger says so. signed: only a file"
        " signed by `public_key` holds; any other stops shipping.",
    )
    public_key: Path | None = Field(
        None, description="PEM of the Ed25519 key that signs the policy, for `signed`; no default."
    )
    signature: Path | None = Field(
        None, description="File of a detached signature; default the path with .sig, if the file has none inside."
    )

    @field_validator("path", "public_key", "signature", mode="before")
    @classmethod
    def _not_empty(cls, path: object) -> object:
        if path == "":
            raise ValueError("a path is allowed")
        return path

    @model_validator(mode="after")
    def _key(self) -> Self:
        if self.mode is PolicyMode.SIGNED and (self.path is None or self.public_key is None):
            raise ValueError("mode signed needs path and public_key")
        return self


class PseudonymSettings(Section):
    """The key behind the pseudonyms. It never leaves the VPC."""

    key_file: Path | None = Field(
        None,
        description="File of 16 secret bytes or more, the same for all collectors of a tenant, so that they give"
        " the same pseudonyms; default pseudonym.key in gateway.identity, made at first use.",
    )
