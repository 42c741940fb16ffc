"""Rules of the house that a tool can keep."""

from __future__ import annotations

import ast
import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from kernel.settings import Section, Settings
from tests.durations import is_there, known

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("alerts", "billing", "collector", "console", "kernel", "metering", "provisioner")
MOST_LINES_IN_A_FILE = 500
MOST_LINES_IN_A_FUNCTION = 60
SKIPPED_MODULES = re.compile(r"console\.migrations|__main__|provisioner\.local\.workload")


def modules() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}."):
            if not SKIPPED_MODULES.search(found.name):
                yield found.name


def models() -> Iterator[type[BaseModel]]:
    for name in modules():
        importlib.import_module(name)
    waiting: list[type[BaseModel]] = [Section, Settings]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.split(".", maxsplit=1)[0] in PACKAGES:
            yield model


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def test_every_setting_says_what_it_does() -> None:
    """Unit, default and consequence stand beside the field, where the next reader looks."""
    silent = [
        f"{model.__module__}.{model.__qualname__}.{name}"
        for model in models()
        if model not in {Section, Settings}
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert not silent, silent


@pytest.mark.parametrize("package", PACKAGES)
def test_each_component_says_what_it_owns(package: str) -> None:
    readme = (ROOT / package / "README.md").read_text(encoding="utf-8").lower()
    for part in ("owns", "does not own", "what (its|the) times mean", "invariants", "known flaws"):
        assert re.search(part, readme), f"{package}/README.md lacks {part!r}"


@pytest.mark.parametrize("folder", ["tests", "deploy", "docs", "bench"])
def test_each_other_folder_says_what_it_owns(folder: str) -> None:
    readme = (ROOT / folder / "README.md").read_text(encoding="utf-8").lower()
    for part in ("owns", "does not own"):
        assert part in readme, f"{folder}/README.md lacks {part!r}"


def test_the_readme_has_no_gap_left_to_fill() -> None:
    assert not re.findall(r"@[A-Z_]+@", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_page_of_settings_is_what_the_models_say() -> None:
    from console.settings_page import PAGE, render_page

    assert PAGE.read_text(encoding="utf-8") == render_page(), "the models changed: `make docs` writes the page"


def test_the_index_of_docs_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", index))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_only_the_wire_of_the_collector_is_open_to_the_gateway() -> None:
    """A module that is new in the collector has to be closed to the gateway by name."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    closed = set(contracts["importlinter:contract:gateway"]["forbidden_modules"].split())
    found = {f"collector.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "collector")])}
    assert closed == found - {"collector.wire"}


def test_billing_takes_the_types_of_usage_without_its_libraries() -> None:
    script = (
        "import sys\nimport metering.usage.model\n"
        "print([name for name in ('pyarrow', 'duckdb', 'numpy', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_no_file_or_function_outgrows_its_reader() -> None:
    outgrown = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MOST_LINES_IN_A_FILE:
            outgrown.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > MOST_LINES_IN_A_FUNCTION and "migrations" not in path.parts:
                    outgrown.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert not outgrown, outgrown


def test_only_the_clock_reads_the_clock() -> None:
    """Time is injected; the exceptions run outside the product's process or measure it."""
    reading = re.compile(r"\btime\.(time|time_ns|monotonic)\(|datetime\.now\(|\.utcnow\(")
    allowed = {"kernel/clock.py", "provisioner/local/workload.py"}
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if str(path.relative_to(ROOT)) not in allowed
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if reading.search(line)
    ]
    assert not found, found


def test_locks_name_no_registry_and_hash_everything() -> None:
    locks = [*sorted((ROOT / "locks").glob("*.txt")), *sorted((ROOT / "provisioner").glob("*.lock"))]
    assert len(locks) >= 5
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, lock
        pins = re.findall(r"^([a-z0-9][^\s=]*)==", text, flags=re.MULTILINE)
        assert pins
        for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
            assert not block.strip() or "--hash=sha256:" in block, f"{lock}: {block[:40]}"


def test_the_readme_names_the_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\b", readme))
    assert {"demo", "test"} <= named
    assert named <= targets, named - targets


def test_every_component_has_a_typed_marker() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists(), package


def test_tests_that_are_listed_as_long_exist() -> None:
    """A name that was left behind would make a new test of that name slow."""
    gone = sorted(name for name in known() if not is_there(name))
    assert not gone, gone
