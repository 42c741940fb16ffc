"""A compiled reader of remote write bodies, used where there is one: `Reader`, or None.

It is built with the package wherever a C compiler and Python's headers are (`hatch_build.py`); without it
`metering.gateway.foreign` reads by numpy, and the two say the same (`tests/gateway/test_compiled`).
"""

from __future__ import annotations

from typing import Protocol

Found = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes]


class Scanner(Protocol):
    """What series were seen before, by their bytes. Arrays are bytes, in the machine's order.

    A scan runs without the interpreter's lock. Each method raises RuntimeError while another thread scans.
    """

    def rw1(
        self, body: bytes | memoryview, series: int, samples: int, symbols: int, labels: int, /
    ) -> Found | None:
        """The samples of a decompressed body within these limits, `labels` those of one series.

        Of every sample of usual form, in the order of the body: int32 the number of its series, -1 for a new one;
        int64 its time; float64 its value; int64 its start (0: none), nothing at all when there are none. Then
        what is to be read by its fields, in the order of the body, as ten int64 each (`foreign.compiled.Event`).
        The last two are empty. None: something is malformed or over a limit. Raises MemoryError.
        """

    def rw2(
        self, body: bytes | memoryview, series: int, samples: int, symbols: int, labels: int, /
    ) -> Found | None:
        """The same of remote write 2.0. The last two, when there is something to be read by its fields: where each
        symbol begins and ends (uint32), and its number in this reader (uint32), whatever the body.
        """

    def find(self, key: bytes, /) -> int | None:
        """The number of a series."""

    def learn(self, key: bytes, number: int, /) -> None:
        """Give a series a number from now on: by the bytes of its labels in 1.0, by its symbols' numbers in 2.0."""

    def __sizeof__(self) -> int:
        """Bytes that it takes."""


class NewScanner(Protocol):
    """What makes a reader."""

    def __call__(self, secret: bytes, /) -> Scanner:
        """With 16 secret bytes, so that no sender can choose series that collide."""


Reader: NewScanner | None
try:
    from metering.gateway.native._kernel import Reader  # type: ignore[import-not-found, no-redef, unused-ignore]
except ImportError:
    Reader = None

__all__ = ["Reader", "Scanner"]
