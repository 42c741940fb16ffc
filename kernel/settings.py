"""Settings: one YAML file plus environment variables, read once into frozen pydantic models.

Every field carries a description with its unit, default and consequence. Secrets are `SecretStr`, or better
the path of a file, and never print.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kernel.errors import Finding, InvalidInput

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_YAML_NODES = 1_000_000  # with every alias written out: a few lines of aliases expand without bound
MAX_NUMBER_CHARACTERS = 100  # Python takes time with the square of the length, and can't print the longest
_USER_IN_URL = re.compile(r"://[^/\s]*@")
S = TypeVar("S", bound="Settings")


class Section(BaseModel):
    """A part of the settings of a component: frozen, nothing unknown allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Settings(BaseSettings):
    """The settings of one process. Environment wins over file: `BYOC_GATEWAY__PORT=8443` is gateway.port."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="BYOC_", env_nested_delimiter="__", allow_inf_nan=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(model: type[S], path: Path | None, overrides: Mapping[str, Any] | None = None) -> S:
    """Settings of a YAML file (none: defaults) and the environment. Raises InvalidInput, one finding a field."""
    content = dict(read_yaml_mapping(path)) if path else {}
    content.update(overrides or {})
    try:
        return model(**content)
    except ValidationError as error:
        raise invalid(error, str(path or "settings")) from error


def read_yaml_mapping(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file. Raises InvalidInput with the line of a syntax error."""
    content = parse_yaml(read_text(path), str(path))
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidInput.single(str(path), "top level", type(content).__name__, "a mapping of names")
    return content


def read_text(path: Path) -> str:
    """The UTF-8 text of a small file. Raises InvalidInput."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput.single(
                str(path), "size", f"{path.stat().st_size} bytes", f"at most {MAX_FILE_BYTES} bytes"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror or str(error), "a readable file") from error
    except UnicodeDecodeError as error:
        raise InvalidInput.single(str(path), f"byte {error.start}", "not UTF-8", "UTF-8 text") from error


def parse_yaml(text: str, source: str) -> Any:
    """YAML (safe) with its own line numbers in errors. Raises InvalidInput."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidInput.single(source, where, problem, "YAML") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput.single(source, "document", str(error) or "nesting too deep", "YAML") from error


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with bounds on what a small text may become."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded_nodes(node, {}) > MAX_YAML_NODES:
            problem = f"aliases that expand to over {MAX_YAML_NODES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number that is not too long to be one. Raises MarkedYAMLError."""
        if len(node.value) > MAX_NUMBER_CHARACTERS:
            problem = f"a number of {len(node.value)} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        is_float = node.tag.endswith(":float")
        return self.construct_yaml_float(node) if is_float else self.construct_yaml_int(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def _expanded_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are below `node`, those behind aliases counted each time. Raises MarkedYAMLError."""
    if (count := known.get(id(node))) is not None:
        if count == 0:
            raise yaml.MarkedYAMLError(problem="a value that holds itself", problem_mark=node.start_mark)
        return count
    known[id(node)] = 0  # being counted
    count = 1
    if isinstance(node, yaml.SequenceNode):
        count += sum(_expanded_nodes(each, known) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        count += sum(_expanded_nodes(each, known) for pair in node.value for each in pair)
    known[id(node)] = count
    return count


def invalid(error: ValidationError, source: str) -> InvalidInput:
    """A pydantic error as findings: field path, what was found, what is allowed. Secrets are not repeated."""
    return InvalidInput([_finding(problem, source) for problem in error.errors(include_url=False)])


def _finding(problem: Any, source: str) -> Finding:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    found = problem.get("input")
    hidden = any(word in where.lower() for word in ("secret", "password", "token", "credentials", "key"))
    if problem["type"] == "missing":
        shown = "nothing"
    elif hidden:
        shown = "a value (hidden)"
    elif isinstance(found, dict | list) or hasattr(found, "__dict__"):
        shown = type(found).__name__
    else:
        shown = _USER_IN_URL.sub("://(hidden)@", repr(found))
    return Finding(source, where or "document", shown, problem["msg"])


def documented_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None, Any]]:
    """Every leaf setting: dotted name, description, default. A test fails on one without a description."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from documented_fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description, field.get_default(call_default_factory=False)


def environment_names(model: type[BaseSettings]) -> list[str]:
    """The environment variables that are set now and that `model` reads."""
    prefix = str(model.model_config.get("env_prefix", ""))
    return sorted(name for name in os.environ if name.startswith(prefix)) if prefix else []
