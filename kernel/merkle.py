"""Merkle trees of RFC 6962 (section 2.1) and RFC 9162 (sections 2.1.3 and 2.1.4), with SHA-256.

A leaf is any bytes; its hash is SHA-256(0x00 || leaf), a node's SHA-256(0x01 || left || right), so that no leaf
passes for a node. The left subtree of n leaves holds the largest power of two below n.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The 32 bytes that stand for a leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32 bytes over two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves in their order; of none, the SHA-256 of nothing."""
    return root_of_hashes([leaf_hash(leaf) for leaf in leaves])


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """The same from leaf hashes. Level by level: a last odd node moves up as it is, which gives the RFC's tree."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        above = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


class MerkleTree:
    """Leaf hashes with every complete subtree over them, so that proofs at any earlier size are quick.

    Twice the memory of the hashes: 64 bytes a leaf and what Python adds.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._levels: list[list[bytes]] = [list(hashes)]
        while len(level := self._levels[-1]) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            self._levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0])

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The siblings from leaf `index` to the root over the first `size`, lowest first. Raises IndexError."""
        if not 0 <= index < size <= self.size:
            raise IndexError(f"leaf {index} of a tree of {size}")
        return self._path(index, 0, size)

    def consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """What shows that the first `old_size` leaves are the beginning of `new_size`. Raises IndexError."""
        if not 0 < old_size <= new_size <= self.size:
            raise IndexError(f"no proof from {old_size} leaves to {new_size}")
        return self._subproof(old_size, 0, new_size, known=True)

    def _range(self, start: int, end: int) -> bytes:
        """The root over leaves [start, end); `start` is a multiple of the least power of two that holds them."""
        size = end - start
        if size & (size - 1) == 0:
            level = size.bit_length() - 1
            return self._levels[level][start >> level]
        cut = start + _split(size)
        return node_hash(self._range(start, cut), self._range(cut, end))

    def _path(self, index: int, start: int, end: int) -> tuple[bytes, ...]:
        if end - start == 1:
            return ()
        cut = start + _split(end - start)
        if index < cut:
            return (*self._path(index, start, cut), self._range(cut, end))
        return (*self._path(index, cut, end), self._range(start, cut))

    def _subproof(self, old_end: int, start: int, end: int, *, known: bool) -> tuple[bytes, ...]:
        """`known`: the verifier has the root of exactly these leaves already."""
        if old_end == end:
            return () if known else (self._range(start, end),)
        cut = start + _split(end - start)
        if old_end <= cut:
            return (*self._subproof(old_end, start, cut, known=known), self._range(cut, end))
        return (*self._subproof(old_end, cut, end, known=False), self._range(start, cut))


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is the leaf `index` of the tree with that root (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            return False
        if place % 2 or place == last:
            found = node_hash(sibling, found)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and hmac.compare_digest(found, root)


def is_consistent(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the old tree is the beginning of the new one (RFC 9162, section 2.1.4.2)."""
    if not 0 < old_size <= new_size or any(len(node) != HASH_BYTES for node in proof):
        return False
    if old_size == new_size:
        return not proof and hmac.compare_digest(old_root, new_root)
    nodes = list(proof)
    if old_size & (old_size - 1) == 0:  # a whole subtree: its root is the verifier's own
        nodes.insert(0, old_root)
    if not nodes:
        return False
    place, last = old_size - 1, new_size - 1
    while place % 2:
        place, last = place >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if place % 2 or place == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, node)
        place, last = place >> 1, last >> 1
    return last == 0 and hmac.compare_digest(old, old_root) and hmac.compare_digest(new, new_root)


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)
