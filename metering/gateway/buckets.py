"""Token buckets: an average rate with a burst."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from dataclasses import dataclass

MAX_RETRY_SECONDS = 300


@dataclass
class TokenBucket:
    """Fills at `rate` a second up to `burst`. Times are monotonic seconds.

    More than a burst is let through once the bucket is full, and leaves a debt: no push is too large for ever.
    """

    rate: float
    burst: float
    level: float
    filled: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> TokenBucket:
        return cls(rate, burst, burst, now)

    def wait_seconds(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 when it may be now. Takes nothing."""
        self._fill(now)
        return max(0.0, (min(amount, self.burst) - self.level) / self.rate)

    def take(self, amount: float, now: float) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds to wait."""
        wait = self.wait_seconds(amount, now)
        if wait == 0:
            self.level -= amount
        return wait

    def charge(self, amount: float, now: float) -> None:
        """Take `amount`, full or not: for work that was done already. What is not there becomes a debt."""
        self._fill(now)
        self.level -= amount

    def give_back(self, amount: float) -> None:
        """Undo a `take` whose work was not done."""
        self.level = min(self.burst, self.level + amount)

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self.level >= self.burst

    def _fill(self, now: float) -> None:
        if now > self.filled:
            self.level = min(self.burst, self.level + (now - self.filled) * self.rate)
            self.filled = now


class KeyedBuckets:
    """A bucket for each key, at most `max_keys`: the one used least lately is forgotten, that is, full again."""

    def __init__(self, rate: float, burst: float, max_keys: int = 10_000) -> None:
        self._rate, self._burst, self._max_keys = rate, burst, max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one token of `key` and return 0, or return the seconds to wait."""
        return self._bucket(key, now).take(1, now)

    def queue(self, key: str, now: float) -> float:
        """Take one token of `key`, there or not: the seconds until its turn, behind those that queue."""
        bucket = self._bucket(key, now)
        bucket.charge(1, now)
        return max(0.0, -bucket.level / self._rate)

    def _bucket(self, key: str, now: float) -> TokenBucket:
        bucket = self._buckets.pop(key, None) or TokenBucket.full(self._rate, self._burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return bucket


def retry_after(seconds: float) -> str:
    """The value of Retry-After: whole seconds from 1 on, up to half as long again so that senders spread."""
    return str(min(MAX_RETRY_SECONDS, math.ceil(max(1.0, seconds) * random.uniform(1.0, 1.5))))
