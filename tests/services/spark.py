"""PySpark with Iceberg, in a virtual environment of its own: it wants other libraries than we do."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.errors import ServiceFailed, ServiceUnavailable
from tests.services.kafka_jars import cache_folder, find_jars, locked
from tests.services.process import find_program

POM = Path(__file__).with_name("spark-pom.xml")
REQUIREMENTS = Path(__file__).with_name("spark-requirements.txt")
QUERY = Path(__file__).with_name("spark_query.py")
INSTALL_TIMEOUT_SECONDS = 900
QUERY_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Spark:
    """An installed PySpark. Each query is a session of its own, some fifteen seconds."""

    python: Path
    jars: Path

    def query(self, views: Mapping[str, str], sql: str) -> list[dict[str, Any]]:
        """The rows of a query; `views` are names and the metadata files of Iceberg tables. Raises ServiceFailed."""
        order = {"jars": [str(jar) for jar in self.jars.glob("*.jar")], "views": dict(views), "sql": sql}
        done = subprocess.run(
            [self.python, QUERY],
            check=False,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=QUERY_TIMEOUT_SECONDS,
            env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        )
        if done.returncode:
            raise ServiceFailed(f"Spark ended with {done.returncode}:\n{done.stderr[-3000:]}")
        rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return rows


def find_spark() -> Spark:
    """PySpark, downloaded on first use; raises ServiceUnavailable."""
    version = re.search(r"<spark\.version>(.+?)<", POM.read_text())
    if version is None:
        raise ValueError(f"{POM.name} names no spark.version")
    find_program("java", how_to_get="apt-get install default-jre-headless")
    folder = cache_folder() / f"spark-{version[1]}"
    if not _mark(folder).exists():
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not _mark(folder).exists():  # else another process had the lock before us
                _install(folder)
    jars = find_jars(POM, f"spark-iceberg-{version[1]}", "Iceberg's runtime for Spark")
    return Spark(folder / "bin/python", jars)


def _mark(folder: Path) -> Path:
    return folder / ".complete"  # written last: an installation that was broken off begins again


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    made = ["venv", "--quiet", "--python", sys.executable, str(folder)]
    filled = ["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "--require-hashes"]
    try:
        for command in (made, [*filled, "-r", str(REQUIREMENTS)]):
            subprocess.run(
                [uv, *command], check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as failure:
        reason = getattr(failure, "stderr", None) or failure
        raise ServiceUnavailable(f"PySpark could not be installed: {reason}") from failure
    _mark(folder).touch()
