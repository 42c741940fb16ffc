"""Environment variables as settings: `BYOC_GATEWAY__PORT=8443` is `gateway.port` and wins over the file.

Text becomes what the field wants. Lists and mappings are written as JSON; a list replaces the file's, a mapping is
laid over it. What Kubernetes sets for its services (`BYOC_GATEWAY_PORT=tcp://10.0.0.1:8443`) is no setting.
"""

from __future__ import annotations

import json
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from kernel.errors import InvalidInput

_SERVICE_LINK = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that is set: its name, the setting it means in lower case, its text."""

    name: str
    path: tuple[str, ...]
    text: str

    @property
    def source(self) -> str:
        """How findings name it."""
        return f"environment {self.name}"


def variables(prefix: str) -> list[Variable]:
    """Those whose names begin with `prefix`, by name; `__` goes a level down."""
    return [
        Variable(name, tuple(name.removeprefix(prefix).lower().split("__")), text)
        for name, text in sorted(os.environ.items())
        if name.startswith(prefix) and not _is_service_link(name, text)
    ]


def read_environment(model: type[BaseModel], found: Sequence[Variable]) -> dict[str, Any]:
    """The variables nested as a file's content would be. Raises InvalidInput when two contradict each other."""
    content: dict[str, Any] = {}
    for variable in found:
        place = content
        for part in variable.path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or variable.path[-1] in place:
            where = ".".join(variable.path)
            raise InvalidInput.single(variable.source, where, "a second value", "one variable for a setting")
        place[variable.path[-1]] = _value(variable.text, annotation_at(model, variable.path))
    return content


def overlaid(content: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over the file's content; a file's value of the wrong kind stays, so that it is refused."""
    merged = dict(content)
    for name, value in above.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and below is not None:
            merged[name] = overlaid(below, value) if isinstance(below, Mapping) else below
        else:
            merged[name] = value
    return merged


def annotation_at(model: type[BaseModel], path: Sequence[str | int]) -> Any:
    """The type of the setting at `path`, aliases and list positions included; None when there is none."""
    found: Any = model
    for part in path:
        found = next(_steps(found, part), None)
        if found is None:
            return None
    return found


def is_secret(annotation: Any) -> bool:
    """Whether values of the type must not be shown."""
    return SecretStr in _options(annotation)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model in a type such as `Model`, `Model | None`; None when there is none."""
    return next(iter(models_in(annotation)), None)


def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The settings models in a type; more than one where a field says which it is."""
    return tuple(option for option in _options(annotation) if _is_model(option))


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The names by which a model is told apart from others in its place; none for most."""
    annotations = (field.annotation for field in model.model_fields.values())
    return next((get_args(each) for each in annotations if get_origin(each) is Literal), ())


def item_of(annotation: Any) -> Any:
    """The type of the items of a list or tuple, of the values of a mapping; None for other types."""
    for option in _options(annotation):
        if get_origin(option) in (list, tuple):
            return get_args(option)[0]
        if get_origin(option) is dict:
            return get_args(option)[1]
    return None


def read_json(text: str) -> Any:
    """The value that the text is in JSON; the text itself when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _value(text: str, annotation: Any) -> Any:
    is_text = model_in(annotation) is None and item_of(annotation) is None
    return (
        text if is_text else read_json(text)
    )  # what is not JSON is refused by the model, which says what it wants


def _steps(annotation: Any, part: str | int) -> Iterator[Any]:
    models = models_in(annotation)
    if len(models) > 1:  # pydantic names the kind in its place
        yield from (model for model in models if part in kinds_of(model))
    model = next(iter(models), None)
    if model is not None:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                yield field.annotation
    elif (item := item_of(annotation)) is not None:
        yield item


def _options(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _options(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(option for member in get_args(annotation) for option in _options(member))
    return (annotation,)


def _is_model(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, BaseModel)


def _is_service_link(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.search(name)) or (name.endswith("_PORT") and "://" in text)
