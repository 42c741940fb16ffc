"""What the lake writer says of itself. No label carries text that a tenant chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class LakeMetrics:
    """Counters of one writer in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.samples = Counter("byoc_lake_samples_stored", "Samples committed.", registry=registry)
        self.commits = Counter("byoc_lake_commits", "Commits of the samples table.", registry=registry)
        self.repeated = Counter(
            "byoc_lake_repeated_pushes", "Pushes at or below the horizon, dropped.", registry=registry
        )
        self.duplicates = Counter(
            "byoc_lake_duplicate_samples", "Equal samples of foreign senders, dropped.", registry=registry
        )
        self.missing = Counter(
            "byoc_lake_missing_pushes", "Push numbers that were skipped by their collector.", registry=registry
        )
        self.given_up = Counter(
            "byoc_lake_given_up_pushes",
            "Push numbers that their collector said will never come.",
            ["reason"],
            registry=registry,
        )
        self.skipped = Counter(
            "byoc_lake_skipped_offsets", "Offsets gone from the log before they were stored.", registry=registry
        )
        self.dead = Counter("byoc_lake_dead_letters", "Records put aside.", registry=registry)
        self.dropped_exemplars = Counter(
            "byoc_lake_dropped_exemplars", "Exemplars without a date, or of too many days.", registry=registry
        )
        self.fenced = Counter(
            "byoc_lake_fenced_commits", "Batches thrown away: another writer had them.", registry=registry
        )
        self.failures = Counter("byoc_lake_failed_commits", "Commits to be tried again.", registry=registry)
        self.swept = Counter("byoc_lake_swept_files", "Unreferenced files deleted.", registry=registry)
        self.compacted = Counter("byoc_lake_compacted_files", "Files merged into others.", registry=registry)
        self.damaged = Counter(
            "byoc_lake_damaged_compactions", "Merges given up: a file is not what it says.", registry=registry
        )
        self.pending = Gauge("byoc_lake_pending_samples", "Samples read and not committed.", registry=registry)
        self.pending_age = Gauge(
            "byoc_lake_pending_age_seconds", "Age of the oldest record not committed.", registry=registry
        )
        self.commit_seconds = Histogram(
            "byoc_lake_commit_seconds",
            "From the first file of a commit to its last.",
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
