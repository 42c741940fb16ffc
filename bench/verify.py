"""Checking an invoice as a customer does: its 200,000 rows, and its hours again from the frames that were kept.

The proof is of a bundle on disk: signature, Merkle root over the rows, sums, amounts. The frames are those of a
billing lane: each scrape a push of its own, hourly segments, a thousand series a target, some of them gauges of the
licence; they are read, checksummed, hashed, decoded, and made into hours. Signatures of receipts are timed apart.
All runs in one thread, so the figures are of its processor time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.machine import note
from bench.outcome import Budget, Outcome
from billing.api import InvoiceRun
from billing.proof.bundle import render_bundle, write_bundle
from billing.proof.columns import Columns, computed_hours
from billing.proof.signatures import load_signature, open_signer
from billing.proof.verify import verify_bundle
from collector.spool.frame import Frame, PayloadKind, encode_frame
from collector.spool.kept import KeptLane
from collector.spool.segment import SegmentName
from collector.wire.frames import Block, EntryTable, StreamEncoder, Tick, join_blocks
from collector.wire.headers import PushLane
from collector.wire.receipt import PushName, Receipt, ReceiptSigner, Signed, verify
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.identity import CertificateAuthority
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import DAY_MS, HOUR_MS, Window, hours_in
from metering.usage.meter import LICENCE_METER, TARGET_UP
from metering.usage.model import MeterRequest, MeterUsage, UsageMonth
from metering.usage.rows import UsageRow, UsageRows
from tests.billing.deals import Office, contract_text

MONTH = "2026-10"
ROWS = 200_000
INTERVAL_MS, LIMIT_MS = 15_000, 300_000
TARGETS, SERIES, GAUGES = 10, 1_000, 300  # series of a target; those of the licence, all at one
T0 = 1_790_812_800_000  # 2026-10-01T00:00Z
SAMPLES_PER_SECOND = 10_000_000
BUDGET = Budget(5.0)


class Rows:
    """Sealed usage of so many components; each hour another level."""

    def __init__(self, components: int) -> None:
        self._components = components

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        rows, points, sums = [], [], 0
        file = f"2026-10-01/acme/prod/byoc.samples-0-{0:020d}-{9:020d}-{'0' * 64}.parquet {'0' * 64}"
        for place, hour in enumerate(hours_in(window)):
            levels = [1000 * (1 + (number + place // 24) % 8) for number in range(self._components)]
            if sum(levels) != sums:
                sums = sum(levels)
                points.append((hour.start_ms, sums))
            rows += [_row(organization, number, hour, level, file) for number, level in enumerate(levels)]
        step = StepFunction.of([*points, (window.end_ms, 0)])
        observed = sum(row.observed_ms for row in rows)
        kept = UsageRows.of(organization, rows)
        return UsageMonth(organization, window, kept, step, observed, 0, kept.digest, sealed=True)

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        return False

    def metered(self, requests: Sequence[MeterRequest]) -> list[MeterUsage]:
        raise NotImplementedError("the contract has no charges")


def _row(organization: OrganizationId, number: int, hour: Window, level: int, file: str) -> UsageRow:
    return UsageRow(
        organization=organization,
        project=ProjectId("prod"),
        cluster=ClusterId(f"c{number // 3:03d}"),
        component=sorted(LICENCE_METER.components)[number % 3],
        hour=hour,
        revision=1,
        milli_vcpu_ms=level * HOUR_MS,
        observed_ms=HOUR_MS,
        missing_ms=0,
        peak_milli_vcpu=level,
        sources=(file,),
    )


def measure(*, quick: bool, rows: int = ROWS, hours: int | None = None) -> Outcome:
    """Seconds for the proof of 200,000 rows; the rate of frames must hold too."""
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        proof, found = _prove(folder, rows, 2 if quick else 3)
        note(f"verify: {found} rows proved in {proof} s")
        usual = _recompute(folder / "usual", TARGETS, GAUGES, hours or (2 if quick else 12))
        note(f"verify: frames of {TARGETS} targets, {GAUGES} gauges at one of them: {usual}")
        alone = _recompute(folder / "alone", 1, SERIES - 1, hours or (2 if quick else 12))
        note(f"verify: frames of gauges alone: {alone}")
    scale = ROWS / found
    return Outcome(
        "verify",
        f"seconds of a core for the proof of {ROWS} rows",
        [seconds * scale for seconds in proof],
        [],
        BUDGET,
        {
            "rows": found,
            "multiplied_by": round(scale, 4),
            "samples": usual.samples,
            "samples_per_second": round(usual.rate),
            "samples_per_second_budget": SAMPLES_PER_SECOND,
            "gauges_of_series": f"{GAUGES} of {SERIES * TARGETS}, at one target of {TARGETS}",
            "samples_per_second_of_gauges_alone": round(alone.rate),
            "bytes_per_day_of_1000_series": round(usual.size / TARGETS * DAY_MS / usual.span_ms),
            "receipts_per_second": round(_receipt_rate(500 if quick else 3000)),
        },
        extra_holds=usual.rate >= SAMPLES_PER_SECOND,
    )


def _prove(folder: Path, rows: int, runs: int) -> tuple[list[float], int]:
    """Seconds of each run, and how many rows it was."""
    components = max(1, rows // (31 * 24))
    database = Database(sqlite_url(folder / "byoc.sqlite"))
    migrate(database)
    office = Office(database)
    authority = CertificateAuthority.create(folder / "authority", "vendor.example.com", office.clock)
    office.book.add_contract(contract_text(), "contract.yaml", "bench")
    usage, owner = Rows(components), OrganizationId("acme")
    run = InvoiceRun(
        database, usage, office.clock, office.audit, "bench", open_signer(folder / "authority", office.clock)
    )
    issued = run.close(owner, MONTH).invoice
    month = usage.month(owner, Window(T0, T0 + 31 * DAY_MS))
    signature = load_signature(database, issued.number)
    assert signature is not None
    write_bundle(folder / "bundle", render_bundle(issued.json, month, lambda _: signature))
    database.close()
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        verified = verify_bundle(folder / "bundle", authority.certificate_pem)
        seconds.append(time.process_time() - started)
        assert any(f"rows: {len(month.rows)} rows" in text for text in verified.proved), verified
    return [round(one, 3) for one in seconds], len(month.rows)


@dataclass(frozen=True)
class _Rate:
    samples: int
    seconds: float  # median
    rows: int
    size: int  # bytes of the segments
    span_ms: int

    @property
    def rate(self) -> float:
        return self.samples / self.seconds


def _recompute(folder: Path, targets: int, gauges: int, hours: int) -> _Rate:
    samples, size = _fill(folder / "billing" / "archive", targets, gauges, hours)
    window = Window(T0, T0 + hours * HOUR_MS)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        rows = _once(folder, window)
        seconds.append(time.process_time() - started)
    return _Rate(samples, statistics.median(seconds), rows, size, window.length_ms)


def _once(folder: Path, window: Window) -> int:
    kept, columns = KeptLane(folder, {}, LICENCE_METER.metric, TARGET_UP), Columns()
    for _, rows in kept.frames(window.start_ms, window.end_ms, {}):
        if len(rows.series):
            columns.add(rows.series, rows.times_ms, rows.values)
    columns.labels, columns.owners = kept.labels, [("prod", "collector-a")] * len(kept.labels)
    found = computed_hours(columns, list(hours_in(window)), LIMIT_MS, frozenset())
    return sum(len(each.components) for each in found.values())


def _fill(folder: Path, targets: int, gauges: int, hours: int) -> tuple[int, int]:
    """Scrapes as kept segments, an hour each, each scrape a push of its own; samples and bytes."""
    folder.mkdir(parents=True)
    scraped = [_Target(number, gauges if number == 0 else 0) for number in range(targets)]
    sequence = size = 0
    for hour in range(hours):
        name, content = SegmentName.new(1, hour + 1, sequence + 1), []
        for at_ms in range(T0 + hour * HOUR_MS, T0 + (hour + 1) * HOUR_MS, INTERVAL_MS):
            for target in scraped:
                body = join_blocks(hour + 1, target.scrape(at_ms, hour + 1))
                sequence += 1
                frame = Frame(1, sequence, PushLane.BILLING, at_ms, SERIES, b"", body, PayloadKind.FRAMES, at_ms)
                content.append(encode_frame(frame, name.salt))
        (folder / str(name)).write_bytes(b"".join(content))
        size += sum(map(len, content))
    return sequence * SERIES, size


class _Target:
    """`up`, `gauges` of the licence, that change now and then, and counters."""

    def __init__(self, number: int, gauges: int) -> None:
        self._table, self._gauges = EntryTable(), gauges
        self._encoder = StreamEncoder(number + 1, self._table)
        self._generator = np.random.default_rng(number)
        self._born = self._table.take([_entry(number, series, gauges) for series in range(SERIES)])
        self._rates = self._generator.integers(0, 200, self._table.capacity).astype(np.float64)
        self._rates[self._born[: gauges + 1]] = 0
        self._values = 1000 * self._rates
        self._values[self._born[: gauges + 1]] = 1.0
        self._scrapes = 0

    def scrape(self, at_ms: int, group: int) -> list[Block]:
        none = np.empty(0, np.int32)
        born = none if self._scrapes else self._born
        self._values = self._values + self._rates
        if self._gauges and self._scrapes % 40 == 0:
            places = self._born[1 : self._gauges + 1]
            self._values[places] = self._generator.integers(1, 64, self._gauges) / 4
        self._scrapes += 1
        return list(self._encoder.encode(Tick(at_ms, self._values, None, none, none, born), group))


def _entry(target: int, number: int, gauges: int) -> bytes:
    labels = {"instance": f"10.0.0.{target}:9091", "job": "milvus", "cluster": f"c{number // 3}"}
    if number == 0:
        labels["__name__"] = TARGET_UP
    elif number <= gauges:
        labels |= {"__name__": LICENCE_METER.metric, "component": sorted(LICENCE_METER.components)[number % 3]}
    else:
        labels |= {"__name__": "byoc_requests_total", "method": f"m{number}"}
    return b"\x02" + b"".join(
        f"{name}\0{text}\0".encode().replace(b"\0", b"\xff") for name, text in sorted(labels.items())
    )


def _receipt_rate(count: int) -> float:
    """Receipts a second whose signature is verified."""
    signer = ReceiptSigner(Ed25519PrivateKey.generate())
    signed = []
    for number in range(count):
        name = PushName("acme", "prod", "collector-a", "billing", 1, number, 0)
        receipt = Receipt(name, sha256(b"%d" % number).hexdigest(), 1000, T0, (("byoc.samples", 0, number),))
        signed.append(Signed(receipt, signer.key, b64decode(signer.sign(receipt)["signature"])))
    started = time.process_time()
    for one in signed:
        verify(one, {signer.key: signer.public})
    return count / (time.process_time() - started)
