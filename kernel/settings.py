"""Settings: one YAML file plus environment variables, read once into frozen pydantic models.

How a variable becomes a setting: `kernel.environment`.

Every field carries a description with its unit, default and consequence. Secrets are `SecretStr`, or better
the path of a file, and never print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from kernel.environment import (
    Variable,
    annotation_at,
    is_secret,
    item_of,
    model_in,
    overlaid,
    read_environment,
    variables,
)
from kernel.errors import Finding, InvalidInput
from kernel.wording import explain, shown

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_YAML_NODES = 1_000_000  # with every alias written out: a few lines of aliases expand without bound
MAX_NUMBER_CHARACTERS = 100  # Python takes time with the square of the length, and can't print the longest
_USER_IN_URL = re.compile(r"://[^/\s]*@")
S = TypeVar("S", bound="Settings")
C = TypeVar("C", bound="Section")
_SECRET_WORDS = ("secret", "password", "token", "credentials", "key")


class Section(BaseModel):
    """A part of the settings of a component: frozen, nothing unknown allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Settings(BaseModel):
    """The settings of one process. Environment wins over file: `BYOC_GATEWAY__PORT=8443` is gateway.port."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    env_prefix: ClassVar[str] = "BYOC_"

    @model_validator(mode="before")
    @classmethod
    def _under_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        return overlaid(given, read_environment(cls, _variables_of(cls)))


def _variables_of(model: type[BaseModel]) -> list[Variable]:
    found = variables(model.env_prefix) if issubclass(model, Settings) else []
    if model.model_config.get("extra") != "ignore":
        return found
    return [variable for variable in found if variable.path[0] in model.model_fields]


def load_settings(model: type[S], path: Path | None, overrides: Mapping[str, Any] | None = None) -> S:
    """Settings of a YAML file (none: defaults) and the environment. Raises InvalidInput, one finding a field."""
    content = dict(read_yaml_mapping(path)) if path else {}
    content.update(overrides or {})
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid(error, str(path or "settings"), model) from error


class _OneSection(Settings):
    model_config = ConfigDict(extra="ignore")  # the other sections are read by others


def load_section(name: str, model: type[C], path: Path | None) -> C:
    """One section of a YAML file (none: defaults) and its variables `BYOC_<NAME>__*`. Raises InvalidInput."""
    content = read_yaml_mapping(path) if path else {}
    given: dict[str, Any] = {name: {} if content.get(name) is None else content[name]}
    outer = _around(name, model)
    try:
        section = getattr(outer.model_validate(given), name)
    except ValidationError as error:
        raise invalid(error, str(path or "settings"), outer) from error
    assert isinstance(section, model)
    return section


@cache
def _around(name: str, model: type[Section]) -> type[Settings]:
    field = (model, Field(description=f"The section {name}."))
    return create_model(f"{model.__name__}InFile", __base__=_OneSection, **{name: field})  # type: ignore[call-overload, no-any-return]


def anchored(section: C, start: Path) -> C:
    """The same with relative paths taken from `start`, the folder of the file that they stand in."""
    updates = {name: _anchored(getattr(section, name), start) for name in type(section).model_fields}
    return section.model_copy(update=updates)


def _anchored(value: Any, start: Path) -> Any:
    if isinstance(value, Path):
        return start / value
    if isinstance(value, Section):
        return anchored(value, start)
    if isinstance(value, tuple):
        return tuple(_anchored(each, start) for each in value)
    return value


def read_yaml_mapping(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file. Raises InvalidInput with the line of a syntax error."""
    content = parse_yaml(read_text(path), str(path))
    return {} if content is None else mapping_of(content, str(path))


def mapping_of(content: Any, source: str) -> dict[str, Any]:
    """The content of a file, which is a mapping of names. Raises InvalidInput."""
    if content is None:
        raise InvalidInput.single(source, "top level", "nothing, the file is empty", "a mapping of names")
    if not isinstance(content, dict):
        raise InvalidInput.single(source, "top level", shown(content), "a mapping of names")
    for key in content:
        if not isinstance(key, str):
            raise InvalidInput.single(source, "top level", f"the name {shown(key)}", "names that are text")
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
        raise InvalidInput([_syntax(error, text, source)]) from error
    except RecursionError as error:
        raise InvalidInput.single(source, "document", "too deep nesting", "a hundred levels at most") from error
    except ValueError as error:
        raise InvalidInput.single(source, "document", str(error), "YAML") from error


def _syntax(error: yaml.YAMLError, text: str, source: str) -> Finding:
    if isinstance(error, yaml.reader.ReaderError):
        where = f"line {text.count(chr(10), 0, error.position) + 1}"
        return Finding(source, where, f"character {error.character:#x}", "text without control characters")
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
    problem = getattr(error, "problem", None) or str(error)
    return Finding(source, where, problem.removeprefix("but ").removeprefix("found "), "YAML")


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

    def construct_day(self, node: yaml.ScalarNode) -> date:
        """A date or a moment of the calendar. Raises MarkedYAMLError."""
        try:
            found: date = self.construct_yaml_timestamp(node)
        except ValueError as error:
            problem = f"{node.value}, which is no date"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        return found


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_day)
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


def invalid(error: ValidationError, source: str, model: type[BaseModel] | None = None) -> InvalidInput:
    """A pydantic error as findings: field path, what was found, what is allowed. Secrets are not repeated.

    `model` is what was validated: its types say what is secret, and its environment what came from there.
    """
    problems = error.errors(include_url=False)
    refused_within = {problem["loc"][:depth] for problem in problems for depth in range(1, len(problem["loc"]))}
    # A list is counted without its refused items: "at least 1 item" is then nobody's mistake.
    real = [each for each in problems if each["type"] != "too_short" or each["loc"] not in refused_within]
    return InvalidInput([_finding(problem, source, model) for problem in real])


def _finding(problem: Any, source: str, model: type[BaseModel] | None) -> Finding:
    location = problem["loc"]
    annotation = annotation_at(model, location) if model and location else None
    where, found, allowed = explain(problem, model)
    origin = _origin(location, model)
    if origin is not None and (item_of(annotation) is not None or model_in(annotation) is not None):
        allowed = f"{allowed}, as JSON"
    if found is None:
        hidden = is_secret(annotation) or any(word in where.lower() for word in _SECRET_WORDS)
        found = "a value (hidden)" if hidden else shown(problem.get("input"))
    return Finding(origin or _with_environment(source, location, model), where or "document", found, allowed)


def _origin(location: tuple[str | int, ...], model: type[BaseModel] | None) -> str | None:
    """The variable that a value came from."""
    path = tuple(str(part) for part in location)
    found = _variables_of(model) if model else []
    sources = [each.source for each in found if each.path == path[: len(each.path)]]
    return sources[-1] if sources else None


def _with_environment(source: str, location: tuple[str | int, ...], model: type[BaseModel] | None) -> str:
    """The file, and the variables that had a part in what stands at the location."""
    path = tuple(str(part) for part in location)
    found = _variables_of(model) if model else []
    names = [each.name for each in found if each.path[: len(path)] == path]
    return f"{source} with environment {', '.join(names)}" if names else source


def documented_fields(
    model: type[BaseModel], prefix: str = "", *, with_items: bool = False
) -> Iterator[tuple[str, str | None, Any]]:
    """Every leaf setting: dotted name, description, default (`...` when there is none).

    `with_items`: the fields of a list's items follow it as `name[].field`. A test fails on one without description.
    """
    for name, field in model.model_fields.items():
        shown = f"{prefix}{field.alias or name}"
        inner, item = model_in(field.annotation), model_in(item_of(field.annotation))
        if inner is not None:
            yield from documented_fields(inner, f"{shown}.", with_items=with_items)
            continue
        default = ... if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
        yield shown, field.description, default
        if with_items and item is not None:
            yield from documented_fields(item, f"{shown}[].", with_items=True)
