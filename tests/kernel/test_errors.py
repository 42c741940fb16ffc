"""Errors that come from another process say what they said there."""

from __future__ import annotations

import pickle

import pytest

from kernel.errors import ByocError, InvalidInput, NotFound, SlowDown
from metering.gateway.answers import Busy
from metering.lake.errors import LakeUnavailable
from metering.usage.store import HoursMoved


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput.single("contract.yaml", "price", "-1", "not negative"),
        NotFound("no such thing"),
        SlowDown("too much", 2.5),
        Busy("too many pushes", 2.0),
        LakeUnavailable("the lake does not answer"),
        HoursMoved("another closer was there"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_its_way_between_processes(error: ByocError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
