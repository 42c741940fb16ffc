"""What leaves instead of a value: `p-` and 80 bits of HMAC-SHA-256 over label name and value, remembered."""

from __future__ import annotations

from hashlib import sha256

MOST_REMEMBERED = 50_000  # of all labels together; a target chooses how many values there are
_MOST_LABELS = 10_000


class Pseudonyms:
    """Keyed. Name and value go in, so joins by label still work. `key`: at least 16 secret bytes."""

    def __init__(self, key: bytes) -> None:
        # HMAC (RFC 2104) with both halves of the key taken in once: `hmac` takes thrice as long for each value.
        block = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))
        self._labels: dict[str, LabelPseudonyms] = {}
        self._remembered = 0

    def of(self, name: str) -> LabelPseudonyms:
        """Those of one label: a mapping that knows every value."""
        found = self._labels.get(name)
        if found is None:
            found = LabelPseudonyms(self, name, remembers=len(self._labels) < _MOST_LABELS)
            if found.remembers:
                self._labels[name] = found
        return found

    def make(self, text: bytes) -> bytes:
        """Of name, NUL and value."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return b"p-" + outer.hexdigest()[:20].encode()

    def remember(self) -> None:
        """One more is about to be."""
        self._remembered += 1
        if self._remembered > MOST_REMEMBERED:
            for label in self._labels.values():
                label.clear()
            self._remembered = 1


class LabelPseudonyms(dict[bytes, bytes]):
    """Values of one label, UTF-8, and what stands for them."""

    def __init__(self, owner: Pseudonyms, name: str, *, remembers: bool) -> None:
        super().__init__()
        self.remembers = remembers
        self._owner = owner
        self._begin = name.encode() + b"\0"

    def __missing__(self, value: bytes) -> bytes:
        made = self._owner.make(self._begin + value)
        if self.remembers:
            self._owner.remember()
            self[value] = made
        return made
