"""What was planned and what was taken, as lines of a file: written and synced before anything is sent.

A planned record is sent until it is taken, always with the same quantity, so a run that was killed repeats nothing
that counts twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from billing.exports.marketplace.records import Subscription, UsageRecord
from kernel.errors import ByocError, InvalidInput, truncate


@dataclass
class Journal:
    """One file for one subscription; one process at a time. Raises InvalidInput for a file that is another's."""

    path: Path
    subscription: Subscription
    planned: dict[int, UsageRecord] = field(default_factory=dict)  # by hour
    outcomes: dict[int, str] = field(default_factory=dict)  # the last answer, by hour

    def __post_init__(self) -> None:
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else [""]
        for number, line in enumerate(lines[:-1], start=1):  # a line without its end was never acted upon
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                source = truncate(str(self.path))
                raise InvalidInput.single(source, f"line {number}", line, "a line of this journal") from error
        if lines[-1]:
            os.truncate(self.path, sum(len(line.encode()) + 1 for line in lines[:-1]))
        if len(lines) == 1:  # new, or its making was cut
            self._append([{"subscription": asdict(self.subscription)}])
            self._keep_name()

    def plan(self, records: Iterable[UsageRecord]) -> None:
        """Keep records that are going to be sent. Raises ByocError."""
        records = list(records)
        rows = [{"hour_ms": each.hour_ms, "exact": str(each.exact), "quantity": each.quantity} for each in records]
        self._append(rows)
        self.planned |= {each.hour_ms: each for each in records}

    def note(self, outcomes: dict[int, str]) -> None:
        """Keep the answers. Raises ByocError."""
        self._append([{"hour_ms": hour, "outcome": outcome} for hour, outcome in outcomes.items()])
        self.outcomes |= outcomes

    def unanswered(self) -> list[UsageRecord]:
        """Planned, and not known to be taken or refused."""
        return [record for hour, record in sorted(self.planned.items()) if hour not in self.outcomes]

    def _read(self, row: dict[str, object]) -> None:
        if "subscription" in row:
            if row["subscription"] != asdict(self.subscription):
                found = json.dumps(row["subscription"])
                raise InvalidInput.single(
                    truncate(str(self.path)), "subscription", found, f"{asdict(self.subscription)}"
                )
            return
        hour = int(str(row["hour_ms"]))
        if "outcome" in row:
            self.outcomes[hour] = str(row["outcome"])
        else:
            self.planned[hour] = UsageRecord(hour, Fraction(str(row["exact"])), int(str(row["quantity"])))

    def _keep_name(self) -> None:
        """A new file is in its folder also after a power cut."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _append(self, rows: list[dict[str, object]]) -> None:
        if not rows:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ByocError(f"{truncate(str(self.path))} can't be written: {error.strerror}") from error
