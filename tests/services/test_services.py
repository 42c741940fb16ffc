"""Each service does the one thing that the suites rely on it for."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from botocore.exceptions import ClientError
from sqlalchemy import create_engine, text

from tests.services.errors import ServiceFailed, ServiceUnavailable
from tests.services.fixtures import Services, StartAlertmanager, StartPrometheus, StartVmagent
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.process import ServiceProcess, ServiceSpec, find_program, free_ports
from tests.services.s3 import S3Bucket, S3Server

pytestmark = pytest.mark.services

SCRAPE_NOTHING = "scrape_configs: []\n"
ALERT_NOBODY = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


async def produce(kafka: KafkaServer, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, acks="all", enable_idempotence=True
    ) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(kafka: KafkaServer, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=f"{topic}-readers",
        auto_offset_reset="earliest",
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


class TestKafka:
    async def test_a_group_reads_what_was_produced(self, kafka_server: KafkaServer) -> None:
        await kafka_server.create_topic("plain", partitions=1)
        await produce(kafka_server, "plain", b"a", b"b")
        assert await consume(kafka_server, "plain", 2) == [b"a", b"b"]

    async def test_acknowledged_records_survive_a_kill_of_the_broker(self, kafka_server: KafkaServer) -> None:
        await kafka_server.create_topic("killed")
        await produce(kafka_server, "killed", b"before")
        kafka_server.process.kill()
        await asyncio.to_thread(kafka_server.process.start)
        await produce(kafka_server, "killed", b"after")
        assert await consume(kafka_server, "killed", 2) == [b"before", b"after"]

    async def test_one_producer_works_on_across_a_restart(self, kafka_server: KafkaServer) -> None:
        await kafka_server.create_topic("restarted")
        async with AIOKafkaProducer(
            bootstrap_servers=kafka_server.bootstrap_servers, acks="all", enable_idempotence=True
        ) as producer:
            await producer.send_and_wait("restarted", b"before")
            restart = asyncio.create_task(asyncio.to_thread(kafka_server.process.restart))
            await producer.send_and_wait("restarted", b"during")
            await restart
        assert await consume(kafka_server, "restarted", 2) == [b"before", b"during"]

    async def test_a_missing_topic_stays_missing(self, kafka_server: KafkaServer) -> None:
        async with AIOKafkaConsumer(bootstrap_servers=kafka_server.bootstrap_servers) as consumer:
            assert "missing" not in await consumer.topics()


class TestPostgres:
    def test_a_database_answers_through_sqlalchemy(self, postgres_url: str) -> None:
        engine = create_engine(postgres_url)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT upper('münchen')")) == "MÜNCHEN"
        engine.dispose()

    def test_each_database_is_empty_and_apart(self, postgres_server: PostgresServer) -> None:
        with postgres_server.database() as one, postgres_server.database() as other:
            _execute(one, "CREATE TABLE invoice (number text)")
            _execute(other, "CREATE TABLE invoice (number text)")

    def test_a_commit_survives_a_kill_of_the_server(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        _execute(postgres_url, "CREATE TABLE invoice AS SELECT 'A-1' AS number")
        postgres_server.process.kill()
        postgres_server.process.start()
        _execute(postgres_url, "INSERT INTO invoice VALUES ('A-2')")

    def test_a_kill_leaves_no_child_that_holds_what_the_next_one_needs(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
            backend = Path(f"/proc/{connection.info.backend_pid}/stat")
            os.kill(connection.info.backend_pid, signal.SIGSTOP)  # it does not see that its parent is dead
            postgres_server.process.kill()
            assert not backend.exists() or backend.read_text().rpartition(")")[2].split()[0] == "Z"
        postgres_server.process.start()
        _execute(postgres_url, "SELECT 1")


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(statement)


class TestS3:
    def test_a_conditional_put_answers_412_the_second_time(self, s3_bucket: S3Bucket) -> None:
        client = s3_bucket.account.client()
        client.put_object(Bucket=s3_bucket.name, Key="head", Body=b"1", IfNoneMatch="*")
        with pytest.raises(ClientError) as refused:
            client.put_object(Bucket=s3_bucket.name, Key="head", Body=b"2", IfNoneMatch="*")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
        assert client.get_object(Bucket=s3_bucket.name, Key="head")["Body"].read() == b"1"

    def test_a_wrong_secret_is_refused(self, s3_bucket: S3Bucket) -> None:
        stranger = replace(s3_bucket.account, secret_key="wrong")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            stranger.client().list_objects_v2(Bucket=s3_bucket.name)

    def test_many_buckets_fit(self, s3_server: S3Server) -> None:
        client = s3_server.account.client()
        for _ in range(20):
            with s3_server.bucket() as bucket:
                client.put_object(Bucket=bucket.name, Key="key", Body=b"value")

    def test_objects_survive_a_restart(self, s3_server: S3Server, s3_bucket: S3Bucket) -> None:
        client = s3_bucket.account.client()
        client.put_object(Bucket=s3_bucket.name, Key="key", Body=b"value")
        s3_server.process.restart()
        assert client.get_object(Bucket=s3_bucket.name, Key="key")["Body"].read() == b"value"


class TestHttpServices:
    def test_prometheus_answers_a_query(self, start_prometheus: StartPrometheus) -> None:
        prometheus = start_prometheus(SCRAPE_NOTHING, ["--web.enable-remote-write-receiver"])
        assert b'"success"' in prometheus.get("/api/v1/query?query=vector(1)")

    def test_prometheus_runs_as_an_agent(self, start_prometheus: StartPrometheus) -> None:
        agent = start_prometheus(SCRAPE_NOTHING, agent=True)
        assert b"prometheus_agent_" in agent.get("/metrics")

    def test_alertmanager_takes_its_configuration(self, start_alertmanager: StartAlertmanager) -> None:
        assert b"nobody" in start_alertmanager(ALERT_NOBODY).get("/api/v2/status")

    def test_vmagent_comes_back_on_its_port(self, start_vmagent: StartVmagent) -> None:
        (nobody,) = free_ports(1)
        agent = start_vmagent(SCRAPE_NOTHING, f"http://127.0.0.1:{nobody}/api/v1/write")
        agent.process.restart()
        assert b"vmagent" in agent.get("/metrics")


SLEEP = "import time; time.sleep(60)"

# What a pytest does that gets killed: it starts a service, says its process id, and hangs.
STARTER = """
import sys, threading
from pathlib import Path
from tests.services.process import ServiceProcess, ServiceSpec
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
service = ServiceProcess(ServiceSpec("sleep", sleep, Path(sys.argv[1]), probe=lambda: None))
service.start()
print(service.pid, flush=True)
threading.Event().wait()
"""


def python_service(folder: Path, script: str, ready: Callable[[], None] = lambda: None) -> ServiceProcess:
    command = [sys.executable, "-c", script]
    return ServiceProcess(ServiceSpec("script", command, folder, probe=ready, ready_timeout_seconds=0.5))


def never_ready() -> None:
    raise ConnectionRefusedError


def has_ended(pid: int, within_seconds: float) -> bool:
    process = os.pidfd_open(pid)
    try:
        return bool(select.select([process], [], [], within_seconds)[0])
    finally:
        os.close(process)


class TestProcess:
    def test_a_program_that_ends_early_shows_its_log(self, tmp_path: Path) -> None:
        service = python_service(tmp_path, "print('no such file'); raise SystemExit(3)", never_ready)
        with pytest.raises(ServiceFailed, match=r"script ended with 3\nno such file"):
            service.start()

    def test_a_program_that_never_gets_ready_is_killed(self, tmp_path: Path) -> None:
        service = python_service(tmp_path, SLEEP, never_ready)
        with pytest.raises(ServiceFailed, match=r"not ready after 0\.5 s"):
            service.start()
        with pytest.raises(ServiceFailed, match="not running"):
            _ = service.pid

    def test_a_service_dies_with_a_killed_parent(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", STARTER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            parent.send_signal(signal.SIGKILL)
        assert has_ended(pid, within_seconds=5)

    def test_a_service_outlives_the_thread_that_started_it(self, tmp_path: Path) -> None:
        service = python_service(tmp_path, SLEEP)
        thread = threading.Thread(target=service.start)
        thread.start()
        thread.join()
        assert not has_ended(service.pid, within_seconds=0.3)
        service.stop()

    def test_a_missing_program_says_how_to_get_it(self) -> None:
        with pytest.raises(ServiceUnavailable, match="no nonesuch in PATH: buy one"):
            find_program("nonesuch", how_to_get="buy one")


class TestMissing:
    def test_a_missing_service_skips(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BYOC_REQUIRE_SERVICES", raising=False)
        with pytest.raises(pytest.skip.Exception, match="buy one"):
            Services(ExitStack()).start(run_nonesuch())

    def test_a_missing_service_fails_where_all_are_required(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BYOC_REQUIRE_SERVICES", "1")
        with pytest.raises(pytest.fail.Exception, match="buy one"):
            Services(ExitStack()).start(run_nonesuch())


@contextmanager
def run_nonesuch() -> Iterator[None]:
    find_program("nonesuch", how_to_get="buy one")
    yield
