"""A meter whose definition changed within the month is proved by the definition that made each row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from billing.proof.evidence import EVIDENCE, Definitions
from billing.proof.metered import stated_meters
from billing.proof.rows import INVOICE
from kernel.window import HOUR_MS
from tests.billing.billed_world import METERS, Billed, Plan, bill
from tests.billing.proof_world import given, refusal, sign_again
from tests.identity.world import ACME

pytestmark = pytest.mark.slow  # each world takes seconds to make, and is read again by each test

BOTH = ("spool-a", "spool-b")


@pytest.fixture(scope="module")
def original_redefined(tmp_path_factory: pytest.TempPathFactory) -> Billed:
    return asyncio.run(bill(tmp_path_factory.mktemp("redefined"), Plan(redefined=True)))


@pytest.fixture
def redefined(original_redefined: Billed, tmp_path: Path) -> Billed:
    return original_redefined.copy(tmp_path)


def told(billed: Billed) -> Definitions:
    return given(billed).evidence.definitions


def test_each_row_is_computed_by_the_definition_of_its_hour(original_redefined: Billed) -> None:
    verified = original_redefined.verify(*BOTH)
    assert len(verified.unproved) == 1, "the checkpoint"
    assert len([text for text in verified.proved if text.startswith("meters: ")]) == len(METERS)
    definitions = told(original_redefined)
    document = json.loads((original_redefined.bundle / INVOICE).read_bytes())
    meters = stated_meters(original_redefined.bundle, document["usage"], ACME.organization)
    changed = {one.file: one for one in meters if one.meter.meter != "users"}
    assert definitions.keys() == changed.keys()
    for file, one in changed.items():
        assert [at_ms for at_ms, _ in definitions[file]][1:] == [original_redefined.period.end_ms - 12 * HOUR_MS]
        assert definitions[file][1][1] == one.meter.model_dump_json(), "the document has the last one"
        assert any(file in text for text in verified.yours)


def with_definitions(change: Callable[[Definitions], Definitions]) -> Callable[..., object]:
    return lambda evidence: replace(evidence, definitions=change(evidence.definitions))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda found: {}, "meters/"),
        (
            lambda found: {file: (told[1], told[0]) for file, told in found.items()},
            "statement.definitions of meters/",
        ),
        (
            lambda found: {file: ((told[0][0], "{}"), told[1]) for file, told in found.items()},
            "definitions of a meter",
        ),
        (
            lambda found: {file: (told[0], (told[1][0] + HOUR_MS, told[1][1])) for file, told in found.items()},
            "meters/",
        ),
    ],
)
def test_definitions_that_did_not_make_the_rows_are_found(
    original_redefined: Billed, redefined: Billed, change: Callable[[Definitions], Definitions], where: str
) -> None:
    """None, in another order, of nothing, and an hour too late; signed by the vendor each time."""
    sign_again(original_redefined, redefined, with_definitions(change))  # type: ignore[arg-type]
    assert where in refusal(redefined, *BOTH)


def test_what_is_no_table_of_definitions_is_refused(original_redefined: Billed, redefined: Billed) -> None:
    sign_again(original_redefined, redefined, with_definitions(lambda _: {"meters/1.tsv": (("x", 1),)}))  # type: ignore[arg-type, dict-item]
    assert f"{EVIDENCE}: statement.definitions: found" in refusal(redefined)
