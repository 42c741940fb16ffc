"""Up to when everything scraped is in the spool: the promise that travels with each push."""

from __future__ import annotations

import itertools

from kernel.clock import Clock


class Horizon:
    """Scrapes under way, by their time. A scrape that hangs holds the horizon back, at most by its timeout."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[int, int] = {}
        self._tokens = itertools.count()
        self._through_ms = 0

    def begin(self, at_ms: int) -> int:
        """A scrape with this timestamp starts; returns a token for `complete`."""
        token = next(self._tokens)
        self._running[token] = at_ms
        return token

    def complete(self, token: int) -> int:
        """The scrape's frame goes to the spool next: ms such that all scraped before it is in it or before it.

        Never falls, not even when the wall clock steps back: samples are then late, and said to be complete.
        """
        del self._running[token]
        through = min(self._running.values(), default=self._clock.now_ms())
        self._through_ms = max(self._through_ms, through)
        return self._through_ms

    def abandon(self, token: int) -> None:
        """The scrape ends without a frame."""
        self._running.pop(token, None)
