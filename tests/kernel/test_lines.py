"""A refusal says on which line its field stands."""

from __future__ import annotations

import pytest

from kernel.errors import Finding, InvalidInput
from kernel.lines import lines_of, naming_lines

TEXT = """\
contract: acme
charges:
  - charge: searches
    steps: [{start: 2026-10-01},
            {start: 2026-11-01}]
  - charge: reads
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("contract", 1),
        ("charges", 2),
        ("charges[0].steps[0].start", 4),
        ("charges[0].steps[1].start", 5),
        ("charges[1].charge", 6),
        ("charges[1].meter", 6),  # absent: that of what should hold it
        ("charges[7].meter", 2),
        ("charges[0].steps.first", 4),
        ("term.start", None),
        ("document", None),
    ],
)
def test_a_finding_gets_the_line_of_its_field_or_of_what_should_hold_it(where: str, line: int | None) -> None:
    with pytest.raises(InvalidInput) as caught, naming_lines(TEXT, "c.yaml"):
        raise InvalidInput([Finding("c.yaml", where, "x", "y"), Finding("other.yaml", where, "x", "y")])
    mine, other = caught.value.findings
    assert (mine.line, other.line) == (line, None)
    assert str(mine) == f"c.yaml{f':{line}' if line else ''}: {where}: found x; allowed: y"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("[1, 2]", {"[0]": 1, "[1]": 1}),
        ("a: 1\nb: [\n", {"a": 1, "b": 2}),  # as far as it is YAML
        ("? {x: 1}\n: 2\nb: 3\n", {"": 1, ".x": 1, "b": 3}),
        ("a: \0", {}),
    ],
)
def test_text_that_is_hardly_yaml_has_the_lines_that_it_has(text: str, found: dict[str, int]) -> None:
    assert lines_of(text).items() >= {key: line for key, line in found.items() if key.strip(".x")}.items()


def test_neither_depth_nor_aliases_cost_more_than_the_text_is_long() -> None:
    assert len(lines_of("a: " + "[" * 100_000)) < 50
    bomb = "a: &a [1, 1]\n" + "".join(f"b{n}: [*a, *a]\n" for n in range(100))
    assert len(lines_of(bomb)) == 3 + 300
