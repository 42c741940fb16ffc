"""Specs, sizes and names: what is admitted, what is refused, and with which finding."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from provisioner.cli import parse_spec
from provisioner.spec import (
    COMPONENTS,
    LICENSED_COMPONENTS,
    MAX_COMPONENT_MILLI_VCPU,
    Allocation,
    ClusterSpec,
    catalogue,
    parse_allocation,
    parse_name,
    sized,
)
from tests.effort import costly

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
component = st.integers(1, MAX_COMPONENT_MILLI_VCPU)


@pytest.mark.parametrize("size", catalogue())
def test_one_cu_needs_one_vcpu_of_licence_and_dependencies_none(size: str) -> None:
    spec = sized(size, "2.3.5")
    units = int(size.removesuffix("cu"))
    assert spec.allocation.licensed_milli_vcpu == units * 1000
    assert spec.allocation.total_milli_vcpu == units * 1250
    assert parse_allocation(spec.allocation.by_component()) == spec.allocation


@pytest.mark.parametrize("size", ["", "cu", "3cu", "-1cu", "1", "1CU", "01cu", "512cu", "1cucu", "١cu"])
def test_a_size_outside_the_catalogue_is_refused(size: str) -> None:
    with pytest.raises(InvalidInput, match="1cu, 2cu"):
        sized(size, "2.3.5")


@settings(max_examples=100)
@given(component, component, component, st.integers(0, MAX_COMPONENT_MILLI_VCPU))
def test_a_spec_survives_its_rendering(query: int, milvus: int, index: int, dependency: int) -> None:
    spec = ClusterSpec(Allocation(query, milvus, index, dependency), "2.3.5")
    assert ClusterSpec.parse(spec.render()) == spec


@costly(100)
@given(st.dictionaries(st.sampled_from(COMPONENTS) | st.text(max_size=6), anything, max_size=6))
def test_an_allocation_is_whole_numbers_in_range_or_refused(content: dict[str, Any]) -> None:
    def is_whole(value: Any, least: int) -> bool:
        return type(value) is int and least <= value <= MAX_COMPONENT_MILLI_VCPU

    good = set(content) <= set(COMPONENTS) and all(
        is_whole(content.get(name, 0), 1 if name in LICENSED_COMPONENTS else 0) for name in COMPONENTS
    )
    if good:
        assert parse_allocation(content).by_component() == {name: content.get(name, 0) for name in COMPONENTS}
        return
    with pytest.raises(InvalidInput) as refused:
        parse_allocation(content)
    assert all(finding.where and finding.allowed for finding in refused.value.findings)


@settings(max_examples=100)
@given(st.text(max_size=40) | anything.map(json.dumps))
def test_a_stored_spec_is_parsed_or_refused_never_broken(text: str) -> None:
    try:
        ClusterSpec.parse(text)
    except InvalidInput:
        return
    assert json.loads(text)["allocation"]


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_a_name_is_short_and_printable(name: str) -> None:
    good = 1 <= len(name) <= 32 and name.isprintable() and name == name.strip()
    try:
        assert parse_name(name, "cluster") == name
        assert good
    except InvalidInput:
        assert not good


@settings(max_examples=100)
@given(st.none() | st.text(max_size=8), st.none() | st.text(alphabet="query=milvus,index0123456789 -", max_size=40))
def test_the_options_give_a_spec_or_a_refusal(size: str | None, vcpu: str | None) -> None:
    try:
        spec = parse_spec(size, vcpu, "2.3.5")
    except InvalidInput:
        return
    assert (size is None) != (vcpu is None)
    assert spec.allocation.licensed_milli_vcpu >= 3


def test_the_options_read_milli_vcpu_by_component() -> None:
    spec = parse_spec(None, "query=1500, milvus=500,index=250", "2.3.5")
    assert spec.allocation == Allocation(query=1500, milvus=500, index=250, dependency=0)
    with pytest.raises(InvalidInput, match="each component once"):
        parse_spec(None, "query=1,query=2,milvus=1,index=1", "2.3.5")
    with pytest.raises(InvalidInput, match="index: found 0"):
        parse_spec(None, "query=1,milvus=1", "2.3.5")
