"""Streams of our own protocol, and a gateway that takes them: in this process, with real receipts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from collector.errors import RootNeeded
from collector.identity.receipt_keys import ReceiptKeys
from collector.identity.store import IdentityFolder
from collector.left_meta import FrameMeta
from collector.push.answer import Answer
from collector.push.parts import Proofs
from collector.push.receipts import ReceiptJudge
from collector.push.refusals import Refusals
from collector.push.transport import Push
from collector.push.version import WireProtocol
from collector.spool.lane import LaneSpool
from collector.spool.options import Draft
from collector.spool.receipts import ReceiptStore
from collector.wire import rw1, rw2
from collector.wire.frames import (
    EntryTable,
    FrameLimits,
    GroupGuard,
    GroupReader,
    StreamEncoder,
    Tick,
    UnknownState,
    open_body,
)
from collector.wire.frames.model import Integers
from collector.wire.gaps import parse_notice
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders
from collector.wire.model import Decoded
from collector.wire.receipt import PushName, Receipt, ReceiptSigner, Refusal, render_key_set
from collector.wire.snappy import decompress
from kernel.clock import Clock
from kernel.identity import CertificateAuthority, Identity
from tests.collector.world import ACME, COLLECTOR, LIMITS, Rows, rows_of

GAUGE = b"\x02"
Script = Callable[[Push], Answer | None]


def entry(name: str) -> bytes:
    return GAUGE + b"__name__\xff" + name.encode() + b"\xff"


class FrameStream:
    """One target: its series by name, which may change from scrape to scrape."""

    def __init__(self, number: int) -> None:
        self._table = EntryTable()
        self._encoder = StreamEncoder(number, self._table)
        self._slots: dict[str, int] = {}

    async def append(
        self, lane: LaneSpool, at_ms: int, values: dict[str, float], through_ms: int | None = None
    ) -> int:
        """Scrape and store, as the scrape loop does: encoded again when the group is another one meanwhile."""
        tick = self._tick(at_ms, values)
        while True:
            generation = lane.generation
            blocks = self._encoder.encode(tick, generation)
            meta = FrameMeta(dict.fromkeys(values, (1, 10)))
            draft = Draft(blocks, meta.render(), sum(block.samples for block in blocks), through_ms)
            try:
                return await lane.append(draft, generation)
            except RootNeeded:
                continue
            except Exception:
                self._encoder.reset()
                raise

    def _tick(self, at_ms: int, values: dict[str, float]) -> Tick:
        gone = [name for name in self._slots if name not in values]
        freed = np.array([self._slots.pop(name) for name in gone], np.int32)
        self._table.free(freed)
        new = [name for name in values if name not in self._slots]
        born = self._table.take([entry(name) for name in new])
        self._slots.update(zip(new, born.tolist(), strict=True))
        column = np.zeros(self._table.capacity)
        for name, value in values.items():
            column[self._slots[name]] = value
        return Tick(at_ms, column, None, freed, freed, born)


@dataclass
class Taken:
    """A push that the gateway has in its log."""

    headers: PushHeaders
    body: bytes
    protocol: WireProtocol


@dataclass
class FrameGateway:
    """`script` answers instead, when it gives an answer. `bad`: series that are refused with a 400."""

    authority: CertificateAuthority
    authority_folder: Path
    script: Script | None = None
    bad: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)
    log: list[Taken] = field(default_factory=list)
    tries: list[Push] = field(default_factory=list)
    signer: ReceiptSigner = field(default_factory=lambda: ReceiptSigner(Ed25519PrivateKey.generate()))
    guards: dict[tuple[str, int, int], GroupGuard] = field(default_factory=dict)

    def lose_state(self) -> None:
        self.guards.clear()

    async def send(self, push: Push) -> Answer:
        self.tries.append(push)
        answer = self.script(push) if self.script is not None else None
        return answer or self.take(push)

    def take(self, push: Push) -> Answer:
        """As the real one: 409 without state, 400 for what is bad, else into the log and a receipt."""
        samples = 0
        if push.protocol is WireProtocol.FRAMES:
            body = open_body(push.body, FrameLimits())
            key = push.headers.lane.value, push.headers.epoch, body.group
            guard = self.guards.setdefault(key, GroupGuard())
            try:
                guard.check(body)
            except UnknownState as error:
                return Answer(409, str(error))
            if any(entry(name) in push_entries(body.blocks) for name in self.bad):
                return Answer(400, "bad series", {SAMPLES_WRITTEN: "0"})
            guard.apply(body)
            samples = body.samples
        elif push.protocol is WireProtocol.GAPS:
            parse_notice(push.body)
        else:
            rows = remote_write_rows(push)
            samples = len(rows) + remote_write_content(push).histograms
            if self.bad & {name for name, _, _ in rows}:
                return Answer(400, "bad series", {SAMPLES_WRITTEN: "0"})
        self.log.append(Taken(push.headers, push.body, push.protocol))
        return self.answer(push, samples)

    def answer(self, push: Push, samples: int) -> Answer:
        headers = push.headers
        name = push_name(headers)
        receipt = Receipt(name, sha256(push.body).hexdigest(), samples, 1, (("byoc.samples", 0, len(self.log)),))
        body = self.signer.answer(receipt, [self.signer.sign(one) for one in self.refused])
        return Answer(200, body.decode(), {SAMPLES_WRITTEN: str(samples)})

    async def get(self, _path: str) -> Answer:
        key = load_pem_private_key((self.authority_folder / "ca-key.pem").read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        private = key
        body = render_key_set([self.signer.public], lambda text: private.sign(text, ECDSA(SHA384())))
        return Answer(200, body.decode())

    def rows(self) -> Rows:
        """What a lake makes of the log: state in the order of the log, samples once for each number and part."""
        readers: dict[tuple[str, int, int], tuple[GroupReader, list[bytes]]] = {}
        seen: set[tuple[str, int, int, int]] = set()
        found: Rows = []
        for one in self.log:
            if one.protocol is WireProtocol.GAPS:
                continue
            position = one.headers.lane.value, one.headers.epoch, one.headers.sequence, one.headers.part
            is_new = position not in seen
            seen.add(position)
            if one.protocol is not WireProtocol.FRAMES:
                found += remote_write_rows(one) if is_new else []
                continue
            key = one.headers.lane.value, one.headers.epoch, open_body(one.body, FrameLimits()).group
            if key not in readers:
                entries: list[bytes] = []
                readers[key] = GroupReader(assigner(entries)), entries
            reader, entries = readers[key]
            for rows in reader.read(one.body, samples=is_new):
                columns = rows.series.tolist(), rows.timestamps_ms.tolist(), rows.values.tolist()
                found += [(name_of(entries[series]), at, value) for series, at, value in zip(*columns, strict=True)]
        return found

    def proofs(self, folder: Path, lane: LaneSpool, clock: Clock) -> Proofs:
        """The collector's side of the receipts of this gateway; its identity lies in `folder`."""
        identity = IdentityFolder(folder)
        identity.prepare()
        identity.authority_path.write_bytes(self.authority.certificate_pem)
        who = Identity(ACME, COLLECTOR, "serial", clock.now(), clock.now())
        refusals = Refusals({lane.options.lane.value: lane.gaps}, clock)
        judge = ReceiptJudge(ReceiptKeys(identity), self.get, lambda: who, refusals, clock)
        return Proofs(judge, ReceiptStore(lane.folder / "receipts", clock))


def make_gateway(folder: Path, clock: Clock) -> FrameGateway:
    """With an authority of its own in `folder`."""
    return FrameGateway(CertificateAuthority.create(folder, "byoc.test", clock), folder)


def assigner(entries: list[bytes]) -> Callable[[Sequence[bytes]], Integers]:
    def assign(new: Sequence[bytes]) -> Integers:
        begin = len(entries)
        entries.extend(new)
        return np.arange(begin, len(entries), dtype=np.int64)

    return assign


def push_name(headers: PushHeaders) -> PushName:
    return PushName(
        ACME.organization,
        ACME.project,
        COLLECTOR,
        headers.lane.value,
        headers.epoch,
        headers.sequence,
        headers.part,
    )


def name_of(content: bytes) -> str:
    return content[1:].split(b"\xff")[1].decode()


def push_entries(blocks: object) -> set[bytes]:
    assert isinstance(blocks, Sequence)
    return {one for block in blocks if block.patch is not None for one in block.patch.entries}


def remote_write_rows(push: Push | Taken) -> Rows:
    return rows_of(remote_write_content(push))


def remote_write_content(push: Push | Taken) -> Decoded:
    content = decompress(push.body, 2**31)
    is_version_2 = push.protocol is WireProtocol.RW2
    return rw2.decode_request(content, LIMITS) if is_version_2 else rw1.decode_write_request(content, LIMITS)


def unsigned(answer: Answer) -> Answer:
    """The same answer with a signature that is not of its content."""
    fields = json.loads(answer.text)
    return Answer(answer.status, json.dumps({**fields, "samples": fields["samples"] + 1}), answer.headers)
