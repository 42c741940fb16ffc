"""Pages of a target that looks like a Milvus: they advance at each scrape, never repeat, and series come and go."""

from __future__ import annotations

import random

FAMILIES = 200
MOVING_SHARE = 0.48  # of the series of a Milvus that change between two scrapes
GAUGE_SHARE = 0.2  # with a fraction in their values; the others are counters


class Exposition:
    """Page after page of `series` series; the same arguments give the same pages.

    At each page `churn` (a ratio) of the series, at places drawn anew, give way to new ones at other places of the
    same family, as pods and collections do.
    """

    def __init__(self, series: int, churn: float, seed: int = 7) -> None:
        self._dice = random.Random(seed)
        self._replaced = round(series * churn)
        self._born = 0
        families = min(FAMILIES, series)
        self._families: list[list[_Series]] = [[] for _ in range(families)]
        for number in range(series):
            self._families[number % families].append(self._new(number % families))
        self._headers = [_header(number) for number in range(families)]
        self._is_first = True

    def page(self, *, replaces: bool = True) -> bytes:
        """The next page; with the same series as the last unless it `replaces` some."""
        moving, dice = MOVING_SHARE, self._dice.random
        if replaces and not self._is_first:
            self._replace()
        self._is_first = False
        parts = []
        for header, family in zip(self._headers, self._families, strict=True):
            parts.append(header)
            for one in family:
                if dice() < moving:
                    one.advance(dice())
                parts.append(one.line)
        return b"".join(parts)

    def _replace(self) -> None:
        families = self._families
        for _ in range(self._replaced):
            number = self._dice.randrange(len(families))
            family = families[number]
            del family[self._dice.randrange(len(family))]
            family.insert(self._dice.randrange(len(family) + 1), self._new(number))

    def _new(self, family: int) -> _Series:
        self._born += 1
        return _Series(family, self._born, is_gauge=family % 5 < GAUGE_SHARE * 5)


class _Series:
    __slots__ = ("_head", "_is_gauge", "_value", "line")

    def __init__(self, family: int, number: int, *, is_gauge: bool) -> None:
        labels = (
            f'cluster="c{number % 7}",collection_name="collection_{number // 50}",'
            f'instance="10.0.{number % 40}.{number % 250}:9091",'
            f'node_id="{number}",role_name="querynode-{number % 13}"'
        )
        self._head = f"{_name(family, is_gauge=is_gauge)}{{{labels}}} ".encode()
        self._is_gauge = is_gauge
        self._value = number * 7919 % 1_000_000
        self.advance(0.5)

    def advance(self, step: float) -> None:
        self._value += 1 + int(step * 40)
        text = b"%d.%02d" % (self._value % 1000, self._value % 97) if self._is_gauge else b"%d" % self._value
        self.line = self._head + text + b"\n"


def _name(family: int, *, is_gauge: bool) -> str:
    return f"milvus_metric_{family}" if is_gauge else f"milvus_metric_{family}_total"


def _header(family: int) -> bytes:
    is_gauge = family % 5 < GAUGE_SHARE * 5
    name, kind = _name(family, is_gauge=is_gauge), "gauge" if is_gauge else "counter"
    return f"# HELP {name} A figure of a Milvus component.\n# TYPE {name} {kind}\n".encode()
