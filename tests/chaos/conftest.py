"""A world on each storage, once for the module: a vendor takes five seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.storage import BROKER_SETTINGS, EMBEDDED, Storage, scale_out
from tests.chaos.world import World, open_world
from tests.services.fixtures import Services
from tests.services.kafka import run_kafka

SCALE_OUT = pytest.param("scale_out", marks=pytest.mark.services)


@pytest.fixture(scope="module", params=["embedded", SCALE_OUT])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """In one folder, or on Kafka (a broker of its own: its topics hold nothing else), S3 and PostgreSQL."""
    if request.param == "embedded":
        yield EMBEDDED
        return
    with ExitStack() as stack:
        kafka = Services(stack).start(run_kafka(tmp_path_factory.mktemp("kafka"), settings=BROKER_SETTINGS))
        servers = kafka, request.getfixturevalue("postgres_server"), request.getfixturevalue("s3_server")
        yield stack.enter_context(scale_out(*servers, tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="module")
def world(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world"), storage) as opened:
        yield opened
