"""The jars of the Kafka broker, resolved by Maven into a cache that all checkouts share."""

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
    """The folder of the jars, downloaded on first use; raises ServiceUnavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "byoc")
    jars = cache / f"kafka-{kafka_version()}"
    if jars.is_dir():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{jars.name}.lock"):
        if not jars.is_dir():  # else another process had the lock before us
            _resolve(jars)
    return jars


def _resolve(jars: Path) -> None:
    maven = find_program("mvn", how_to_get="apt-get install maven (it fetches Apache Kafka once)")
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=f"{jars.name}-") as scratch:
        pom = Path(shutil.copy(POM, scratch))
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
            raise ServiceUnavailable(f"Maven could not fetch Apache Kafka:\n{reason}") from failure
        except subprocess.TimeoutExpired as failure:
            raise ServiceUnavailable(f"Maven took over {failure.timeout:g} s for Apache Kafka") from failure
        target.rename(jars)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by close
        yield
