"""What is told of series beside their samples: metadata of their families, and when counters began."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.exposition import ReaderChoice, choose_reader
from collector.labels import Labels
from collector.native import KeyTable
from collector.policy import AllowList, LivePolicy, OpenPolicy, Policy
from collector.policy_settings import AllowRule, PolicySettings
from collector.relabel import Action, RelabelRule
from collector.scrape.series import SeriesRules, labels_of
from collector.scrape.state import TargetState
from collector.wire.frames import FamilyMetadata
from tests.collector.exposing import WITHOUT_KERNEL
from tests.collector.receiving import Receiver

OM, TEXT = "application/openmetrics-text; version=1.0.0", "text/plain"
KEY = b"k" * 32
PAGE = b"""# HELP a_seconds What \\"a\\" costs,\\n in \\\\ seconds.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{x="1"} 1.0
a_seconds_created{x="1"} 1000.5
# HELP g A gauge.
# TYPE g gauge
g 2
# EOF
"""


@pytest.fixture(autouse=True, params=["pure", "native"])
def each_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is told does not hang on who read the rows."""
    if request.param == "native" and KeyTable is None:
        pytest.skip(WITHOUT_KERNEL)
    choose_reader(ReaderChoice(request.param))
    yield
    choose_reader(ReaderChoice.AUTO)


class Told(TargetState):
    """A target's state and what its receiver was told."""

    def __init__(self, policy: Policy | None = None, metric_relabel: tuple[RelabelRule, ...] = ()) -> None:
        rules = SeriesRules(
            (), False, metric_relabel, (), policy or OpenPolicy(), is_billing=lambda name: name.endswith("_total")
        )
        super().__init__(rules, honor_timestamps=True, sample_limit=0)
        self.receiver = Receiver()
        self.at_ms = 5_000_000
        self.group = 1
        self.listed: list[tuple[str, str]] = []

    def page(self, body: bytes, kind: str = OM) -> tuple[dict[str, FamilyMetadata], dict[Labels, int]]:
        """Metadata by family and starts by series that frames told of for a scrape."""
        self.at_ms += 1000
        made = self.scraped(bytearray(body), kind, self.at_ms, 0.1)
        families: dict[str, FamilyMetadata] = {}
        starts: dict[Labels, int] = {}
        for lane in (0, 1):
            for block in self.encode(made, lane, self.group):
                self.receiver.take(lane, self.group, [block])
                for rows in self.receiver.rows:
                    families |= {told.family: told for told in rows.metadata}
                    if rows.starts is not None:
                        pairs = zip(rows.starts.series.tolist(), rows.starts.starts_ms.tolist(), strict=True)
                        starts |= {labels_of(self.receiver.entries[series]): start for series, start in pairs}
            self.listed += self.new_series(made, lane)
            self.stored(made, lane)
        return families, starts


def allow(**fields: object) -> AllowList:
    rule = AllowRule(metrics=("a_*", "g"), labels=("x",), pseudonyms=("name",))
    return AllowList(PolicySettings.model_validate({"allow": (rule,), **fields}), KEY)


def test_families_are_told_of_once_in_a_group_and_when_they_change() -> None:
    target = Told()
    cost = FamilyMetadata("a_seconds", 1, "seconds", 'What "a" costs,\n in \\ seconds.')
    assert target.page(PAGE)[0] == {"a_seconds": cost, "g": FamilyMetadata("g", 2, "", "A gauge.")}
    assert target.page(PAGE.replace(b"g 2", b"g 3"))[0] == {}
    changed = FamilyMetadata("g", 2, "", "Another.")
    assert target.page(PAGE.replace(b"A gauge.", b"Another."))[0] == {"g": changed}
    target.group = 2
    assert target.page(PAGE.replace(b"A gauge.", b"Another."))[0] == {"a_seconds": cost, "g": changed}
    assert target.page(b"# TYPE g gauge\n# HELP g  Another.\ng 4\n", TEXT)[0] == {}


def test_texts_leave_only_as_the_policy_says() -> None:
    no_text = FamilyMetadata("a_seconds", 1, "seconds")
    assert Told(allow()).page(PAGE)[0] == {"a_seconds": no_text, "g": FamilyMetadata("g", 2)}
    target = Told(allow(help_texts=["g"]))
    assert target.page(PAGE)[0] == {"a_seconds": no_text, "g": FamilyMetadata("g", 2, "", "A gauge.")}
    assert ("g", "# HELP g A gauge.") in target.listed
    target.page(PAGE)
    assert sum(text.startswith("# HELP") for _, text in target.listed) == 1
    # A text could say what a pseudonym hides: it stays from then on, and so it does when its family does not leave.
    veiled = PAGE.replace(b"g 2", b'g{name="secret"} 2')
    assert target.page(veiled)[0] == {"g": FamilyMetadata("g", 2)}
    assert target.page(PAGE)[0] == {}
    assert Told(allow(help_texts=["*"], drop=["g"])).page(PAGE)[0].keys() == {"a_seconds"}


def test_another_policy_holds_for_texts_too() -> None:
    policy = LivePolicy(allow(help_texts=["*"]))
    target = Told(policy)
    assert target.page(PAGE)[0]["g"].help == "A gauge."
    policy.current = allow()
    assert target.page(PAGE)[0]["g"] == FamilyMetadata("g", 2)


def test_a_name_that_relabelling_hides_and_a_unit_that_is_none_stay() -> None:
    renamed = RelabelRule(Action.REPLACE, ("__name__",), regex="g", target_label="__name__", replacement="h")
    families, _ = Told(metric_relabel=(renamed,)).page(PAGE)
    assert families.keys() == {"a_seconds"}
    many = b"".join(b"# TYPE f%d gauge\n# HELP f%d %s\nf%d 1\n" % (n, n, b"x" * 9000, n) for n in range(200))
    families, _ = Told().page(many, TEXT)
    assert len(families) == 200
    assert {len(one.help) for one in families.values()} == {4096}


def test_counters_began_when_their_created_series_says() -> None:
    target = Told()
    total, created = (("__name__", "a_seconds_total"), ("x", "1")), (("__name__", "a_seconds_created"), ("x", "1"))
    assert target.page(PAGE)[1] == {total: 1_000_500}
    assert target.page(PAGE)[1] == {}
    later = PAGE.replace(b"1000.5", b"2000")
    assert target.page(later)[1] == {total: 2_000_000}
    target.group = 2
    assert target.page(later)[1] == {total: 2_000_000}
    without = later.replace(b'a_seconds_created{x="1"} 2000\n', b"")
    assert target.page(without)[1] == {}
    target.page(without)  # now the slot is another's
    assert target.page(PAGE)[1] == {total: 1_000_500}
    assert created not in target.page(PAGE)[1]
    # What does not leave tells nothing.
    assert Told(allow(drop=["a_seconds_created"])).page(PAGE)[1] == {}
    assert Told().page(PAGE.replace(b"# EOF\n", b""), TEXT)[1] == {}


CountedPage = dict[tuple[str, int], tuple[bool, float]]  # (family, label) -> has it a `_created`, of when
KINDS = {"c": ("counter", ("_total",)), "h": ("histogram", ("_count", "_sum")), "s": ("summary", ("_count", ""))}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 4)),
    st.tuples(st.booleans(), st.sampled_from([1.0, 2.5, 4000.0])), max_size=8),
    min_size=1, max_size=5))  # fmt: skip
def test_any_pages_tell_of_the_starts_they_have(pages: list[CountedPage]) -> None:
    target = Told()
    known: dict[Labels, int] = {}
    for page in pages:
        lines, expected = [b"up_ 1"], {}
        for (family, number), (has_created, began) in sorted(page.items()):
            kind, suffixes = KINDS[family]
            if not any(line.startswith(b"# TYPE %s " % family.encode()) for line in lines):
                lines.append(f"# TYPE {family} {kind}".encode())
            for suffix in suffixes:
                quantile = ',quantile="0.5"' if not suffix else ""
                lines.append(f'{family}{suffix}{{n="{number}"{quantile}}} 1'.encode())
                labels: Labels = (("__name__", family + suffix), ("n", str(number)))
                labels += (("quantile", "0.5"),) if quantile else ()
                if has_created:
                    expected[labels] = round(began * 1000)
            if has_created:
                lines.append(f'{family}_created{{n="{number}"}} {began}'.encode())
        told = target.page(b"\n".join([*lines, b"# EOF\n"]))[1]
        assert told.items() <= expected.items()  # nothing that is not so
        known |= told
        assert expected.items() <= known.items()  # and all that is


def test_what_is_told_is_the_same_object_until_something_changes() -> None:
    target = Told()
    told = []
    for value in range(4):
        made = target.scraped(bytearray(PAGE.replace(b"g 2", b"g %d" % value)), OM, target.at_ms + value, 0.1)
        told.append([(lane.tick.metadata, lane.tick.starts) for lane in made.lanes])
    for before, after in pairwise(told):
        for one, other in zip(before, after, strict=True):
            assert one[0] is other[0]
            assert one[1] is other[1]
