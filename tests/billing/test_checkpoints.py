"""Checkpoints: each goes on from the one before, a document is proved in one, a rewritten past is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import DBAPIError

from billing.models import checkpoint_leaves, checkpoints
from billing.proof.checkpoint import check_proof, leaf_of, render_proof, sign_checkpoint
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.signatures import load_signature
from billing.proof.statement import InvoiceSigner, canonical_text
from kernel.clock import VirtualClock
from kernel.errors import InvalidInput
from kernel.identity import CertificateAuthority
from kernel.merkle import MerkleTree
from tests.billing.deals import ACME, NOVEMBER_3, Office, contract_text

STATEMENTS = [{"legal_entity": "example-eu", "number": f"N-{number}"} for number in range(1, 8)]


@dataclass(frozen=True)
class Vendor:
    """An authority and a key that it vouches for."""

    authority: CertificateAuthority
    signer: InvoiceSigner

    def chain(self, statements: Sequence[dict[str, str]], sizes: Sequence[int], entity: str) -> list[bytes]:
        """A checkpoint at each size of the tree over `statements`."""
        made: list[bytes] = []
        for size in sizes:
            named = {"legal_entity": entity, "month": "2026-10", "made_at": "2026-11-03T00:00:00.000Z"}
            before = made[-1] if made else None
            made.append(sign_checkpoint(tree_of(statements[:size]), self.signer, before, named))
        return made


def tree_of(statements: Sequence[dict[str, str]]) -> MerkleTree:
    return MerkleTree([leaf_of(statement) for statement in statements])


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    folder = tmp_path_factory.mktemp("authority")
    authority = CertificateAuthority.create(folder, "vendor.example.com", VirtualClock(NOVEMBER_3))
    return Vendor(authority, InvoiceSigner.of(Ed25519PrivateKey.generate(), authority.sign_statement))


def proof_of(vendor: Vendor, index: int, sizes: Sequence[int] = (1, 3, 7)) -> dict[str, Any]:
    chain = vendor.chain(STATEMENTS, sizes, "example-eu")
    proof: dict[str, Any] = json.loads(render_proof(tree_of(STATEMENTS[: sizes[-1]]), chain, index))
    return proof


def check(vendor: Vendor, proof: dict[str, Any], index: int, kept: bytes | None = None) -> list[str]:
    pem = vendor.authority.certificate_pem
    return check_proof(canonical_text(proof), STATEMENTS[index], pem, kept, "checkpoints.json")


def test_every_document_is_in_the_chain_and_every_kept_checkpoint_fits(vendor: Vendor) -> None:
    chain = vendor.chain(STATEMENTS, (1, 3, 7), "example-eu")
    for index in range(7):
        [shown] = check(vendor, proof_of(vendor, index), index)
        first = 1 if index < 1 else 2 if index < 3 else 3
        assert f"checkpoint {first} (2026-10, " in shown
        for kept in chain:
            assert "nothing it holds was rewritten" in check(vendor, proof_of(vendor, index), index, kept)[1]


def test_a_past_that_was_rewritten_does_not_fit_the_checkpoint_that_was_kept(vendor: Vendor) -> None:
    """The vendor signs anew a history in which another document was second."""
    other = [STATEMENTS[0], {**STATEMENTS[1], "number": "N-2-anew"}, *STATEMENTS[2:]]
    kept = vendor.chain(other, (1, 3), "example-eu")[1]
    with pytest.raises(InvalidInput, match="signed two different"):
        check(vendor, proof_of(vendor, 4), 4, kept)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda proof: proof["chain"].pop(1), "consistency"),
        (lambda proof: (proof["chain"].pop(1), proof["consistency"].pop()), "checkpoint 2, position"),
        (lambda proof: (proof["chain"].pop(0), proof["consistency"].pop(0)), "checkpoint 1, position"),
        (lambda proof: proof["consistency"][1].pop(), "checkpoint 3, root"),
        (lambda proof: proof["inclusion"].pop(), "inclusion"),
        (lambda proof: proof["inclusion"].append("00"), "inclusion"),
        (lambda proof: proof.update(index=5), "inclusion"),
        (lambda proof: proof["chain"][2]["statement"].update(size=6), "checkpoint 3: signature"),
        (lambda proof: proof.update(chain=[]), "consistency"),
        (lambda proof: proof.pop("index"), "content"),
        (lambda proof: proof.update(schema="byoc/checkpoints/2"), "schema"),
        (lambda proof: proof["chain"][0].pop("public"), "checkpoint 1: signature"),
    ],
)
def test_what_is_changed_is_named(vendor: Vendor, change: Callable[[dict[str, Any]], object], named: str) -> None:
    proof = proof_of(vendor, 4)
    change(proof)
    with pytest.raises(InvalidInput, match=named):
        check(vendor, proof, 4)


def test_a_kept_checkpoint_of_another_or_of_later_is_refused(vendor: Vendor) -> None:
    foreign = vendor.chain(STATEMENTS, (1,), "example-us")[0]
    with pytest.raises(InvalidInput, match="a checkpoint of example-eu"):
        check(vendor, proof_of(vendor, 0), 0, foreign)
    later = vendor.chain(STATEMENTS, (1, 3, 7), "example-eu")[2]
    with pytest.raises(InvalidInput, match="ask for a bundle written since"):
        check(vendor, proof_of(vendor, 0, (1, 3)), 0, later)


def test_a_month_is_chained_once_whoever_closes_it(office: Office, vendor: Vendor) -> None:
    office.book.add_contract(contract_text(), "contract.yaml", "test")
    run = replace(office.run, signer=vendor.signer)
    store = CheckpointStore(office.database, office.clock, office.audit, vendor.signer)
    closed = run.close(ACME, "2026-10")
    issued = [one.number for one in (*closed.commitments, closed.invoice)]
    with ThreadPoolExecutor(4) as threads:
        made = [one for found in threads.map(store.make, ["2026-10"] * 4) for one in found]
    assert [(one.position, one.size) for one in made] == [(1, 2)]
    assert not store.make("2026-10")
    office.clock.step_wall(32 * 86_400)
    last = run.close(ACME, "2026-11").invoice.number
    assert store.proof(last) is None
    [second] = store.make("2026-11")
    assert [one.size for one in store.chain("example-eu")] == [2, 3]
    for number in (*issued, last):
        proof, signature = store.proof(number), load_signature(office.database, number)
        assert proof
        assert signature
        statement = json.loads(signature)["statement"]
        for kept in (made[0].signed, second.signed):
            assert len(check_proof(proof, statement, vendor.authority.certificate_pem, kept, "proof")) == 2
    assert not office.audit.verify()
    for table in (checkpoints, checkpoint_leaves):
        for change in (sa.update(table).values(position=9), sa.delete(table)):
            with pytest.raises(DBAPIError, match="append-only"):
                office.database.transact(partial(_execute, change))


def _execute(statement: sa.Executable, connection: sa.Connection) -> None:
    connection.execute(statement)


def test_unsigned_documents_make_no_checkpoint(small_office: Office, tmp_path: Path) -> None:
    small_office.book.add_contract(contract_text(), "contract.yaml", "test")
    small_office.run.close(ACME, "2026-10")
    assert not CheckpointStore(small_office.database, small_office.clock, small_office.audit, None).make("2026-10")
