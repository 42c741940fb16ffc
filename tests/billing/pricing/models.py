"""Price models for tests, written as in a contract."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter

from billing.pricing import Measured, PriceModel, amount_of

_ADAPTER: TypeAdapter[Any] = TypeAdapter(PriceModel)


def model(kind: str, **fields: Any) -> Any:
    """A model from the values that YAML would give."""
    return _ADAPTER.validate_python({"kind": kind, **fields})


def costs(priced: Any, quantity: str | int | Fraction) -> Fraction:
    """The exact amount of a quantity."""
    return amount_of(priced.price(Measured(Fraction(quantity))))
