"""Settings of the lake writer and of the snapshots it keeps."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from kernel.settings import Section


class LakeSettings(Section):
    """How often the lake commits, how much it holds in memory, and how long it keeps what nothing refers to."""

    commit_seconds: float = Field(
        10.0,
        gt=0,
        description="Seconds from the first unstored record to its commit, at least; default 10. Smaller: fresher "
        "usage, more and smaller files: one for each project in each commit.",
    )
    commit_files: int = Field(
        10,
        ge=1,
        description="Files of a commit from which on it waits longer than `commit_seconds`, in proportion; default "
        "10: with 100 projects a commit each 100 seconds, and a file a second however many they are. Only what "
        "reads the lake sees samples later: alerts and PromQL of the last hours read the log, and a push that "
        "completes an hour is committed after `commit_seconds`.",
    )
    commit_seconds_most: float = Field(
        300.0,
        gt=0,
        description="Seconds that a commit of many files waits at most; default 300. Below `commit_seconds`: each "
        "commit is made after that.",
    )
    commit_samples: int = Field(
        2_000_000,
        ge=1,
        description="Samples held in memory before a commit is made early; default 2000000, about 200 MB at the "
        "peak of a commit. Smaller: less memory, more files, and more of the writer's time for commits (some 50 ms "
        "each).",
    )
    commit_bytes: int = Field(
        128 * 1024 * 1024,
        ge=1,
        description="Bytes of records (compressed, as in the log) and of labels not met before, taken before a "
        "commit is made early; default 134217728. Bounds memory when records carry many labels and few samples.",
    )
    poll_records: int = Field(
        16,
        ge=1,
        description="Records asked of the log at once; default 16. With the log's record limit this bounds the "
        "memory of one poll.",
    )
    cached_series: int = Field(
        1_000_000,
        ge=1,
        description="Series whose ids the writer remembers; default 1000000, about 400 bytes of labels each. Over "
        "that number, or over the bytes of so many, the "
        "memory is dropped and known series are written to the series table again (harmless, but it grows).",
    )
    row_group_rows: int = Field(
        131_072,
        ge=1,
        description="Rows after which a row group ends, at the next change of series; default 131072. Smaller: "
        "readers skip more, files grow.",
    )
    days_per_record: int = Field(
        400,
        ge=1,
        description="Different days that one record may touch before it goes to the dead letters; default 400. "
        "Every day is a file, so this bounds what one sender can do to a commit.",
    )
    keep_snapshots: int = Field(
        30,
        ge=2,
        description="Snapshots kept besides tagged ones; default 30. More: older snapshots stay readable, every "
        "commit gets slower (about 1 ms each).",
    )
    sweep_seconds: float = Field(
        3600.0,
        gt=0,
        description="Seconds between two sweeps of files that no kept snapshot refers to; default 3600.",
    )
    orphan_grace_seconds: float = Field(
        86_400.0,
        ge=0,
        description="Age in seconds before an unreferenced file is deleted; default 86400. Must be longer than any "
        "scan or commit takes: a younger file may be about to be committed.",
    )
    watermark_hold_seconds: float = Field(
        86_400.0,
        gt=0,
        description="Seconds for which a silent collector holds back its organization's watermark; default 86400. "
        "After that its data counts as late when it comes.",
    )
    compact_files: int = Field(
        16,
        ge=2,
        description="Small files of one day and project from which on the writer merges them, between two commits; "
        "default 16. Smaller: fewer files, more rewriting. Usage looks at a day's hours again when its files were "
        "merged, and finds the same quantities.",
    )
    compact_samples: int = Field(
        8_000_000,
        ge=1,
        description="Rows of one merged file at most; default 8000000, for which a compaction takes about 600 MB "
        "of memory. Files of more than half of it are left as they are.",
    )
    compact_ratio: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the writer's time that it may spend on merging files; default 0.2. 0: only "
        "`byoc lake compact` merges. Larger: fewer files, and samples wait for longer while files are merged.",
    )
    retention_days: int = Field(
        0,
        ge=0,
        description="Days after which a day of samples is taken out of the lake, whole; default 0, never. Tagged "
        "months stay readable at their snapshot. Shorter than billing looks back: invoices can't be proven.",
    )
    exemplar_retention_days: int = Field(
        30,
        ge=0,
        description="Days after which a day of exemplars is taken out of the lake, whole; default 30. 0: with the "
        "samples. They lead from a sample to a trace, and traces are seldom kept for longer.",
    )
    month_tag_days: int = Field(
        5,
        ge=0,
        description="Days after the end of a month when the writer tags the newest snapshot as that month's, so "
        "that it stays readable for good; default 5. Smaller: what comes later is not in it.",
    )
    cache_dir: Path | None = Field(
        None,
        description="Folder for data files read from S3, which never change; default none: every scan reads them "
        "again. Several processes may share it.",
    )
    cache_bytes: int = Field(
        10 * 1024 * 1024 * 1024,
        ge=1,
        description="Bytes that the folder may hold; default 10737418240. Beyond it the files that were not "
        "read for longest go.",
    )
    fenced_limit: int = Field(
        3,
        ge=1,
        description="Commits in a row that may be refused because another writer was there first; default 3. Then "
        "the writer ends, as two writers seem to hold the same partitions.",
    )
    retry_seconds: float = Field(
        1.0,
        gt=0,
        description="Seconds before a failed commit is tried again, doubled each time up to 60 and jittered; "
        "default 1.",
    )

    def cache_properties(self) -> dict[str, str]:
        """What the warehouse is told of the cache."""
        if self.cache_dir is None:
            return {}
        return {"byoc.cache-dir": str(self.cache_dir), "byoc.cache-bytes": str(self.cache_bytes)}
