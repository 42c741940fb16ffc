"""What pydantic refuses, in the words of who wrote the file: which field, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from kernel.environment import annotation_at, kinds_of, model_in, models_in
from kernel.errors import without_passwords

_REFUSED = "refused_field"
_WANTED = {  # by pydantic's name of the error
    "string_type": "text, in quotes where YAML would read something else",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of names",
    "model_type": "a mapping of names",
    "model_attributes_type": "a mapping of names",
    "invalid_key": "names that are text",
}
_BOUNDS = {  # the same, with what stands in the error's context
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "{min_length} or more of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
}
Location = tuple[str | int, ...]


class Problem(NamedTuple):
    """A refusal in words. `found` is None where the input is to be shown, which may be a secret."""

    where: str
    found: str | None
    allowed: str


def refused(allowed: str, found: object = None, at: str = "") -> PydanticCustomError:
    """What a validator raises: what is allowed, what was found (None: the input), and where `at` in the input."""
    return PydanticCustomError(
        _REFUSED, "{allowed}", {"allowed": allowed, "found": None if found is None else str(found), "at": at}
    )


def explain(problem: Any, model: type[BaseModel] | None) -> Problem:
    """One of pydantic's `errors()`. `model` is what was validated, if it is known."""
    location, kind, context = problem["loc"], problem["type"], problem.get("ctx") or {}
    where = path_text(location, model)
    if kind == "missing":
        return Problem(where, "nothing", f"a value: {_description(location, model)}")
    if kind == "extra_forbidden":  # its value may be a secret under a misspelt name
        return Problem(where, "an unknown name", _known_names(location, model) or "no other names")
    if kind == _REFUSED:
        return Problem(_joined(where, context["at"]), context["found"], context["allowed"])
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        found = context.get("tag")
        where = _joined(where, "." + context["discriminator"].strip("'"))
        return Problem(where, "nothing" if found is None else repr(found), _kinds(location, model))
    wanted = _WANTED.get(kind) or _BOUNDS.get(kind, "").format_map(context)
    return Problem(where, None, wanted or problem["msg"].removeprefix("Input should be "))


def shown(value: object) -> str:
    """What stands in a file, as its writer would say it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes):
        return "a mapping" if isinstance(value, Mapping) else "a list" if value else "an empty list"
    if isinstance(value, date):
        return value.isoformat()
    return type(value).__name__ if hasattr(value, "__dict__") else without_passwords(repr(value))


def path_text(location: Location, model: type[BaseModel] | None) -> str:
    """`steps[0].model.unit`: names and list positions, without pydantic's names of the kinds between them."""
    text = ""
    for depth, part in enumerate(location):
        if model is None or not _is_tag(location[:depth], part, model):
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _is_tag(before: Location, part: str | int, model: type[BaseModel]) -> bool:
    options = models_in(annotation_at(model, before)) if before else ()
    return len(options) > 1 and part not in {name for option in options for name in _names(option)}


def _joined(where: str, at: str) -> str:
    return (where + at).lstrip(".")


def _kinds(location: Location, model: type[BaseModel] | None) -> str:
    options = models_in(annotation_at(model, location)) if model else ()
    kinds = [each for option in options for each in kinds_of(option)]
    return "one of " + ", ".join(kinds) if kinds else "a known kind"


def _description(location: Location, model: type[BaseModel] | None) -> str:
    parent = model_in(annotation_at(model, location[:-1])) if model else None
    fields = parent.model_fields if parent else {}
    found = next((field.description for name, field in fields.items() if location[-1] in (name, field.alias)), None)
    return found or "there is no default"


def _known_names(location: Location, model: type[BaseModel] | None) -> str:
    parent = model_in(annotation_at(model, location[:-1])) if model else None
    if parent is None:
        return ""
    names = _names(parent)
    near = get_close_matches(str(location[-1]), names, n=1)
    return ", ".join(names) + (f" (the nearest is {near[0]})" if near else "")


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
