"""The name of a dictionary: a hash of what it holds, whatever the way there, kept up with what changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from collector.wire.frames.layout import malformed
from collector.wire.frames.model import FrameLimits, Integers
from collector.wire.frames.values import grown

Digests = npt.NDArray[np.uint32]  # shape (n, 4): 128 bits each, little-endian
NAME_BYTES = 16
CHECK_BYTES = 4  # of a name, where a block only refers to it
METRIC_TYPES = 8  # as io.prometheus.write.v2.Metadata.MetricType: unspecified, counter, gauge, ..., stateset


def digest_entries(slots: Integers, entries: Sequence[bytes]) -> Digests:
    """One digest for each entry in its slot."""
    heads = slots.astype("<u4").tobytes()
    joined = b"".join(
        [blake2b(heads[4 * i : 4 * i + 4] + entry, digest_size=16).digest() for i, entry in enumerate(entries)]
    )
    return np.frombuffer(joined, "<u4").reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of all digests modulo 2^128, and how many they are."""

    sum: int = 0
    count: int = 0

    def name(self) -> bytes:
        """The name of a dictionary with this total."""
        return blake2b(self.sum.to_bytes(16, "little") + self.count.to_bytes(4, "little"), digest_size=16).digest()


class Dictionary:
    """Digests by slot. It holds no entries."""

    def __init__(self) -> None:
        self.total = Total()
        self._digests: Digests = np.zeros((0, 4), np.uint32)

    def after(self, freed: Integers, added: Digests) -> Total:
        """The total once `freed` (live slots) are gone and `added` are there; changes nothing."""
        change = _sum(added) - _sum(self._digests[freed])
        total = self.total
        return Total((total.sum + change) % (1 << 128), total.count + len(added) - len(freed))

    def digests_of(self, slots: Integers) -> Digests:
        """The digests that were last in those slots; of slots that were never filled, zeros."""
        found = np.zeros((len(slots), 4), np.uint32)
        there = slots < len(self._digests)
        found[there] = self._digests[slots[there]]
        return found

    def apply(self, born: Integers, added: Digests, total: Total) -> None:
        """Take in what gave `total`."""
        if len(born):
            self._digests = grown(self._digests, int(born[-1]) + 1)
            self._digests[born] = added
        self.total = total


def _sum(digests: Digests) -> int:
    return sum(int(word) << (32 * place) for place, word in enumerate(digests.sum(axis=0, dtype=np.uint64)))


def check_entries(entries: Sequence[bytes], limits: FrameLimits) -> None:
    """Raises WireError unless each is a type and canonical labels within the limits."""
    text = b"".join(entries)
    try:  # the marks become ASCII, so that no character can reach from one text into the next
        text.replace(b"\xff", b"\0").decode()
    except UnicodeDecodeError as error:
        raise malformed("an entry", f"{text[error.start : error.end]!r}", "UTF-8") from error
    for entry in entries:
        names = entry[1:].split(b"\xff")
        rest = names.pop()
        values = names[1::2]
        del names[1::2]
        if rest or not names or len(names) != len(values) or not all(values) or not names[0]:
            raise malformed("an entry", repr(entry[:80]), "a type, then pairs of a name and a value, none empty")
        if entry[0] >= METRIC_TYPES or len(names) > limits.max_labels:
            raise malformed("an entry", repr(entry[:80]), f"a known type, at most {limits.max_labels} labels")
        if len(names) > 1 and not all(map(bytes.__lt__, names, names[1:])):
            raise malformed("an entry", repr(entry[:80]), "labels sorted by name, each once")
