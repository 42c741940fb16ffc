"""Errors of the collector.

kernel.errors
├── InvalidInput
│   ├── collector.exposition.ExpositionError   a scraped body is malformed: the whole scrape fails
│   └── (settings, file discovery, history CSV raise InvalidInput itself)
├── Retry
│   ├── ScrapeFailed                           the target did not answer as it should: up = 0
│   ├── SpoolUnavailable                       the disk did not take the frame: a gap is recorded
│   ├── RootNeeded                             the group ended meanwhile: encode again, from the root
│   ├── SpoolFull                              the lane is at its quota and may not drop: wait for the push
│   └── EnrolmentFailed                        the gateway did not give a certificate: try again
│       └── ProxyUnusable                      HTTPS_PROXY names no proxy that can be used
└── Refuse
    ├── SpoolLocked                            another process has this lane open
    ├── PolicyRefused                          the policy file is not signed as it has to be, or is an old one
    └── IdentityRefused                        expired, of another authority, or the token was used
"""

from __future__ import annotations

from kernel.errors import Refuse, Retry


class ScrapeFailed(Retry):
    """The target could not be scraped; the message says why."""


class SpoolUnavailable(Retry):
    """The disk did not take a frame. Nothing of it will be read back."""


class RootNeeded(Retry):
    """The group that these blocks were encoded for is closed; nothing was written."""


class SpoolFull(Retry):
    """The lane is at its quota, and its oldest frames may not be dropped."""


class SpoolLocked(Refuse):
    """Another process has this lane of the spool open."""


class PolicyRefused(Refuse):
    """What may leave is not settled: no signature that holds, or a version below the last accepted one."""


class EnrolmentFailed(Retry):
    """The gateway could not be asked for a certificate, or did not answer with one."""


class ProxyUnusable(EnrolmentFailed):
    """What the environment names as the way to the gateway is no HTTP proxy."""


class IdentityRefused(Refuse):
    """This collector's identity does not hold; somebody must do something about it."""
