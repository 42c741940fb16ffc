"""Signatures of Standard Webhooks 1.0.0, scheme v1: HMAC-SHA256 of `id.timestamp.body`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence


def sign(keys: Sequence[bytes], webhook_id: str, timestamp_seconds: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,<base64>` for each key, so that a secret can be rotated."""
    signed = f"{webhook_id}.{timestamp_seconds}.".encode() + body
    digests = [hmac.digest(key, signed, "sha256") for key in keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def signed_headers(keys: Sequence[bytes], webhook_id: str, timestamp_seconds: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": sign(keys, webhook_id, timestamp_seconds, body),
    }
