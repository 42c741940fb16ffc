"""Jars (Kafka, Iceberg for Spark, a validator of PDFs), resolved by Maven into a cache that all checkouts share."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.errors import ServiceUnavailable
from tests.services.process import find_program

POM = Path(__file__).with_name("kafka-pom.xml")
MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
RESOLVE_TIMEOUT_SECONDS = 600


def kafka_version() -> str:
    version = re.search(r"<kafka\.version>(.+?)<", POM.read_text())
    if version is None:
        raise ValueError(f"{POM.name} names no kafka.version")
    return version[1]


def find_kafka_jars() -> Path:
    """The folder of the broker's jars, downloaded on first use; raises ServiceUnavailable."""
    return find_jars(POM, f"kafka-{kafka_version()}", "Apache Kafka")


def find_jars(pom: Path, name: str, what: str) -> Path:
    """The folder `name` of the cache with the jars of a pom, downloaded on first use; raises ServiceUnavailable."""
    jars = cache_folder() / name
    if jars.is_dir():
        return jars
    with locked(jars.with_name(f"{name}.lock")):
        if not jars.is_dir():  # else another process had the lock before us
            _resolve(pom, jars, what)
    return jars


def cache_folder() -> Path:
    """Where downloads are kept, made if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "byoc")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _resolve(source: Path, jars: Path, what: str) -> None:
    maven = find_program("mvn", how_to_get=f"apt-get install maven (it fetches {what} once)")
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=f"{jars.name}-") as scratch:
        pom = Path(shutil.copy(source, scratch))
        target = Path(scratch, "jars")
        command = [maven, "-q", "-B", "-f", str(pom), MAVEN_GOAL]
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        try:
            subprocess.run(
                [*command, *options],
                check=True,
                capture_output=True,
                text=True,
                timeout=RESOLVE_TIMEOUT_SECONDS,
            )
        except subprocess.CalledProcessError as failure:
            reason = (failure.stdout + failure.stderr)[-1500:]
            raise ServiceUnavailable(f"Maven could not fetch {what}:\n{reason}") from failure
        except subprocess.TimeoutExpired as failure:
            raise ServiceUnavailable(f"Maven took over {failure.timeout:g} s for {what}") from failure
        target.rename(jars)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by close
        yield
