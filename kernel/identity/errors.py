"""Why an identity is refused.

kernel.errors.Refuse
├── InvalidInput
│   └── InvalidRequest      a certificate signing request that can't be signed
├── Conflict
│   └── AuthorityExists     a CA stands in that folder already
├── NotFound
│   └── NoAuthority         no CA in that folder
└── Denied
    ├── TokenRefused        an enrolment token that is unknown, used, expired or cancelled (never said which)
    └── CertificateRevoked  the certificate was revoked
kernel.errors.Retry
└── RevocationsStale        the list of revocations is too old to trust
"""

from __future__ import annotations

from kernel.errors import Conflict, Denied, InvalidInput, NotFound, Retry


class InvalidRequest(InvalidInput):
    """The CSR is malformed, its signature is wrong, or its key is of a kind that is not allowed."""


class AuthorityExists(Conflict):
    """A CA stands there already; it is never overwritten, as every collector would lose its trust."""


class NoAuthority(NotFound):
    """No CA there: `byoc ca init` makes one."""


class TokenRefused(Denied):
    """The token can't be used. The message does not say why: it answers to anyone."""


class CertificateRevoked(Denied):
    """The certificate was revoked; the collector has to be enrolled again."""


class RevocationsStale(Retry):
    """The list of revocations could not be read for too long: nobody is let in on an old list."""
