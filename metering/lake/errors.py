"""What can go wrong in the lake.

kernel.errors
├── Retry    LakeUnavailable    catalog or warehouse do not answer; try again
├── NotFound UnknownSnapshot    expired, or never was
└── Stop
    ├── Fenced                  another writer has committed these positions: abandon the batch
    ├── LakeDamaged             the lake contradicts itself
    │   └── FileDamaged         a data file is gone, or not what its name says
    └── LogReplaced             the log is not the one that the lake was written from
"""

from __future__ import annotations

from kernel.errors import NotFound, Retry, Stop


class LakeUnavailable(Retry):
    """The catalog or the warehouse does not answer. Whether a commit happened is unknown: read the table again."""


class UnknownSnapshot(NotFound):
    """The snapshot does not exist: expired, or of another table. Tag a snapshot that must stay readable."""


class Fenced(Stop):
    """The positions of this batch were committed by another writer: the batch must be thrown away."""


class LakeDamaged(Stop):
    """The lake contradicts itself (horizon object missing or altered, sample without series)."""


class FileDamaged(LakeDamaged):
    """A data file is gone or was altered. `location`: which."""

    def __init__(self, location: str, what: str) -> None:
        super().__init__(f"{location} {what}: restore it from a copy")
        self.location = location


class LogReplaced(Stop):
    """The lake's position lies behind the end of the log: this is not the log the lake was written from."""
