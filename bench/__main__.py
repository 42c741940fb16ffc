"""`python -m bench NAME [--quick]`, `python -m bench all`, `python -m bench --list`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.machine import note
from bench.outcome import Outcome
from bench.registry import BENCHMARKS, UNMEASURED, Benchmark
from kernel.logs import configure_logs
from tests.services.errors import ServiceUnavailable

RESULTS = Path(__file__).with_name("results")
NOT_MEASURED = 3


def main(
    arguments: Sequence[str] | None = None,
    benchmarks: Mapping[str, Benchmark] = BENCHMARKS,
    results: Path = RESULTS,
) -> int:
    """Run what was asked for; 0, 2 for an unknown name, 3 for one that is not measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", help="one of --list, or all")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds: less data, fewer runs")
    parser.add_argument("--list", action="store_true", help="the names, and why some are not measured")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        _list(benchmarks)
        return 0
    if chosen.name == "all":
        return _run_all(benchmarks, results, quick=chosen.quick)
    if chosen.name in benchmarks:
        return _run(chosen.name, benchmarks[chosen.name], quick=chosen.quick)
    if chosen.name in UNMEASURED:
        note(f"{chosen.name}: not measured yet: {UNMEASURED[chosen.name]}")
        return NOT_MEASURED
    return parser.error(f"no benchmark {chosen.name!r}; `python -m bench --list` shows the names")


def _list(benchmarks: Mapping[str, Benchmark]) -> None:
    for name in benchmarks:
        print(name)
    for name, reason in UNMEASURED.items():
        print(f"{name}: not measured yet: {reason}")


def _run(name: str, benchmark: Benchmark, *, quick: bool) -> int:
    try:
        outcome = benchmark(quick=quick)
    except ServiceUnavailable as error:
        note(f"{name}: not measured: {error}")
        return NOT_MEASURED
    print(outcome.render())
    return 0


def _run_all(benchmarks: Mapping[str, Benchmark], results: Path, *, quick: bool) -> int:
    """One after the other; one that fails does not keep the others from being run."""
    results.mkdir(exist_ok=True)
    status = 0
    for name, benchmark in benchmarks.items():
        note(f"== {name}")
        (results / f"{name}.json").unlink(missing_ok=True)  # an old result is no result of this run
        try:
            outcome: Outcome = benchmark(quick=quick)
        except Exception as error:
            note(f"{name}: {type(error).__name__}: {error}")
            status = NOT_MEASURED if isinstance(error, ServiceUnavailable) else 1
            continue
        (results / f"{name}.json").write_text(outcome.render() + "\n")
        print(outcome.render(), flush=True)
    for name, reason in UNMEASURED.items():
        note(f"{name}: not measured yet: {reason}")
    return status


def _exit_on_signal(number: int, frame: object) -> None:
    """By an exception, so that the programs that a benchmark started are ended with it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    configure_logs("ERROR")  # what our programs log in this process is no progress of a benchmark
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main())
