"""What a cluster should be: milli-vCPU for each component, and the Milvus version. Frozen values, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kernel.errors import Finding, InvalidInput, raise_findings

MAX_NAME_LENGTH = 32
MAX_COMPONENT_MILLI_VCPU = 1_024_000  # the largest published cluster has 1,024 CU
COMPONENTS = ("query", "milvus", "index", "dependency")
LICENSED_COMPONENTS = ("query", "milvus", "index")
SIZES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)
NAME_RULE = f"1 to {MAX_NAME_LENGTH} printable characters, not beginning or ending with a space"


@dataclass(frozen=True, slots=True)
class Allocation:
    """milli-vCPU of each component. `dependency` (etcd, message queue, storage) is not licensed."""

    query: int
    milvus: int
    index: int
    dependency: int = 0

    @property
    def licensed_milli_vcpu(self) -> int:
        """What counts against the licence: query + milvus + index."""
        return self.query + self.milvus + self.index

    @property
    def total_milli_vcpu(self) -> int:
        return self.licensed_milli_vcpu + self.dependency

    def by_component(self) -> dict[str, int]:
        """Component name to milli-vCPU, in the order of `COMPONENTS`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The desired cluster. `size` is the catalogue's name, or "custom"."""

    allocation: Allocation
    version: str
    size: str = "custom"

    def render(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> ClusterSpec:
        """The inverse of `render`. Raises InvalidInput."""
        try:
            content = json.loads(text)
            return cls(parse_allocation(content["allocation"]), str(content["version"]), str(content["size"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput.single(
                "cluster spec", "document", repr(text[:80]), "a rendered ClusterSpec"
            ) from error


def sized(size: str, version: str, source: str = "cluster") -> ClusterSpec:
    """The spec of a catalogue size `Ncu`: 1 CU is 0.5 vCPU query, 0.25 milvus, 0.25 index and 0.25 dependency.

    So one CU needs one vCPU of licence. Raises InvalidInput for a size that is not in the catalogue.
    """
    number = size.removesuffix("cu")
    if size not in catalogue():
        raise InvalidInput.single(source, "size", repr(size), ", ".join(catalogue()))
    units = int(number)
    return ClusterSpec(Allocation(500 * units, 250 * units, 250 * units, 250 * units), version, size)


def catalogue() -> list[str]:
    """The names of the sizes on offer."""
    return [f"{units}cu" for units in SIZES]


def parse_allocation(content: Mapping[str, Any], source: str = "cluster") -> Allocation:
    """From component to milli-vCPU (whole numbers). Raises InvalidInput with a finding for each defect."""
    findings = [
        Finding(source, "component", repr(name), ", ".join(COMPONENTS))
        for name in content
        if name not in COMPONENTS
    ]
    for name in COMPONENTS:
        value = content.get(name, 0)
        least = 1 if name in LICENSED_COMPONENTS else 0
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not least <= value <= MAX_COMPONENT_MILLI_VCPU:
            allowed = f"a whole number of milli-vCPU from {least} to {MAX_COMPONENT_MILLI_VCPU}"
            findings.append(Finding(source, name, repr(value), allowed))
    raise_findings(findings)
    return Allocation(**{name: content.get(name, 0) for name in COMPONENTS})


def parse_name(name: str, kind: str) -> str:
    """`name` if it may name an organization, a project or a cluster. Raises InvalidInput."""
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise InvalidInput.single(kind, "name", repr(name), NAME_RULE)
    return name
