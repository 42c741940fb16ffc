"""The lake files that an hour is computed from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from kernel.window import Window, hours_in


@dataclass(frozen=True, slots=True)
class SampleFile:
    """An immutable lake file: its name, content hash and the times of its samples."""

    name: str
    sha256: str
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files that may hold samples of a window, in one snapshot of the lake; None: it holds nothing yet."""

    snapshot_id: int | None
    files: Sequence[SampleFile]


class FilesByHour:
    """Which files an hour is computed from: with samples in it, or so shortly before that they hold into it."""

    def __init__(self, files: Sequence[SampleFile], limit_ms: int) -> None:
        self._files: dict[int, list[SampleFile]] = defaultdict(list)
        for file in sorted(files, key=lambda file: file.name):
            for hour in hours_in(Window(file.first_ms, file.last_ms + limit_ms + 1)):
                self._files[hour.start_ms].append(file)

    def of(self, hour: Window) -> Sequence[SampleFile]:
        """By name."""
        return self._files.get(hour.start_ms, ())

    def sources(self, hour: Window) -> tuple[str, ...]:
        """The same as "name sha256"."""
        return tuple(f"{file.name} {file.sha256}" for file in self.of(hour))

    def digest(self, hour: Window) -> str:
        """Changes when, and only when, other files than before touch the hour."""
        return sha256("\n".join(file.name for file in self.of(hour)).encode()).hexdigest()
