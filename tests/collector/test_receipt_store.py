"""Receipts on disk: what was kept comes back as it was, or its place is named; never another one."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from collector.spool.receipts import ReceiptDamage, ReceiptStore
from collector.wire.receipt import Receipt, Signed
from kernel.clock import SystemClock
from tests.collector.test_receipts import RECEIPT
from tests.effort import costly


def signed(number: int, topic: str = "byoc.samples") -> Signed[Receipt]:
    name = replace(RECEIPT.name, sequence=number)
    receipt = replace(RECEIPT, name=name, samples=number, log=((topic, 1, number), ("byoc.history", 2, 3)))
    return Signed(receipt, "key-1" if number < 5 else "key-2", bytes([number] * 64))


def fill(folder: Path, count: int) -> list[Signed[Receipt]]:
    store = ReceiptStore(folder, SystemClock())
    kept = [signed(number, f"topic-{number % 3}") for number in range(1, count + 1)]
    for one in kept:
        store.append(one)
    store.close()
    return kept


def test_receipts_come_back_over_restarts_small(tmp_path: Path) -> None:
    first, second = fill(tmp_path, 7), fill(tmp_path, 200)
    assert list(ReceiptStore(tmp_path, SystemClock()).read()) == first + second
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 207 * 240


@costly(150)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), truncate=st.booleans())
def test_damage_at_any_byte_never_yields_another_receipt(where: float, bit: int, truncate: bool) -> None:
    with tempfile.TemporaryDirectory() as text:
        kept = fill(Path(text), 8)
        (path,) = Path(text).iterdir()
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        if truncate:
            del content[at:]
        else:
            content[at] ^= 1 << bit
        path.write_bytes(content)
        found = list(ReceiptStore(Path(text), SystemClock()).read())
        intact = [one for one in found if isinstance(one, Signed)]
        assert intact == kept[: len(intact)]
        if not truncate:
            assert len(intact) < len(kept)
            assert isinstance(found[-1], ReceiptDamage) or len(intact) == len(kept) - 1
