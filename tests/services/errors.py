"""Why a service is not there.

ServiceError
├── ServiceUnavailable    its program is not on this machine: install it, or go without
└── ServiceFailed         its program is here but did not start, or did not stop: read the log
"""


class ServiceError(Exception):
    """Any failure of the harness."""


class ServiceUnavailable(ServiceError):
    """The program is missing; the message says what, and how to get it."""


class ServiceFailed(ServiceError):
    """The program ran and failed; the message ends with the tail of its log."""
