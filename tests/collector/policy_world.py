"""Policy files and the customer's key."""

from __future__ import annotations

from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from collector.policy_file import render_keys


def policy_text(**fields: object) -> str:
    """Lets milvus_*, up and scrape_* out, with node_id."""
    rule = {"metrics": ["milvus_*", "up", "scrape_*"], "labels": ["job", "instance", "node_id"]}
    return yaml.safe_dump({"allow": [rule], **fields})


def signing_key(folder: Path, name: str = "policy") -> Ed25519PrivateKey:
    """A new key; `<name>.pub` in the folder is its public part."""
    key = Ed25519PrivateKey.generate()
    (folder / f"{name}.pub").write_bytes(render_keys(key)[1])
    return key
