"""What the pages show is what the product takes: each YAML example loads, each `byoc` command line parses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from billing.admission import admission_findings
from billing.contract import Contract, parse_contract
from console.cli import GROUPS, build_app, main
from metering.meters.catalogue import default_catalogue, parse_catalogue
from tests.billing.deals import contract_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md"))
    if path.name != "CHANGELOG.md"
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    +((?:\.venv/bin/)?byoc .+)$", re.MULTILINE)
INLINE = re.compile(r"`(byoc [^`]+)`", re.DOTALL)
IN_CODE = re.compile(r"^#? ?((?:\.venv/bin/)?byoc .+)$", re.MULTILINE)
NOT_COMMANDS = frozenset({"byoc invoice key 1"})  # a text that is signed
BREAKS = ("|", ">", "<", "&", "#", ";")


def yaml_examples() -> Iterator[Any]:
    for page in PAGES:
        for place, found in enumerate(FENCED.finditer(page.read_text(encoding="utf-8"))):
            if found[1] == "yaml":
                yield pytest.param(found[2], id=f"{page.relative_to(ROOT)}-{place}")


@pytest.mark.parametrize("text", list(yaml_examples()))
def test_a_yaml_example_loads(text: str, tmp_path: Path) -> None:
    names = yaml.safe_load(text).keys()
    if "catalogue" in names:
        parse_catalogue(text, "example")
    elif "contract" in names:
        parse_contract(text, "example")
    elif "deployment" in names:
        (tmp_path / "vendor.yaml").write_text(text)
        with pytest.raises(SystemExit) as ended:
            main(["-c", str(tmp_path / "vendor.yaml"), "organization", "--help"])
        assert ended.value.code == 0
    else:
        assert names <= Contract.model_fields.keys(), "an example that no loader takes"
        beside = "charges:\n  - {charge: searches, description: d, meter: milvus-search-vectors, steps: [{start: "
        charge = f'{beside}2026-10-01, model: {{kind: per-unit, unit: "1"}}}}]}}\n'
        contract = parse_contract(contract_text(more=text + ("" if "charges" in names else charge)), "example")
        meters = [meter.meter for meter in default_catalogue().meters]
        assert list(admission_findings(contract, meters, "example")) == []


def commands() -> Iterator[Any]:
    """Command lines of the pages, each once; whether it stands in running text, where arguments may be left out."""
    seen: set[tuple[str, bool]] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(found[2] for found in FENCED.finditer(text))
        prose = FENCED.sub("", text)
        lines = [(line, False) for found in (IN_CODE.findall(blocks), INDENTED.findall(prose)) for line in found]
        lines += [(" ".join(line.split()), True) for line in INLINE.findall(prose)]
        for line in lines:
            if line not in seen and line[0] not in NOT_COMMANDS:
                seen.add(line)
                yield pytest.param(*line, id=f"{page.relative_to(ROOT)}: {line[0]}")


@pytest.mark.parametrize(("line", "is_prose"), list(commands()))
def test_a_command_line_parses(line: str, *, is_prose: bool) -> None:
    words, is_short = words_of(line), is_prose or "|" in line or "..." in line
    command = tree(frozenset(words).intersection(GROUPS))
    context: Any = None
    name = "byoc"
    while True:
        try:
            context = command.make_context(name, words, parent=context)
        except Exception as error:
            if is_short and type(error).__name__ in {"MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"}:
                return
            raise AssertionError(f"{line}: {error}") from error
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest or rest[0] == "...":
            assert is_short, f"{line}: no command"
            return
        name, command, words = command.resolve_command(context, rest)


@cache
def tree(groups: frozenset[str]) -> Any:
    """The commands, those groups loaded."""
    return typer.main.get_command(build_app(list(groups)))


def words_of(line: str) -> list[str]:
    """Up to what is the shell's; of `a|b` the first; `[X]` may be given; K stands for a number."""
    words: list[str] = []
    for part in re.split(r"\s{2,}", line)[0].split():
        if part.startswith(BREAKS):
            break
        words.append(part if part == "..." else part.strip("[]").partition("|")[0].rstrip(",.:"))
    return ["1" if word == "K" else word for word in shlex.split(" ".join(words))[1:] if word]


def test_there_is_something_to_check() -> None:
    assert len(list(yaml_examples())) >= 6
    assert len(list(commands())) >= 60
