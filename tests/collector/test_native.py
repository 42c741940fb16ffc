"""The compiled reader: the same as the pure one and the strict parser, whatever a target sends, in bounded memory.

`test_columnar` and `test_exposition` put every body through it too.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from bench.exposition import Exposition
from collector.exposition import ExpositionError, ReaderChoice, choose_reader, new_reader
from collector.exposition.columnar import ColumnReader
from collector.exposition.lexing import parse_simple_key
from collector.exposition.native import NativeReader
from collector.native import KeyTable, Table
from kernel.errors import InvalidInput
from tests.collector.exposing import WITHOUT_KERNEL, native_reader, read_both_ways

ROOT = Path(__file__).resolve().parents[2]
TEXT = "text/plain; version=0.0.4"
OM = "application/openmetrics-text; version=1.0.0"
SECRET = bytes(16)
needs_kernel = pytest.mark.skipif(KeyTable is None, reason=WITHOUT_KERNEL)


Scanned = tuple[bytes, list[tuple[bytes, int]], bytes | None]


def new_table() -> Table:
    assert KeyTable is not None
    return KeyTable(SECRET)


def scan(
    table: Table, body: bytes | bytearray, renewed: tuple[bytes, ...] = (), *, openmetrics: bool = False
) -> Scanned | None:
    """A whole body."""
    table.begin(openmetrics, renewed)
    return table.scanned() if table.feed(body) else None


def lines(keys: list[str], start: int = 0) -> bytes:
    return "".join(f"{key} {number}\n" for number, key in enumerate(keys, start)).encode()


HOSTILE = {
    "nothing": b"",
    "a line end": b"\n",
    "line ends": b"\n\n\n\n",
    "no final line end": b"a 1\nb 2",
    "only a key": b"a",
    "a key and a blank": b"a ",
    "carriage returns": b"a 1\r\nb 2\r\n",
    "a carriage return in a label": b'a{b="\r"} 1\n',
    "NUL": b"a 1\x00\n",
    "NUL in a name": b"a\x00b 1\n",
    "NUL in a label": b'a{b="\x00"} 1\n',
    "not UTF-8": b'a{b="\xff"} 1\n',
    "not UTF-8 in a comment": b"# \xff\na 1\n",
    "not UTF-8 in a help text": b"# HELP a \xff\na 1\n",
    "all bytes": bytes(range(256)),
    "a long value": b"a " + b"9" * 1_000_000 + b"\n",
    "a long fraction": b"a 0." + b"0" * 1_000_000 + b"1\n",
    "a long exponent": b"a 1e" + b"0" * 1_000_000 + b"1\n",
    "zeros in front": b"a " + b"0" * 100 + b"1e5\n",
    "twenty digits": b"a 18446744073709551616\nb 00000000000000000000001\nc 1000000000000000000000\n",
    "zeros that are small": b"a 0." + b"0" * 2_000 + b"e2010\nb 0." + b"0" * 2_000 + b"1e2001\n",
    "a megabyte of name": b"a" * 1_000_000 + b" 1\n",
    "a megabyte of label": b'a{b="' + b"c" * 1_000_000 + b'"} 1\n',
    "a megabyte without an end": b'a{b="' + b"c" * 1_000_000,
    "a comment without an end": b"a 1\n#" + b"c" * 1_000_000,
    "many labels": b"a{" + b",".join(b'l%d="v"' % number for number in range(50_000)) + b"} 1\n",
    "many braces": b"a" + b"{" * 100_000 + b" 1\n",
    "many quotes": b"a{" + b'"' * 100_001 + b"} 1\n",
    "many backslashes": b'a{b="' + b"\\" * 100_001 + b'"} 1\n',
    "a backslash at the end": b'a{b="\\',
    "one key again and again": b"a 1\n" * 5_000,
    "too large for a double": b"a 1e309\n",
    "too small for a double": b"a 1e-400\nb -1e-400\n",
    "a number that is none": b"a .\nb 1\n",
    "a blank behind the number": b"a 1 \nb 2\n",
    "a name and braces apart": b'a {b="c"} 1\na 2\n',
    "a label value over two lines": b'a{b="x\nk 1\n"} 5\nk 2\n',
}


@needs_kernel
@pytest.mark.parametrize("content_type", [TEXT, OM])
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bodies_are_read_or_refused_as_the_strict_parser_does(what: str, content_type: str) -> None:
    body = HOSTILE[what]
    bodies = [body, lines(["a", "k"]) + body, body, lines(["k", "a"])]
    if content_type == OM:
        bodies = [one + b"# EOF\n" for one in bodies]
    read_both_ways(bodies, content_type, or_refused=True)


@needs_kernel
@pytest.mark.slow
def test_a_million_labels() -> None:
    body = b"a{" + b",".join(b'l%d="v"' % number for number in range(1_000_000)) + b"} 1\n"
    reading = native_reader().read(bytearray(body), TEXT)
    assert len(reading.parse(reading.key(0))[1]) == 1_000_000


class _Page:
    """What a page of a fuzzing target is made of."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.keys = [self.key(number) for number in range(self.dice.randrange(60))]

    def key(self, number: int) -> bytes:
        name = b"m%d" % self.dice.randrange(5)
        forms = (
            b"%b",
            b'%b{a="%d"}',
            b'%b{a="b %d"}',
            b'%b{a="}\\"%d",}',
            b'%b{a="",b="\xc3\xa9%d"}',
            b'{"%b.q",a="%d"}',
        )
        form = self.dice.choice(forms)
        return form % (name, number) if form.count(b"%") > 1 else form % name

    def number(self) -> bytes:
        dice = self.dice
        return dice.choice((
            b"%d" % dice.randrange(10**9), repr(dice.uniform(-1e6, 1e6)).encode(), b"NaN", b"+Inf", b"-Inf", b"inf",
            b"%de%d" % (dice.randrange(10**17), dice.randrange(-320, 300)), b"-0", b".5", b"5.", b"1e", b"0x1",
            repr(np.float64(np.frombuffer(dice.randbytes(8))[0])).partition("(")[2].strip(")").encode(),
        ))  # fmt: skip

    def change(self) -> None:
        dice = self.dice
        for _ in range(dice.choice((0, 1, 1, 5, 40))):
            at = dice.randrange(len(self.keys) + 1)
            if dice.random() < 0.5 and self.keys:
                del self.keys[dice.randrange(len(self.keys))]
            else:
                self.keys.insert(at, self.key(dice.randrange(100)))
        if dice.random() < 0.1:
            dice.shuffle(self.keys)

    def body(self, *, openmetrics: bool) -> bytes:
        dice, parts = self.dice, []
        for key in self.keys:
            if dice.random() < 0.05:
                parts.append(b"# TYPE m%d %b\n" % (dice.randrange(5), dice.choice((b"counter", b"gauge"))))
            ending = dice.choice((b"",) * 12 + (b" 17", b" ", b"\t", b"\r", b" # {} 1", b" 1.5", b"\n"))
            parts.append(b"%b %b%b\n" % (key, self.number(), ending if dice.random() < 0.3 else b""))
        return b"".join(parts) + (b"# EOF\n" if openmetrics else b"")


@needs_kernel
@pytest.mark.parametrize("content_type", [TEXT, OM])
def test_pages_at_random_are_read_or_refused_the_same(content_type: str) -> None:
    for seed in range(150):
        page = _Page(seed)
        bodies = []
        for _ in range(6):
            bodies.append(page.body(openmetrics=content_type == OM))
            page.change()
        read_both_ways(bodies, content_type, or_refused=True)


@needs_kernel
@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**24), st.integers(-330, 320), st.integers(0, 24), st.booleans())
def test_every_number_has_the_bits_of_the_correctly_rounded_one(
    digits: int, exponent: int, point: int, is_negative: bool
) -> None:
    text = str(digits)
    text = f"{'-' * is_negative}{text[:-point] or '0'}.{text[-point:]}" if point else f"{'-' * is_negative}{text}"
    for spelled in (text, f"{text}e{exponent}", f"{text}E{exponent:+d}"):
        found = scan(new_table(), b"a %b" % spelled.encode())
        expected = float(spelled)
        if np.isinf(expected):
            assert found is None
        else:
            assert found is not None
            assert found[0] == np.float64(expected).tobytes()


class TableMachine(RuleBasedStateMachine):
    """A table against a dictionary: scans that are kept, forgotten or refused, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.table = new_table()
        self.known: dict[int, bytes] = {}
        self.spelled: set[tuple[bytes, bool]] = set()

    @rule(
        keys=st.lists(st.integers(0, 40), max_size=60),
        odd=st.lists(st.integers(0, 40), max_size=3),
        renewed=st.one_of(st.none(), st.integers(0, 4)),
        is_kept=st.booleans(),
        is_openmetrics=st.booleans(),
    )  # fmt: skip
    def scan(
        self, keys: list[int], odd: list[int], renewed: int | None, is_kept: bool, is_openmetrics: bool
    ) -> None:
        table = self.table
        named = [b"k%d" % (key % 41) * (1 + key % 7) for key in keys]
        body = b"".join(b"%b 1\n" % key for key in named) + b"# EOF\n" * is_openmetrics
        names = () if renewed is None else (b"k%d" % renewed * (1 + renewed % 7), b"o1")
        assert scan(table, body, openmetrics=is_openmetrics) is not None
        before = [key for key in named if key in names and (key, is_openmetrics) in self.spelled]
        assert table.has_met(names) == bool(before)
        assert scan(table, body, names, openmetrics=is_openmetrics) is not None
        for key in odd:
            table.add(b"o%d" % key)
        named += [b"o%d" % key for key in odd]
        found = table.rows(False)
        assert found is not None
        numbers, fresh, born, gone = (np.frombuffer(part, np.int32).tolist() for part in found[:4])
        now = dict(zip(numbers, named, strict=True))
        assert len(now) == len(set(named))
        assert set(born) == now.keys() - self.known.keys()
        assert set(gone) == self.known.keys() - now.keys()
        assert fresh == [row for row, number in enumerate(numbers) if number in born]
        assert all(self.known[number] == now[number] for number in now.keys() & self.known.keys())
        assert all(table.key(number) == now[number] for number in born)
        assert not {now[number] for number in now.keys() & self.known.keys()} & set(names)
        assert table.unchecked(0, 10**6) == []
        if is_kept:
            table.keep()
            self.known = now
            self.spelled = {(key, is_openmetrics) for key in named}

    @rule(body=st.binary(max_size=40))
    def refuse(self, body: bytes) -> None:
        assert scan(self.table, b"k1 1\nk2 2\n" + body + b"\n\nk3 1\n# EOF", openmetrics=True) is None


TestTable = needs_kernel(TableMachine.TestCase)
TestTable.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


KEYS = [
    "a", "a:b", ":", "_a1", "1a", "a{}", "a{b}", "a{b=}", 'a{b=""}', 'a{b="c"}', 'a{b="c",}', 'a{b="c",d="e"}',
    'a{b="c"',
    'a{b="c",b="d"}', 'a{b="c",bb="d"}', 'a{__name__="c"}', 'a{__names_="c"}', 'a{__name__1="c"}', 'a{b:c="d"}',
    'a{1b="c"}', 'a{b="c" ,d="e"}', 'a{ b="c"}', 'a{b="c}"}', 'a{b="c"}d="e"}', 'a{b="c"}}', 'a{b="\\"}',
    'a{b="\\n"}',
    'a{b="\\""}', 'a{b="\u00e9"}', 'a{\u00e9="b"}', '{a="b"}', '{"a"}', '{"a",b="c"}', 'a{"b"="c"}',
    'a{b="c"d="e"}',
    'a{,b="c"}', 'a{b="\x00"}', 'a{b="\t"}', "a{" + ",".join(f'l{n}="v"' for n in range(63)) + "}",
    "a{" + ",".join(f'l{n}="v"' for n in range(64)) + "}", "a{" + ",".join(f'l{n}="v"' for n in range(65)) + "}",
    "a{" + ",".join(f'l{n % 40}="v"' for n in range(41)) + "}",
]  # fmt: skip


@needs_kernel
@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.sampled_from(KEYS), st.text('ab_1:{}=",\\ \t\u00e9\n', max_size=16).map(lambda text: "a" + text))
)
@example("a")
def test_a_key_that_the_kernel_checks_is_one_that_the_strict_parser_takes(text: str) -> None:
    """And one that it finds simple is not shown to it, but for those beyond ASCII or of many labels."""
    key = text.encode()
    table = new_table()
    found = scan(table, key + b" 1\n")
    if found is None or found[1]:
        return
    is_checked = table.unchecked(0, 9) == []
    simple = parse_simple_key(key)
    assert not is_checked or simple is not None
    assert is_checked or simple is None or not text.isascii() or len(simple[1]) > 60


@needs_kernel
def test_memory_is_bound_by_what_is_there_and_not_by_what_was() -> None:
    """A thousand keys come and go a hundred times; then two hundred thousand are there once."""

    def size_with(keys: list[str]) -> int:
        assert scan(table, lines(keys)) is not None
        table.keep()
        return sys.getsizeof(table)

    table = new_table()
    few = size_with([f"some_metric_of_a_component_{number}" for number in range(1_000)])
    for turn in range(100):
        assert (
            size_with([f"some_metric_of_a_component_{turn}_{number}" for number in range(1_000)])
            < 3 * few + 200_000
        )
    many = size_with([f"many_more_metrics_of_it_{number}" for number in range(200_000)])
    assert many > 10 * few
    size_with(["a"])
    for turn in range(3):
        last = size_with([f"b{turn}"])
    assert last < many / 3  # what stays is room for the rows of one page


@needs_kernel
def test_churn_at_shifting_places_is_followed_by_number() -> None:
    exposition = Exposition(3_000, 0.02)
    read_both_ways([exposition.page() for _ in range(6)], TEXT)


def test_the_kernel_is_there_where_a_compiler_is() -> None:
    """Else the tests of it would be left out, and nobody would see."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    has_headers = (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()
    if shutil.which(compiler) is None or not has_headers:
        pytest.skip(WITHOUT_KERNEL)
    assert KeyTable is not None, "`python hatch_build.py` compiles it in place, as an installation does"


@needs_kernel
def test_what_is_asked_while_another_thread_scans_is_refused_and_harms_nothing() -> None:
    body = bytearray(lines([f"m{number}" for number in range(300_000)]))
    table = new_table()
    found: list[object] = []

    def scan_again() -> None:
        for _ in range(5):
            try:
                found.append(scan(table, body))
            except RuntimeError as error:
                found.append(error)

    threads = [threading.Thread(target=scan_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(one) for one in found} <= {tuple, RuntimeError}
    assert scan(table, body) is not None


@needs_kernel
def test_keys_that_were_placed_give_their_memory_back_and_are_told_of_no_more() -> None:
    """Also those of which only the first is asked for twice: a later row may have the key of one before."""
    keys = [b'm{x="%06d"}' % number for number in range(3_000)]
    for body_keys in (keys, [*keys, keys[0]]):
        reader = native_reader()
        reading = reader.read(bytearray(b"".join(key + b" 1\n" for key in body_keys)), "text/plain")
        assert list(reading.keys(reading.fresh[:1000])) == body_keys[:1000]
        reading.release(reading.fresh[:1000])
        assert list(reading.keys(reading.fresh[1000:])) == body_keys[1000:]
        if body_keys is keys:
            with pytest.raises(KeyError):
                reading.key(999)
        reader.keep(reading)
        again = reader.read(bytearray(b"".join(key + b" 2\n" for key in [*body_keys, b"n"])), "text/plain")
        assert [again.key(row) for row in again.fresh.tolist()] == [b"n"]
        assert again.numbered.rows.tolist()[:3000] == list(range(3000))


@needs_kernel
def test_wrong_calls_are_errors() -> None:
    assert KeyTable is not None
    table = new_table()
    for call in (table.keep, lambda: table.add(b"a"), lambda: table.rows(True), lambda: table.unchecked(0, 1)):
        with pytest.raises(RuntimeError, match="nothing is pending"):
            call()
    with pytest.raises(ValueError, match="16 are allowed"):
        KeyTable(b"short")
    for number in (0, -1, 2**40):
        with pytest.raises(KeyError):
            table.key(number)
        with pytest.raises(KeyError):
            table.release(number)
    table.begin(False)
    with pytest.raises(TypeError):
        table.add("a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        table.begin(False, (b"a", "b"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="nothing is pending"):
        table.feed(b"a 1")


@pytest.fixture
def any_choice() -> Iterator[None]:
    yield
    choose_reader(ReaderChoice.AUTO)


@pytest.mark.usefixtures("any_choice")
def test_the_reader_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_reader(ReaderChoice.PURE)
    assert isinstance(new_reader(), ColumnReader)
    choose_reader(ReaderChoice.AUTO)
    assert isinstance(new_reader(), ColumnReader if KeyTable is None else NativeReader)
    monkeypatch.setattr("collector.native.KeyTable", None)
    assert isinstance(new_reader(), ColumnReader)
    with pytest.raises(InvalidInput, match="no compiled kernel"):
        choose_reader(ReaderChoice.NATIVE)


@pytest.mark.slow
@needs_kernel
def test_with_the_kernel_no_pyarrow_is_loaded() -> None:
    code = (
        "import sys, collector.app\n"
        "from collector.exposition import new_reader\n"
        "new_reader().read(bytearray(b'a 1\\n'), 'text/plain')\n"
        "print('pyarrow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@needs_kernel
def test_a_reading_that_is_refused_leaves_what_was_kept() -> None:
    reader = native_reader()
    reader.keep(reader.read(bytearray(b"a 1\nb 2\n"), TEXT))
    with pytest.raises(ExpositionError):
        reader.read(bytearray(b"c 1\nd{ 2\n"), TEXT)
    reading = reader.read(bytearray(b"b 1\n"), TEXT)
    assert (reading.numbered.rows.tolist(), reading.numbered.gone.tolist()) == ([1], [0])
