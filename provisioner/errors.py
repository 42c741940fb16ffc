"""Errors of the provisioner.

kernel.errors.Refuse
├── NotFound
│   └── Unknown             no organization, project, cluster or job of that id
├── Conflict
│   ├── NameTaken           the name is in use beside it
│   ├── OperationRunning    the cluster has an operation under way
│   ├── StaleGeneration     the cluster was changed since the caller looked
│   └── IllegalTransition   (provisioner.lifecycle) the state does not admit the operation
└── OverCapacity            the licence does not cover it (raised by the in-memory capacity)
kernel.errors.Retry
├── JobUnfinished           the job did not end within the time the caller gave it
└── NotReady                what should run was not seen ready within its deadline
"""

from __future__ import annotations

from kernel.errors import Conflict, NotFound, Refuse, Retry


class Unknown(NotFound):
    """There is nothing of that id."""


class NameTaken(Conflict):
    """Another one beside it has that name."""


class OperationRunning(Conflict):
    """One operation at a time for each cluster."""


class StaleGeneration(Conflict):
    """The caller decided by an older generation of the cluster."""


class OverCapacity(Refuse):
    """The licence does not cover what was asked for."""


class JobUnfinished(Retry):
    """The job is not done yet; it goes on."""


class NotReady(Retry):
    """What should run was not seen ready in time."""
