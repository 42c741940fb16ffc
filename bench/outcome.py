"""What a benchmark found, against what it should have found."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.machine import describe_machine


@dataclass(frozen=True)
class Budget:
    """A limit from the design, on the ratio to the peer or, where there is none, on the figure itself."""

    limit: float
    is_at_most: bool = True

    def holds(self, found: float) -> bool:
        return found <= self.limit if self.is_at_most else found >= self.limit


@dataclass(frozen=True)
class Outcome:
    """All runs of one benchmark. `extra_holds`: what else the budget asks for, or whether it was the same work."""

    name: str
    unit: str
    runs: Sequence[float]
    peer_runs: Sequence[float]
    budget: Budget
    details: Mapping[str, object] = field(default_factory=dict)
    extra_holds: bool = True

    @property
    def ours(self) -> float:
        return statistics.median(self.runs)

    @property
    def peer(self) -> float | None:
        return statistics.median(self.peer_runs) if self.peer_runs else None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool:
        return self.extra_holds and self.budget.holds(self.ours if self.ratio is None else self.ratio)

    def render(self) -> str:
        """One line of JSON: the contract of design section 5, and `details` beside it."""
        return json.dumps(
            {
                "name": self.name,
                "unit": self.unit,
                "ours": _short(self.ours),
                "peer": _short(self.peer),
                "ratio": _short(self.ratio),
                "budget": self.budget.limit,
                "holds": self.holds,
                "machine": describe_machine(),
                "runs": [_short(run) for run in self.runs],
                "details": {**self.details, "peer_runs": [_short(run) for run in self.peer_runs]},
            }
        )


def _short(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.4g}") if abs(figure) < 10_000 else round(figure)
