"""The compiled reader: the same as the decoders that are not, whatever a sender sends, and in the same words."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import DecodeLimits, Labels
from collector.wire.varint import length_delimited
from metering.gateway.foreign.compiled import CompiledRw1, CompiledRw2
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.native import Reader
from tests.effort import costly
from tests.gateway.messages import RW1, RW2, Rows
from tests.gateway.test_foreign_decode import LIMITS, NOW, Numbers, many, rows, versions
from tests.gateway.test_foreign_decode import Versions as Pair

pytestmark = pytest.mark.skipif(Reader is None, reason="there is no C compiler: the kernel was not built")
SECRET = bytes(16)


class Compiled(Pair):
    """The compiled decoder in the place of the other."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        assert Reader is not None
        self.decoder = (CompiledRw1 if version == 1 else CompiledRw2)(self.numbers, Reader)  # type: ignore[assignment]


def said_of(known: Pair, body: bytes, limits: DecodeLimits = LIMITS) -> object:
    """Everything that a decoder says of a body; the kind and the text of an error."""
    try:
        pushed = known.decoder.decode(body, limits)
    except WireError as error:
        return type(error), str(error)
    return all_of(known, pushed)


def all_of(known: Pair, pushed: Pushed) -> object:
    starts = pushed.starts_ms.tolist() if pushed.starts_ms is not None else [0] * len(pushed)
    histograms = [(known.numbers.labels[one.number], one.timestamp_ms, one.message) for one in pushed.histograms]
    exemplars = [(known.numbers.labels[one.number], *map(repr, one[1:])) for one in pushed.exemplars]
    return (
        sorted(zip(known.flat(pushed), starts, strict=True)),
        histograms,
        exemplars,
        sorted(map(repr, pushed.metadata)),
        pushed.refused,
        pushed.fault,
    )


def fresh(version: int) -> Pair:
    """A decoder that is not compiled and knows nothing, so that its limits count every label."""
    return Pair(version)


@given(versions, st.lists(rows, min_size=1, max_size=4), st.integers(0, 40))
@costly(200)
def test_both_say_the_same_of_bodies_in_any_order(version: int, bodies: list[Rows], turn: int) -> None:
    compiled = Compiled(version)
    every = [row for one in bodies for row in one]
    turn %= len(every) + 1
    for one in (*bodies, every, every[turn:] + every[:turn], every):
        body = compiled.encode(one)
        assert said_of(compiled, body) == said_of(fresh(version), body)


def rich(version: int) -> bytes:
    """Exemplars, native histograms, metadata, starts, series without samples and an unknown field."""
    if version == 1:
        one = RW1["WriteRequest"]()
        for number in range(12):
            labels = [RW1["Label"](name="__name__", value=f"m{number}"), RW1["Label"](name="é", value="ü" * number)]
            series = one.timeseries.add(labels=labels)
            for sample in range(number % 3):
                series.samples.add(value=sample, timestamp=NOW + sample)
            if number % 4 == 1:
                series.exemplars.add(value=2, timestamp=NOW, labels=[RW1["Label"](name="trace_id", value="x")])
            if number % 5 == 1:
                series.histograms.add(timestamp=NOW, schema=0)
        one.metadata.add(type=1, metric_family_name="m1", help="Whether.", unit="1")
        encoded: bytes = one.SerializeToString()
        return encoded + b"\x50\x07"
    two = RW2["Request"](symbols=["", "__name__", "up", "é", "x", "Whether.", "1", *(f"m{n}" for n in range(12))])
    for number in range(12):
        series = two.timeseries.add(labels_refs=[1, 7 + number, 3, 4])
        for sample in range(number % 3):
            series.samples.add(value=sample, timestamp=NOW + sample, start_timestamp=NOW - 5 if number % 2 else 0)
        if number % 4 == 1:
            series.exemplars.add(value=2, timestamp=NOW, labels_refs=[3, 4])
        if number % 5 == 1:
            series.histograms.add(timestamp=NOW, schema=0)
        if number % 3 == 1:
            series.metadata.type, series.metadata.help_ref = 1, 5
        if number % 6 == 5:
            series.created_timestamp = NOW - 9
    encoded = two.SerializeToString()
    return encoded + b"\x50\x07"


cuts = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 12), st.binary(max_size=6)), max_size=3)


@given(versions, st.booleans(), cuts)
@example(1, True, [])
@example(2, True, [])
@example(2, True, [(345, 0, b"P"), (342, 0, b"\0")])  # a tag of 0 in the metadata of a series that is known
@example(2, True, [(345, 1, b"\x7f")])  # a help text that is no symbol
@costly(1500)
def test_both_say_the_same_of_a_damaged_body(
    version: int, is_rich: bool, damage: list[tuple[int, int, bytes]]
) -> None:
    """Whether the series are known or not, and whatever was damaged: the same rows, or the same error."""
    sane = rich(version) if is_rich else Compiled(version).encode(many(30, NOW, random.Random(3)))
    compiled = Compiled(version)
    said_of(compiled, sane)
    body = bytearray(sane)
    for at, size, noise in damage:
        at %= len(body) + 1
        body[at : at + size] = noise
    expected = said_of(fresh(version), bytes(body))
    assert said_of(Compiled(version), bytes(body)) == expected
    found = said_of(compiled, bytes(body))
    assert without_metadata(found) == without_metadata(expected)  # those of remote write 2.0 are told once


SYMBOLS = ["", "__name__", "job", *(f"m{n}" for n in range(8)), *(f"j{n}" for n in range(5)), "Whether.", "1"]
TOLD = b"\x08\x01\x18\x10\x20\x11"  # a counter; symbols 16 and 17


def telling(told: Sequence[bytes], is_early: bool, turn: int = 0) -> bytes:
    """A body of series of one sample, and what is told of each, before its sample or behind it."""
    head: bytes = RW2["Request"](symbols=SYMBOLS).SerializeToString()
    sample = RW2["Sample"](value=1.5, timestamp=NOW).SerializeToString()
    series = []
    for number, content in enumerate(told):
        refs = bytes([1, 3 + number % 8, 2, 11 + number // 8])
        parts = [length_delimited(b"\x12", sample), length_delimited(b"\x2a", content)]
        inside = length_delimited(b"\x0a", refs) + b"".join(reversed(parts) if is_early else parts)
        series.append(length_delimited(b"\x2a", inside))
    return head + b"".join(series[turn:] + series[:turn])


inside = st.tuples(st.integers(0, 39), st.integers(0, 6), st.integers(0, 2), st.binary(max_size=3))


@given(
    is_early=st.booleans(),
    times=st.integers(1, 3),
    damage=st.lists(inside, min_size=1, max_size=2),
    turn=st.integers(0, 39),
)
@example(is_early=True, times=3, damage=[(3, 1, 1, b"\x7f")], turn=0)  # a type that nobody knows
@example(is_early=True, times=1, damage=[(3, 3, 1, b"\x7f")], turn=5)  # a help text that is no symbol
@example(is_early=False, times=3, damage=[(3, 3, 1, b"\x7f")], turn=5)
@example(is_early=False, times=2, damage=[(39, 2, 1, b"\x28")], turn=0)  # a field that nobody reads
@example(is_early=True, times=2, damage=[(3, 0, 1, b"\0")], turn=0)
@costly(500)
def test_damage_in_what_is_told_of_known_series_is_found_with_the_kernel_and_without(
    is_early: bool, times: int, damage: list[tuple[int, int, int, bytes]], turn: int
) -> None:
    """However often the series came, in whichever order: status and rows are as from who knows nothing."""
    compiled, pure = Compiled(2), Pair(2)
    told = [TOLD] * 40
    for known in (compiled, pure):
        for _ in range(times):
            assert not is_error(said_of(known, telling(told, is_early)))
    for which, at, size, noise in damage:
        told[which] = told[which][:at] + noise + told[which][at + size :]
    body = telling(told, is_early, turn)
    expected = said_of(fresh(2), body)
    assert said_of(Compiled(2), body) == expected
    assert without_metadata(said_of(compiled, body)) == without_metadata(expected)
    assert kind_of(said_of(pure, body)) == kind_of(expected)


def test_fields_that_nobody_reads_are_counted_in_what_is_told_of_known_series() -> None:
    """10,000 of them in a body are allowed."""
    compiled, pure = Compiled(2), Pair(2)
    for known in (compiled, pure):
        for _ in range(3):
            assert not is_error(said_of(known, telling([TOLD] * 40, is_early=True)))
    body = telling([b"\x50\0" * 251] * 40, is_early=True)
    assert {kind_of(said_of(known, body)) for known in (fresh(2), compiled, pure)} == {BodyTooLarge}


def is_error(said: object) -> bool:
    return isinstance(said, tuple) and isinstance(said[0], type)


def kind_of(said: object) -> object:
    """Rows, or the kind of error, without its words."""
    return said[0] if isinstance(said, tuple) and is_error(said) else without_metadata(said)


def without_metadata(said: object) -> object:
    return (*said[:3], *said[4:]) if isinstance(said, tuple) and len(said) == 6 else said


@given(versions, st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_both_say_the_same_of_noise(version: int, noise: bytes) -> None:
    assert said_of(Compiled(version), noise) == said_of(fresh(version), noise)


@pytest.mark.parametrize("version", [1, 2])
def test_known_series_are_neither_read_nor_copied(version: int) -> None:
    """A part of what came before, in another order, from a buffer."""
    compiled = Compiled(version)
    known = many(300, NOW, random.Random(7))
    compiled.rows(compiled.encode(known))
    size = compiled.decoder.known_bytes
    compiled.numbers.number = compiled.numbers.number_of = None  # type: ignore[method-assign, assignment]
    body = compiled.encode(known[170:] + known[:100])
    pushed = compiled.decoder.decode(memoryview(body), LIMITS)
    assert sorted(compiled.flat(pushed)) == compiled.expected(body)
    assert compiled.decoder.known_bytes == size


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "limits",
    [
        DecodeLimits(max_decompressed_bytes=10),
        DecodeLimits(max_series=2),
        DecodeLimits(max_samples=3),
        DecodeLimits(max_labels=3),
        DecodeLimits(max_labels_per_series=1),
        DecodeLimits(max_symbols=2),
    ],
    ids=repr,
)
def test_both_hold_the_same_limits(version: int, limits: DecodeLimits) -> None:
    compiled = Compiled(version)
    body = compiled.encode([((("__name__", f"up{n}"), ("job", "x")), [(NOW, 1.5), (0, 0.0)]) for n in range(3)])
    assert said_of(compiled, body, limits) == said_of(fresh(version), body, limits)


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (1, b"\x0a\x00" * 200_000),
        (1, b"\x0a\x80\xb5\x18" + b"\x0a\x00" * 200_000),
        (1, b"\x1a\x00" * 200_000),
        (1, b"\x50\x00" * 200_000),
        (2, b"\x2a\x00" * 200_000),
        (2, b"\x22\x00" * 600_000),
        (2, b"\x50\x00" * 200_000),
        (2, b"\x22\x00\x2a\x80\xb5\x18" + b"\x12\x00" * 200_000),
    ],
    ids=lambda found: found[:6].hex() if isinstance(found, bytes) else None,
)
def test_tiny_fields_do_not_grow_in_memory(version: int, body: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        Compiled(version).decoder.decode(body, DecodeLimits(max_samples=1000))


def test_what_is_refused_is_not_remembered() -> None:
    class Refusing(Numbers):
        def number(self, labels: Labels) -> int:
            return -1

        def number_of(self, parts: Sequence[bytes]) -> int | None:
            return None

    for version in (1, 2):
        assert Reader is not None
        decoder = (CompiledRw1 if version == 1 else CompiledRw2)(Refusing(), Reader)
        body = Compiled(version).encode(many(2000, NOW, random.Random(1)))
        before = decoder.decode(body, LIMITS), decoder.known_bytes
        assert set(before[0].numbers.tolist()) == {-1}
        decoder.decode(body, LIMITS)
        assert decoder.known_bytes == before[1]


@given(st.lists(st.tuples(st.binary(max_size=5), st.integers(0, 2**31 - 1)), max_size=300))
@settings(max_examples=60, deadline=None)
def test_what_was_learnt_is_found(learnt: list[tuple[bytes, int]]) -> None:
    assert Reader is not None
    reader, expected = Reader(SECRET), dict(learnt)
    for key, number in learnt:
        reader.learn(key, number)
    for key in [*expected, b"another key"]:
        assert reader.find(key) == expected.get(key)
    assert sys.getsizeof(reader) < 200_000


def test_a_secret_of_another_size_is_refused() -> None:
    assert Reader is not None
    with pytest.raises(ValueError, match="16 are allowed"):
        Reader(bytes(15))


def test_others_run_while_it_scans() -> None:
    """It holds the interpreter in no scan; who scans the same reader meanwhile is refused, and breaks nothing."""
    assert Reader is not None
    reader = Reader(SECRET)
    body = Compiled(1).encode(many(20_000, NOW, random.Random(1)))
    refused = threading.Event()
    is_over = threading.Event()

    def scan() -> None:
        while not is_over.is_set():
            try:
                found = reader.rw1(body, 10**6, 10**6, 0, 1000)
            except RuntimeError:
                refused.set()
            else:
                assert found is not None

    threads = [threading.Thread(target=scan) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert refused.wait(60)
    is_over.set()
    for thread in threads:
        thread.join()
