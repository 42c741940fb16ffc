"""The last signed policy that was accepted, kept beside the identity: what holds while no valid file is there.

It is believed no more than the file: the signature is checked again at every read. Its version is the floor for the
next. Who can write into the identity folder can delete it, and with it the floor.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from collector.errors import PolicyRefused
from collector.policy_file import PolicyFile, parse_policy
from collector.spool.files import load_checked, save_checked
from kernel.errors import InvalidInput
from kernel.logs import logger

_log = logger("policy")


@dataclass(frozen=True, slots=True)
class AcceptedPolicy:
    """A file of one policy. All methods block."""

    path: Path

    def load(self, key: Ed25519PublicKey) -> PolicyFile | None:
        """The accepted policy; None when there is none that this key signed."""
        fields = load_checked(self.path)
        if fields is None:
            return None
        try:
            raw = base64.b64decode(fields["raw"], validate=True)
            detached = fields["detached"]
            policy = parse_policy(raw, str(self.path), detached.encode() if detached else None)
            policy.check_signature(key)
        except (KeyError, TypeError, AttributeError, ValueError, InvalidInput, PolicyRefused) as error:
            _log.error("accepted_policy_refused", error=str(error))
            return None
        return policy

    def save(self, policy: PolicyFile) -> None:
        """Durable when it returns. Raises OSError."""
        detached = policy.detached_line() if policy.raw == policy.content else ""
        save_checked(self.path, {"raw": base64.b64encode(policy.raw).decode(), "detached": detached})


def check_version(policy: PolicyFile, accepted: PolicyFile | None) -> None:
    """Raises PolicyRefused for one that is not newer than the accepted one, unless it is the same."""
    number = policy.document.version
    if number < 1:
        raise PolicyRefused(f"{policy.source}: version {number}: a signed policy has one from 1")
    if accepted is None or policy.content == accepted.content:
        return
    if number <= accepted.document.version:
        raise PolicyRefused(
            f"{policy.source}: version {number} is not above {accepted.document.version}, the last accepted one:"
            " raise `version` and sign again"
        )
