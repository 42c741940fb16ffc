"""The keys that gateways sign receipts with, kept beside the identity: each is vouched for by our authority."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

from collector.identity.store import IdentityFolder
from collector.spool.files import write_atomically
from collector.wire.errors import WireError
from collector.wire.receipt import KeySet, canonical, parse_key_set

MAX_KEYS = 1000


class ReceiptKeys:
    """Blocking. Keys are added, never taken away: an old receipt stays verifiable."""

    def __init__(self, folder: IdentityFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # lanes ask at the same time
        self.path: Path = folder.folder / "receipt-keys.json"

    def load(self) -> KeySet:
        """What is kept. Raises WireError for a file that somebody changed, OSError without an authority."""
        if not self.path.is_file():
            return {}
        return parse_key_set(self.path.read_bytes(), self._folder.authority_path.read_bytes())

    def add(self, body: bytes) -> KeySet:
        """Take in what a gateway answered. Raises WireError (nothing is kept then), OSError."""
        with self._lock:
            return self._add(body)

    def _add(self, body: bytes) -> KeySet:
        parse_key_set(body, self._folder.authority_path.read_bytes())
        kept: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, WireError):
            self.load()
            kept = json.loads(self.path.read_bytes())["keys"]
        by_name = {one["key"]: one for one in [*kept, *json.loads(body)["keys"]]}
        newest = list(by_name.values())[-MAX_KEYS:]
        write_atomically(self.path, canonical({"v": 1, "keys": newest}), 0o644)
        return self.load()
