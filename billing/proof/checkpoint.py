"""Checkpoints: signed roots of the tree over all documents of a legal entity, each naming the one before.

The tree is RFC 6962's and only grows; its leaves are the signed statements in the order in which checkpoints took
them in. Whoever kept one can show with any later one that nothing issued before was changed or taken out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

from billing.proof.statement import InvoiceSigner, canonical_text, open_signed
from kernel.errors import InvalidInput, truncate
from kernel.merkle import MerkleTree, is_consistent, is_included, leaf_hash

SCHEMA, PROOF_SCHEMA = "byoc/checkpoint/1", "byoc/checkpoints/1"
CHECKPOINTS = "checkpoints.json"


def leaf_of(statement: Mapping[str, Any]) -> bytes:
    """The hash that stands in the tree for a document's signed statement."""
    return leaf_hash(canonical_text(statement))


def sign_checkpoint(
    tree: MerkleTree, signer: InvoiceSigner, before: bytes | None, named: Mapping[str, str]
) -> bytes:
    """The checkpoint of a whole tree after `before`, signed. `named`: legal_entity, month, made_at."""
    last = json.loads(before)["statement"] if before else None
    statement = {
        "schema": SCHEMA,
        **named,
        "position": last["position"] + 1 if last else 1,
        "size": tree.size,
        "root": tree.root(tree.size).hex(),
        "previous": _hash(last) if last else None,
    }
    return signer.sign(statement)


def render_proof(tree: MerkleTree, chain: Sequence[bytes], index: int) -> bytes:
    """`checkpoints.json`: every checkpoint of the legal entity, how each goes on from the one before, and how leaf
    `index` lies in the last one's tree.
    """
    sizes = [json.loads(signed)["statement"]["size"] for signed in chain]
    proof = {
        "schema": PROOF_SCHEMA,
        "chain": [json.loads(signed) for signed in chain],
        "consistency": [_hexed(tree.consistency(old, new)) for old, new in pairwise(sizes)],
        "index": index,
        "inclusion": _hexed(tree.inclusion(index, sizes[-1])),
    }
    return canonical_text(proof)


def check_proof(
    content: bytes, statement: Mapping[str, Any], authority_pem: bytes, kept: bytes | None, source: str
) -> list[str]:
    """What `checkpoints.json` shows of a document's signed statement, in words.

    `kept`: an earlier checkpoint from another hand. Raises InvalidInput that names what does not fit.
    """
    try:
        proof = json.loads(content)
        if proof["schema"] != PROOF_SCHEMA:
            raise _wrong(source, "schema", repr(proof["schema"]), PROOF_SCHEMA)
        chain = [
            open_signed(canonical_text(signed), authority_pem, f"{source}, checkpoint {number}")
            for number, signed in enumerate(proof["chain"], start=1)
        ]
        _check_chain(chain, proof["consistency"], statement["legal_entity"], source)
        last, index = chain[-1], proof["index"]
        inclusion = [bytes.fromhex(node) for node in proof["inclusion"]]
        root = bytes.fromhex(last["root"])
        if not is_included(canonical_text(statement), index, last["size"], inclusion, root):
            raise _wrong(source, "inclusion", f"leaf {index} of {last['size']}", "a proof of this document")
        taken_in = next(one for one in chain if index < one["size"])
        shown = [f"checkpoints: {_name(taken_in)} is the first with this document; {len(chain)} are chained"]
        if kept is not None:
            shown.append(_check_kept(chain, open_signed(kept, authority_pem, "checkpoint kept"), source))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _wrong(source, "content", truncate(repr(error)), f"what schema {PROOF_SCHEMA} says") from error
    return shown


def _check_chain(chain: Sequence[Mapping[str, Any]], proofs: Sequence[Any], entity: str, source: str) -> None:
    if len(proofs) != len(chain) - 1:
        raise _wrong(source, "consistency", f"{len(proofs)} proofs", f"{len(chain) - 1}, one between each two")
    for number, one in enumerate(chain, start=1):
        for name, value in (("schema", SCHEMA), ("legal_entity", entity), ("position", number)):
            if one[name] != value:
                raise _wrong(source, f"checkpoint {number}, {name}", repr(one[name]), repr(value))
    if chain[0]["previous"] is not None:
        raise _wrong(source, "checkpoint 1, previous", repr(chain[0]["previous"]), "none: it is the first")
    for (before, one), proof in zip(pairwise(chain), proofs, strict=True):
        where = f"checkpoint {one['position']}"
        if one["previous"] != _hash(before):
            raise _wrong(source, f"{where}, previous", repr(one["previous"]), "the hash of the one before")
        nodes = [bytes.fromhex(node) for node in proof]
        roots = bytes.fromhex(before["root"]), bytes.fromhex(one["root"])
        if not is_consistent(before["size"], one["size"], *roots, nodes):
            raise _wrong(source, f"{where}, root", one["root"], "a tree that begins as the one before")


def _check_kept(chain: Sequence[Mapping[str, Any]], kept: Mapping[str, Any], source: str) -> str:
    if kept["schema"] != SCHEMA or kept["legal_entity"] != chain[0]["legal_entity"]:
        found = f"{kept.get('schema')} of {kept.get('legal_entity')}"
        raise _wrong("checkpoint kept", "legal_entity", found, f"a checkpoint of {chain[0]['legal_entity']}")
    if kept["position"] > len(chain):
        allowed = f"at most {len(chain)}, the bundle's last: ask for a bundle written since"
        raise _wrong("checkpoint kept", "position", str(kept["position"]), allowed)
    if chain[kept["position"] - 1] != kept:
        allowed = f"the one that was kept: the vendor has signed two different {_name(kept)}; keep both"
        raise _wrong(source, f"checkpoint {kept['position']}", "another", allowed)
    return f"checkpoints: {_name(kept)}, which you kept, is one of them: nothing it holds was rewritten since"


def _name(statement: Mapping[str, Any]) -> str:
    return f"checkpoint {statement['position']} ({statement['month']}, {statement['size']} documents)"


def _hash(statement: Mapping[str, Any]) -> str:
    return sha256(canonical_text(statement)).hexdigest()


def _hexed(nodes: Sequence[bytes]) -> list[str]:
    return [node.hex() for node in nodes]


def _wrong(source: str, where: str, found: str, allowed: str) -> InvalidInput:
    return InvalidInput.single(source, where, found, allowed)
