"""Checkpoints in the database: made after a month was closed, and read for a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from billing.document import utc_text
from billing.models import checkpoint_leaves, checkpoints, invoices, signatures
from billing.proof.checkpoint import leaf_of, render_proof, sign_checkpoint
from billing.proof.statement import InvoiceSigner
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.merkle import MerkleTree


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One as it is stored; `signed` is the file that is handed out."""

    legal_entity: str
    position: int
    month: str
    size: int
    signed: bytes

    @property
    def root(self) -> str:
        """Of the tree, in hex."""
        return str(json.loads(self.signed)["statement"]["root"])


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """Methods block; call them from a worker thread."""

    database: Database
    clock: Clock
    audit: AuditLog
    signer: InvoiceSigner | None
    actor: str = "billing"

    def make(self, month: str) -> list[Checkpoint]:
        """A checkpoint of each legal entity that has issued since its last one; of the others none.

        What is being issued at this moment comes into the next. None at all where documents are not signed.
        """
        if self.signer is None:
            return []
        behind = self.database.read(_behind)
        made = [self.database.transact(partial(self._make, one, month, self.signer)) for one in behind]
        return [one for one in made if one is not None]

    def _make(self, entity: str, month: str, signer: InvoiceSigner, connection: sa.Connection) -> Checkpoint | None:
        self._take_turn(connection, entity)
        new = list(_new_statements(connection, entity))
        if not new:
            return None  # another was faster
        leaves = _leaves(connection, entity)
        added = [leaf_of(statement) for _, statement in new]
        rows = [
            {"legal_entity": entity, "position": place, "number": number, "leaf": leaf.hex()}
            for place, ((number, _), leaf) in enumerate(zip(new, added, strict=True), start=len(leaves))
        ]
        connection.execute(checkpoint_leaves.insert(), rows)
        crash_point("billing.checkpoint-leaves-stored")
        tree = MerkleTree([*leaves, *added])
        chain = _chain(connection, entity)
        now_ms = self.clock.now_ms()
        named = {"legal_entity": entity, "month": month, "made_at": utc_text(now_ms)}
        signed = sign_checkpoint(tree, signer, chain[-1].signed if chain else None, named)
        crash_point("billing.checkpoint-signed")
        made = Checkpoint(entity, len(chain) + 1, month, tree.size, signed)
        connection.execute(
            checkpoints.insert().values(
                legal_entity=entity,
                position=made.position,
                month=month,
                size=made.size,
                signed=signed.decode(),
                made_ms=now_ms,
            )
        )
        crash_point("billing.checkpoint-stored")
        details = {"position": str(made.position), "size": str(made.size), "root": made.root}
        self.audit.append(connection, self.actor, "invoice.checkpoint", entity, details)
        return made

    def chain(self, entity: str | None = None) -> list[Checkpoint]:
        """All checkpoints (of one legal entity), first to last."""
        return self.database.read(lambda connection: _chain(connection, entity))

    def proof(self, number: str) -> bytes | None:
        """`checkpoints.json` for a document; None while no checkpoint holds it."""

        def read(connection: sa.Connection) -> bytes | None:
            query = sa.select(checkpoint_leaves).where(checkpoint_leaves.c.number == number)
            found = connection.execute(query).first()
            if found is None:
                return None
            chain = [one.signed for one in _chain(connection, found.legal_entity)]
            return render_proof(MerkleTree(_leaves(connection, found.legal_entity)), chain, found.position)

        return self.database.read(read)

    def _take_turn(self, connection: sa.Connection, entity: str) -> None:
        """One checkpoint of a legal entity at a time. SQLite has one writer anyway."""
        if not self.database.is_sqlite:
            key = int.from_bytes(sha256(f"checkpoint/{entity}".encode()).digest()[:8], "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _is_new() -> Any:
    taken = sa.select(checkpoint_leaves.c.number).where(checkpoint_leaves.c.number == signatures.c.number)
    return ~taken.exists()


def _behind(connection: sa.Connection) -> list[str]:
    query = sa.select(signatures.c.legal_entity).distinct().where(_is_new())
    return sorted(connection.execute(query).scalars())


def _new_statements(connection: sa.Connection, entity: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """By time of issue, then number."""
    query = (
        sa.select(signatures.c.number, signatures.c.signed)
        .join(invoices, invoices.c.number == signatures.c.number)
        .where(signatures.c.legal_entity == entity, _is_new())
        .order_by(invoices.c.issued_ms, signatures.c.number)
    )
    for row in connection.execute(query):
        yield row.number, json.loads(row.signed)["statement"]


def _leaves(connection: sa.Connection, entity: str) -> list[bytes]:
    query = (
        sa.select(checkpoint_leaves.c.leaf)
        .where(checkpoint_leaves.c.legal_entity == entity)
        .order_by(checkpoint_leaves.c.position)
    )
    return [bytes.fromhex(leaf) for leaf in connection.execute(query).scalars()]


def _chain(connection: sa.Connection, entity: str | None) -> list[Checkpoint]:
    query = sa.select(checkpoints).order_by(checkpoints.c.legal_entity, checkpoints.c.position)
    if entity is not None:
        query = query.where(checkpoints.c.legal_entity == entity)
    return [
        Checkpoint(row.legal_entity, row.position, row.month, row.size, row.signed.encode())
        for row in connection.execute(query)
    ]
