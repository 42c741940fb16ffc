"""Lives of a program, one after the other, each from the same state: what it leaves, and where it can die."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from signal import SIGKILL
from threading import Lock
from typing import Any

import sqlalchemy as sa

from kernel.clock import VirtualClock, from_ms
from tests.billing import marketplace_emulator, stripe_emulator
from tests.chaos.month import Place, Program, live
from tests.chaos.month_state import state_of
from tests.services.postgres import PostgresServer

CLAIM_MS = 601_000  # after which a document that was claimed by who died is handed over by another
_turn = Lock()  # multiprocessing's list of children is not for two threads


def run(server: ForkServerContext, program: Callable[..., None], *arguments: Any) -> int | None:
    """The exit status of a process of its own."""
    life = server.Process(target=program, args=arguments)
    with _turn:
        life.start()
    wait([life.sentinel])
    with _turn:
        life.join()
    return life.exitcode


@dataclass
class Outside:
    """Services of others, as strict stand-ins of ours; they outlive whoever dies."""

    now_ms: int
    stripe: stripe_emulator.Emulator = field(default_factory=stripe_emulator.Emulator)
    marketplace: marketplace_emulator.Emulator = field(init=False)

    def __post_init__(self) -> None:
        self.marketplace = marketplace_emulator.Emulator(VirtualClock(from_ms(self.now_ms)))

    def forget(self) -> None:
        """As before anybody called."""
        for each in (self.stripe.invoices, self.stripe.items, self.stripe.answers, self.marketplace.metered):
            each.clear()

    def told(self) -> dict[str, object]:
        """What they hold."""
        return {
            "stripe invoices": dict(self.stripe.invoices),
            "stripe items": list(self.stripe.items),
            "metered": dict(self.marketplace.metered),
        }

    @contextmanager
    def serving(self, place: Place) -> Iterator[Place]:
        """The place, from where they can be reached."""
        with stripe_emulator.serving(self.stripe) as stripe, marketplace_emulator.serving(self.marketplace) as aws:
            yield replace(place, stripe=stripe, marketplace=aws)


@dataclass
class Lane:
    """A folder for lives of one program, one at a time."""

    server: ForkServerContext
    place: Place
    program: Program
    kept: Path  # a copy of the folder as each life finds it
    outside: Outside
    postgres: PostgresServer | None = None
    template: str = ""  # the database as each life finds it
    is_timeless: bool = False
    final: Mapping[str, object] = field(default_factory=dict)  # what a life leaves that nobody kills
    points: Sequence[str] = ()  # that it passes, as `name:times`
    states: set[str] = field(default_factory=set)  # from which the program was run again, and to which end

    def begin(self, place: Place) -> None:
        """Keep what is in the folder, and live once without a death, which leaves the folder as it is then."""
        shutil.copytree(place.folder, self.kept)
        notes = self.kept.with_suffix(".passed")
        assert run(self.server, live, self.program, place, "", notes) == 0
        times: Counter[str] = Counter()
        points = []
        for name in notes.read_text().split("\n"):
            times[name] += 1
            points.append(f"{name}:{times[name]}")
        self.points, self.final = points, self.state(place)

    def state(self, place: Place) -> dict[str, object]:
        """All that lasts."""
        return state_of(place, is_timeless=self.is_timeless) | self.outside.told()

    def die_at(self, point: str) -> None:
        """Die there, and live again to the end: everything is as if nobody had died.

        A life that died in a state in which another one died goes on as that one did, and is not tried again.
        """
        with self._fresh() as place:
            status = run(self.server, live, self.program, place, point)
            assert status == -SIGKILL, f"{point}: it ended with {status}"
            left = sha256(repr(sorted(self.state(place).items())).encode()).hexdigest()
            if left in self.states:
                return
            status = run(self.server, live, self.program, replace(place, now_ms=place.now_ms + self._patience_ms))
            assert status == 0, f"after a death at {point} it ended with {status}"
            assert_same(self.state(place), self.final, point)
            self.states.add(left)

    @property
    def _patience_ms(self) -> int:
        return CLAIM_MS if self.is_timeless else 0

    @contextmanager
    def _fresh(self) -> Iterator[Place]:
        """At the same path, as the lake's files name it."""
        shutil.rmtree(self.place.folder)
        shutil.copytree(self.kept, self.place.folder)
        self.outside.forget()
        with ExitStack() as stack:
            if self.postgres is None:
                yield self.place
            else:
                yield replace(self.place, database_url=stack.enter_context(self.postgres.database(self.template)))


def assert_same(found: Mapping[str, object], expected: Mapping[str, object], point: str) -> None:
    """Says which table or file differs, and how."""
    for name in sorted({*found, *expected}):
        assert found.get(name) == expected.get(name), f"{name} differs after a death at {point}"


def name_of(place: Place) -> str:
    """The name of its database on a server; empty where it is a file."""
    return str(sa.make_url(place.database_url).database) if place.database_url else ""
