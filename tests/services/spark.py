"""PySpark with Iceberg, in a virtual environment of its own: it wants other libraries than we do."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.environments import environment
from tests.services.errors import ServiceFailed
from tests.services.kafka_jars import find_jars
from tests.services.process import find_program

POM = Path(__file__).with_name("spark-pom.xml")
REQUIREMENTS = Path(__file__).with_name("spark-requirements.txt")
QUERY = Path(__file__).with_name("spark_query.py")
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
    folder = environment(f"spark-{version[1]}", REQUIREMENTS)
    jars = find_jars(POM, f"spark-iceberg-{version[1]}", "Iceberg's runtime for Spark")
    return Spark(folder / "bin/python", jars)
