"""Whatever is in vendor.yaml, in a section, in the environment or in a head: it is read, or it is InvalidInput."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from console.checking import check_start
from console.sections import SECTION_NAMES, Sections, read_sections
from console.wiring import Vendor, open_vendor
from kernel.audit import AuditHead
from kernel.deployment_settings import DeploymentSettings
from kernel.environment import item_of, model_in
from kernel.errors import InvalidInput
from kernel.settings import load_section

MODELS: dict[str, Any] = {"deployment": DeploymentSettings, **get_type_hints(Sections)}
HEAD = "12:" + "ab" * 32
FEW = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
    deadline=None,
)

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 70_000)
    | st.floats()
    | st.dates()
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "kafka", "s3", "sqlite:////x", "https://h.example/", "whsec_", "vendor.yaml", "SSL", "\0"]
    )
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def sections_of(model: type[BaseModel], depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with fields of the model, of any value: the deeper parts are reached too."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        inner, item = model_in(field.annotation), model_in(item_of(field.annotation))
        choice: st.SearchStrategy[Any] = VALUES
        if inner is not None and depth:
            choice = sections_of(inner, depth - 1) | VALUES
        elif item is not None and depth:
            choice = st.lists(sections_of(item, depth - 1), max_size=2) | VALUES
        fields[name] = choice
    some = st.dictionaries(st.sampled_from(sorted(fields)), st.none(), max_size=4)
    return some.flatmap(lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen}))


WHOLE = st.fixed_dictionaries({}, optional={name: sections_of(MODELS[name]) | VALUES for name in SECTION_NAMES})


def opened(path: Path) -> Vendor | None:
    with suppress(InvalidInput):
        vendor = open_vendor(None, path)
        check_start(vendor, read_sections(vendor))
        return vendor
    return None


@pytest.mark.parametrize("name", SECTION_NAMES)
def test_any_section_is_one_or_refused(name: str, tmp_path: Path) -> None:
    path, model = tmp_path / "vendor.yaml", MODELS[name]

    @FEW
    @given(sections_of(model) | VALUES)
    def check(content: object) -> None:
        path.write_text(yaml.safe_dump({name: content}), encoding="utf-8")
        with suppress(InvalidInput):
            assert isinstance(load_section(name, model, path), model)

    check()


@FEW
@given(WHOLE)
def test_any_vendor_file_is_one_or_refused(tmp_path: Path, content: Mapping[str, Any]) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    opened(path)
    assert [found.name for found in tmp_path.iterdir()] == ["vendor.yaml"]


@FEW
@given(st.text(max_size=80) | st.binary(max_size=60))
def test_any_text_as_vendor_file_is_one_or_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    opened(path)


NAMES = st.lists(
    st.sampled_from(
        [
            *(name.upper() for name in SECTION_NAMES),
            "PORT",
            "LOG",
            "KIND",
            "RECEIVERS",
            "BODY",
            "URL",
            "HOST_NAMES",
            "X",
            "",
        ]
    ),
    min_size=1,
    max_size=4,
).map(lambda parts: "BYOC_" + "__".join(parts))
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


@FEW
@given(
    st.dictionaries(NAMES, TEXTS | st.sampled_from(["{}", "[]", '{"a": [1]}', "[" * 5000, "1", "NaN"]), max_size=3)
)
def test_any_environment_is_one_or_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    with patch.dict(os.environ, variables), suppress(InvalidInput):
        read_sections(open_vendor(tmp_path, None))


@settings(max_examples=200)
@given(st.text(max_size=90) | st.text("0123456789abcdef:", max_size=90) | st.just(HEAD))
def test_any_head_is_one_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert AuditHead.parse(str(AuditHead.parse(text))) == AuditHead.parse(text)
