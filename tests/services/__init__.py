"""Real servers for tests, benchmarks and the acceptance script: each a plain context manager.

    with run_kafka(folder) as kafka, run_postgres() as postgres, run_s3(folder) as s3: ...

A server listens on free ports of 127.0.0.1, is ready when it yields, and dies with the process that
started it. pytest sees them through `tests.services.fixtures`; nothing else in this package imports pytest.
"""
