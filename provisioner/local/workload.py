"""A small workload against a Milvus server, so that its metrics move. Runs in the Milvus virtual environment.

    <installation>/venv/bin/python provisioner/local/workload.py --port 19530 --seconds 10 --rows 2000

`python -m provisioner.local.workload` with the same options finds that interpreter by itself. Imports nothing
but pymilvus and the standard library. Prints one JSON object: server_version, rows_inserted, searches, hits,
seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from typing import Any

DIMENSION = 16
BATCH_ROWS = 500
FLUSH_SECONDS = 90


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """The command line. Exits with status 2 on a wrong one."""
    parser = argparse.ArgumentParser(description="create, insert, index, load and search a collection")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to search; at least one is made")
    parser.add_argument("--rows", type=int, default=2000, help="rows to insert before the first search")
    parser.add_argument("--collection", default="workload")
    parser.add_argument("--version", default="2.3.5", help="whose virtual environment to use")
    return parser.parse_args(arguments)


def play(options: argparse.Namespace) -> dict[str, Any]:
    """Create-or-get the collection, insert, index, load, and search until the time is over."""
    from pymilvus import connections, utility

    connections.connect(host=options.host, port=str(options.port), timeout=30)
    started = time.monotonic()
    collection = _collection(options.collection)
    inserted = _insert(collection, options.rows)
    _flush(collection)
    if not collection.has_index():
        collection.create_index("vector", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 16}})
    utility.wait_for_index_building_complete(options.collection, timeout=120)
    collection.load(timeout=120)
    searches, hits = _search(collection, options.seconds)
    entities = collection.num_entities
    server_version = utility.get_server_version()
    connections.disconnect("default")
    return {
        "server_version": server_version,
        "rows_inserted": inserted,
        "entities": entities,
        "searches": searches,
        "hits": hits,
        "seconds": round(time.monotonic() - started, 3),
    }


def _collection(name: str) -> Any:
    from pymilvus import Collection, CollectionSchema, DataType, FieldSchema

    key = FieldSchema("id", DataType.INT64, is_primary=True, auto_id=True)
    vector = FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    return Collection(name, CollectionSchema([key, vector]))


def _insert(collection: Any, rows: int) -> int:
    inserted = 0
    while inserted < rows:
        batch = min(BATCH_ROWS, rows - inserted)
        inserted += int(collection.insert([[_vector() for _ in range(batch)]]).insert_count)
    return inserted


def _flush(collection: Any) -> None:
    from pymilvus import MilvusException

    # After a restart a channel belongs to the dead session until that expires, and a flush is refused meanwhile.
    until = time.monotonic() + FLUSH_SECONDS
    while True:
        try:
            collection.flush(timeout=30)
        except MilvusException:
            if time.monotonic() > until:
                raise
            time.sleep(1)
        else:
            return


def _search(collection: Any, seconds: float) -> tuple[int, int]:
    searches = hits = 0
    until = time.monotonic() + seconds
    while searches == 0 or time.monotonic() < until:
        found = collection.search(
            [_vector()], "vector", {"metric_type": "L2", "params": {"nprobe": 4}}, limit=5, timeout=30
        )
        searches += 1
        hits += len(found[0])
    return searches, hits


def _vector() -> list[float]:
    return [random.random() for _ in range(DIMENSION)]


def main(arguments: list[str]) -> None:
    """Play here if pymilvus is here, else in the interpreter of the installed Milvus."""
    options = parse_options(arguments)
    try:
        import pymilvus  # noqa: F401
    except ImportError:
        from provisioner.local.install import install

        python = str(install(options.version).python)
        os.execv(python, [python, "-W", "ignore", __file__, *arguments])  # noqa: S606
    print(json.dumps(play(options)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
