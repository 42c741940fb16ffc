"""What later usage changed of rows that were billed: each difference, and whether the kept frames give it."""

from __future__ import annotations

from billing.proof.compared import Given
from kernel.window import Window
from metering.usage.rows import UsageRow

_Key = tuple[str, str, str, Window]  # project, cluster, component, hour


class Changes:
    """The rows of a corrected period that are not as they were billed; nothing where none was billed."""

    def __init__(self, given: Given) -> None:
        self._is_corrected = given.billed is not None
        billed, now = ({_key(row): row for row in rows} for rows in (given.billed or (), given.usage.rows))
        self._added: dict[_Key, int] = {}
        if self._is_corrected:
            for key in billed.keys() | now.keys():
                before, after = billed.get(key), now.get(key)
                if before is None or after is None or _figures(before) != _figures(after):
                    self._added[key] = _of(after) - _of(before)
        self._shown = self._added.keys() - now.keys()  # gone: no frame gave them, or they would be missed

    def prove(self, row: UsageRow) -> None:
        """A row of now that the frames give."""
        key = _key(row)
        if key in self._added:
            self._shown.add(key)

    def proved(self) -> list[str]:
        """In words."""
        if not self._is_corrected:
            return []
        added = sum(self._added[key] for key in self._shown)
        many = f"{len(self._shown)} of {len(self._added)}"
        return [f"changed: {many} rows that are not as billed follow from the frames, by {added:+d} milli-vCPU-ms"]


def _key(row: UsageRow) -> _Key:
    return row.project, row.cluster, row.component, row.hour


def _of(row: UsageRow | None) -> int:
    return row.milli_vcpu_ms if row else 0


def _figures(row: UsageRow) -> tuple[int, ...]:
    return row.milli_vcpu_ms, row.observed_ms, row.missing_ms, row.peak_milli_vcpu
