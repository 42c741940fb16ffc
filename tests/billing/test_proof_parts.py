"""Pushes that were refused and went in parts: what of them arrived counts, and is proved."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256

import pytest

from billing.proof.evidence import Evidence
from collector.push.groups import GroupDecoder, Undecodable, frames_between
from collector.spool.frame import Frame
from collector.spool.kept_parts import KeptParts
from collector.spool.receipts import ReceiptStore
from collector.spool.segment import SegmentName, scan
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.receipt import PushName, Receipt, ReceiptSigner, Signed
from collector.wire.snappy import compress
from kernel.clock import SystemClock
from kernel.identity import CertificateAuthority
from metering.batches import StoredBatch
from metering.record import parse_canonical_labels
from metering.usage.meter import LICENCE_METER, TARGET_UP
from tests.billing.billed_world import Billed
from tests.billing.proof_world import given, lane, refusal, sign_again
from tests.billing.test_proof_frames import BOTH, NO_CHECKPOINT


class Cut:
    """The third push of collector-a as if the gateway had refused it whole, and then taken parts of it."""

    def __init__(self, original: Billed, billed: Billed) -> None:
        authority = CertificateAuthority.open(original.folder / "authority", SystemClock())
        self._signer = ReceiptSigner(authority.receipt_key())
        self._lane = billed.folder / "spool-a" / "billing"
        batches = given(billed).evidence.batches
        self.batch = next(one for one in batches if (one.collector, one.number) == ("collector-a", 3))
        self.segments = [
            (path, name) for path in self._lane.rglob("*.seg") if (name := SegmentName.parse(path.name))
        ]
        frames = (one for path, name in self.segments for one in scan(path, name, path.stat().st_size))
        self.frame = next(one for one in frames if isinstance(one, Frame) and one.sequence == 3)
        decoder = GroupDecoder(lambda one, after: frames_between(self.segments, one, after))
        self.series = decoder.series(self.frame)

    def take(self, ranges: Mapping[int, tuple[int, int]]) -> tuple[StoredBatch, ...]:
        """Parts and their series: receipts that the collector keeps, and how the vendor names them."""
        receipts, found = ReceiptStore(self._lane / "receipts", SystemClock()), []
        for part, (start, stop) in ranges.items():
            digest = sha256(compress(encode_rw2(self.series[start:stop]))).hexdigest()
            name = PushName("acme", "prod", "collector-a", "billing", self.frame.epoch, 3, part)
            position = self.batch.topic, self.batch.partition, self.batch.offset
            content = Receipt(name, digest, 1, 1000, (position,))
            signature = b64decode(self._signer.sign(content)["signature"])
            receipts.append(Signed(content, self._signer.key, signature))
            offset = self.batch.offset + 100 * (part - 1)
            found.append(self.batch._replace(part=part, sha256=digest, offset=offset))
        receipts.close()
        return tuple(found)


def test_a_push_that_went_in_parts_is_proved_by_them(original: Billed, billed: Billed) -> None:
    cut = Cut(original, billed)
    half, whole = len(cut.series) // 2, len(cut.series)
    parts = cut.take({1: (0, half), 2: (half, whole)})

    def named(*some: StoredBatch) -> Callable[[Evidence], Evidence]:
        def change(evidence: Evidence) -> Evidence:
            others = tuple(one for one in evidence.batches if one != cut.batch)
            files = tuple(
                replace(file, offsets=tuple(each._replace(last=each.last + 100) for each in file.offsets))
                for file in evidence.files
            )
            batches = tuple(sorted((*others, *some), key=lambda one: one[:3]))
            return replace(evidence, files=files, batches=batches)

        return change

    whole_evidence = given(billed).evidence
    sign_again(original, billed, named(*parts))
    assert billed.verify(*BOTH).unproved == (NO_CHECKPOINT,)
    sign_again(original, billed, lambda _: named(parts[0])(whole_evidence))
    assert "number 3 part 2, which the vendor received and the invoice leaves out" in refusal(billed, *BOTH)
    wrong = parts[1]._replace(sha256="0" * 64)
    sign_again(original, billed, lambda _: named(parts[0], wrong)(whole_evidence))
    assert "number 3 part 2 with sha256 000" in refusal(billed, *BOTH)


def test_of_a_push_whose_parts_were_refused_the_rest_counts(original: Billed, billed: Billed) -> None:
    """Part 2, the second half, was refused and cut: of it part 3 arrived, and from part 4 on nothing."""
    cut = Cut(original, billed)
    half, whole = len(cut.series) // 2, len(cut.series)
    middle = (half + whole) // 2
    accepted = {one.part or 0: one.sha256 for one in cut.take({1: (0, half), 3: (half, middle)})}
    kept = KeptParts(cut.segments)
    arrived = kept.arrived(cut.frame, accepted)
    assert [one.labels for one in arrived.series] == [one.labels for one in cut.series[:middle]]
    assert (arrived.parts, arrived.same) == (2, 2)
    assert kept.arrived(cut.frame, accepted | {1: "0" * 64}).same == 1
    with pytest.raises(Undecodable, match="has the parts 1, 77"):
        kept.arrived(cut.frame, {1: accepted[1], 77: accepted[3]})
    lane_a, position = lane(billed, "spool-a"), ("billing", *cut.frame.position)
    every = lane_a.frames(0, 2**62, {}, {position: accepted})
    [rows] = [rows for frame, rows in every if (frame.lane, frame.epoch, frame.number) == position]
    expected = {dict(one.labels)["__name__"] for one in cut.series[:middle]} & {LICENCE_METER.metric, TARGET_UP}
    found = {dict(parse_canonical_labels(lane_a.labels[one]))["__name__"] for one in rows.series.tolist()}
    assert found == expected
