"""Merkle trees as RFC 6962 defines them: the vectors of Certificate Transparency, and laws."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.merkle import (
    MerkleTree,
    is_consistent,
    is_included,
    leaf_hash,
    root_of,
    root_of_hashes,
)
from tests.effort import costly

# The leaves and roots that Certificate Transparency's own tests use.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes(range(0x60, 0x70))
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)

Leaves = st.lists(st.binary(max_size=4), min_size=1, max_size=40)


@pytest.mark.parametrize("size", range(9))
def test_roots_of_certificate_transparency(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


def test_a_leaf_does_not_pass_for_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert root_of([left + right]) != root_of([b"a", b"b"])


@given(Leaves)
def test_root_is_the_recursive_definition(leaves: list[bytes]) -> None:
    def recursive(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return sha256(b"\x00" + part[0]).digest()
        cut = 1
        while cut * 2 < len(part):
            cut *= 2
        return sha256(b"\x01" + recursive(part[:cut]) + recursive(part[cut:])).digest()

    assert root_of(leaves) == recursive(leaves)


@given(Leaves, st.data())
def test_every_leaf_is_included_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof, root = MerkleTree(hashes).inclusion(index, len(hashes)), root_of_hashes(hashes)
    assert is_included(leaves[index], index, len(leaves), proof, root)
    assert not is_included(leaves[index] + b"!", index, len(leaves), proof, root)
    assert not is_included(leaves[index], index, len(leaves), (*proof, root), root)
    for place in range(len(proof)):
        damaged = list(proof)
        damaged[place] = bytes([damaged[place][0] ^ 1]) + damaged[place][1:]
        assert not is_included(leaves[index], index, len(leaves), damaged, root)
        assert not is_included(leaves[index], index, len(leaves), proof[:place] + proof[place + 1 :], root)


@given(Leaves, st.data())
def test_a_beginning_is_consistent_and_another_history_is_not(leaves: list[bytes], data: st.DataObject) -> None:
    old_size = data.draw(st.integers(1, len(leaves)))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof = MerkleTree(hashes).consistency(old_size, len(hashes))
    old, new = root_of_hashes(hashes[:old_size]), root_of_hashes(hashes)
    assert is_consistent(old_size, len(leaves), old, new, proof)
    other = root_of([leaves[0] + b"!", *leaves[1:old_size]])
    assert not is_consistent(old_size, len(leaves), other, new, proof)
    assert not is_consistent(old_size, len(leaves), old, other, proof) or other == new
    for place in range(len(proof)):
        assert not is_consistent(old_size, len(leaves), old, new, proof[:place] + proof[place + 1 :])


@pytest.mark.parametrize(("old_size", "new_size"), [(0, 1), (2, 1), (1, 2)])
def test_no_proof_where_there_can_be_none(old_size: int, new_size: int) -> None:
    assert not is_consistent(old_size, new_size, leaf_hash(b"a"), leaf_hash(b"b"), ())


def test_an_index_outside_the_tree_is_refused() -> None:
    with pytest.raises(IndexError):
        MerkleTree([leaf_hash(b"a")]).inclusion(1, 1)
    with pytest.raises(IndexError):
        MerkleTree([leaf_hash(b"a")]).consistency(2, 1)
    assert not is_included(b"a", 1, 1, (), leaf_hash(b"a"))


@costly(100)
@given(Leaves)
def test_a_tree_that_has_grown_knows_its_earlier_roots_and_proofs(leaves: list[bytes]) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    grown = MerkleTree(hashes)
    for size in range(len(hashes) + 1):
        assert grown.root(size) == root_of_hashes(hashes[:size])
    for size in range(1, len(hashes) + 1):
        assert grown.inclusion(size - 1, size) == MerkleTree(hashes[:size]).inclusion(size - 1, size)
        assert grown.consistency(1, size) == MerkleTree(hashes[:size]).consistency(1, size)
