"""The collector installs alone: running it imports nothing of the vendor's side."""

from __future__ import annotations

import subprocess
import sys

import pytest

VENDOR = (
    "aiokafka",
    "alembic",
    "boto3",
    "dbos",
    "duckdb",
    "pyiceberg",
    "sqlalchemy",
)
CODE = (
    "import sys, pkgutil, importlib, collector\n"
    "for found in pkgutil.walk_packages(collector.__path__, 'collector.'):\n"
    "    found.name.endswith('__main__') or importlib.import_module(found.name)\n"
    "print(' '.join(name for name in sys.modules if '.' not in name))\n"
)


@pytest.mark.slow
def test_no_module_of_the_collector_imports_a_vendor_library() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    assert {"aiohttp", "pyarrow"} <= imported
    assert imported & {*VENDOR, "alerts", "billing", "console", "metering", "provisioner"} == set()
