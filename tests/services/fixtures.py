"""The services as fixtures: started when a test first asks for one, and one of each per xdist worker.

A service whose program is missing skips the test and says how to get it; with BYOC_REQUIRE_SERVICES=1 the
test fails instead. A service that is there and does not start fails the test always.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, TypeVar

import pytest

from tests.services.alertmanager import run_alertmanager
from tests.services.errors import ServiceUnavailable
from tests.services.http_service import HttpService
from tests.services.kafka import KafkaServer, run_kafka
from tests.services.mustang import Mustang, find_mustang
from tests.services.postgres import PostgresServer, run_postgres
from tests.services.prometheus import run_prometheus
from tests.services.s3 import S3Bucket, S3Server, run_s3
from tests.services.spark import Spark, find_spark
from tests.services.victoria import run_victoria
from tests.services.vmagent import run_vmagent

T = TypeVar("T")


class StartKafka(Protocol):
    """A broker of the test's own, say with a small `message.max.bytes`."""

    def __call__(self, settings: Mapping[str, str]) -> KafkaServer: ...


class StartPrometheus(Protocol):
    def __call__(self, config: str, flags: Sequence[str] = (), *, agent: bool = False) -> HttpService: ...


class StartAlertmanager(Protocol):
    def __call__(self, config: str, flags: Sequence[str] = ()) -> HttpService: ...


class StartVmagent(Protocol):
    def __call__(self, config: str, remote_write_url: str, flags: Sequence[str] = ()) -> HttpService: ...


class StartVictoria(Protocol):
    def __call__(self, flags: Sequence[str] = ()) -> HttpService: ...


class Services:
    """What one scope has started; all of it stops with the scope, the last first."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, service: AbstractContextManager[T]) -> T:
        return self.found(lambda: self._stack.enter_context(service))

    def found(self, find: Callable[[], T]) -> T:
        """What `find` gives; a missing program skips or fails the test."""
        try:
            return find()
        except ServiceUnavailable as missing:
            if os.environ.get("BYOC_REQUIRE_SERVICES") == "1":
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))


@pytest.fixture(scope="session")
def session_services() -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack)


@pytest.fixture
def test_services() -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack)


@pytest.fixture(scope="session")
def kafka_server(session_services: Services, tmp_path_factory: pytest.TempPathFactory) -> KafkaServer:
    return session_services.start(run_kafka(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def postgres_server(session_services: Services) -> PostgresServer:
    return session_services.start(run_postgres())


@pytest.fixture(scope="session")
def s3_server(session_services: Services, tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    return session_services.start(run_s3(tmp_path_factory.mktemp("s3")))


@pytest.fixture(scope="session")
def spark(session_services: Services) -> Spark:
    return session_services.found(find_spark)


@pytest.fixture(scope="session")
def mustang(session_services: Services) -> Mustang:
    return session_services.found(find_mustang)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[S3Bucket]:
    with s3_server.bucket() as bucket:
        yield bucket


@pytest.fixture
def start_kafka(test_services: Services, tmp_path_factory: pytest.TempPathFactory) -> StartKafka:
    def start(settings: Mapping[str, str]) -> KafkaServer:
        return test_services.start(run_kafka(tmp_path_factory.mktemp("kafka"), settings=settings))

    return start


@pytest.fixture
def start_prometheus(test_services: Services, tmp_path_factory: pytest.TempPathFactory) -> StartPrometheus:
    def start(config: str, flags: Sequence[str] = (), *, agent: bool = False) -> HttpService:
        folder = tmp_path_factory.mktemp("prometheus")
        return test_services.start(run_prometheus(folder, config, flags, agent=agent))

    return start


@pytest.fixture
def start_alertmanager(
    test_services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> StartAlertmanager:
    def start(config: str, flags: Sequence[str] = ()) -> HttpService:
        folder = tmp_path_factory.mktemp("alertmanager")
        return test_services.start(run_alertmanager(folder, config, flags))

    return start


@pytest.fixture
def start_vmagent(test_services: Services, tmp_path_factory: pytest.TempPathFactory) -> StartVmagent:
    def start(config: str, remote_write_url: str, flags: Sequence[str] = ()) -> HttpService:
        folder = tmp_path_factory.mktemp("vmagent")
        return test_services.start(run_vmagent(folder, config, remote_write_url, flags))

    return start


@pytest.fixture
def start_victoria(test_services: Services, tmp_path_factory: pytest.TempPathFactory) -> StartVictoria:
    def start(flags: Sequence[str] = ()) -> HttpService:
        return test_services.start(run_victoria(tmp_path_factory.mktemp("victoria"), flags))

    return start
