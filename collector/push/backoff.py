"""Waiting between tries: exponential with full jitter above half, never below what the gateway asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Seconds between tries; `reset` after a success."""

    minimum: float
    maximum: float
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_seconds(self, retry_after: float | None = None) -> float:
        """The next wait. A Retry-After is kept, and a little is added so that many collectors spread."""
        ceiling = min(self.maximum, self.minimum * float(1 << min(self.failures, 40)))
        self.failures += 1
        if retry_after is not None:
            return retry_after + self.random.uniform(0, max(1.0, retry_after / 4))
        return ceiling * self.random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The push went through."""
        self.failures = 0
