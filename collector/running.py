"""`python -m collector.running CONFIG LEVEL`: what `byoc collector run` becomes.

A process of its own, because commands need libraries (typer, rich, click) that would stay in memory for as long as
the collector runs. It imports what a collector does all day; the rest comes when it is first needed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collector.settings import CollectorSettings

_ROOT = Path(__file__).parents[1]


def become(config: Path, log_level: str) -> NoReturn:
    """Give this process up for one that runs the collector: the same number, files and terminal. Raises OSError."""
    # Without -P modules in the working folder would come before the library's; a checkout has nothing else.
    safe = () if Path.cwd() == _ROOT else ("-P",)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *safe, "-m", __spec__.name, str(config), log_level])  # noqa: S606


def main(words: list[str]) -> int:
    """Run until stopped; the exit status, as of `byoc`."""
    from kernel.errors import ByocError, InvalidInput, without_passwords

    config, log_level = words
    try:
        _run(Path(config), log_level)
    except InvalidInput as error:
        for finding in error.findings:
            sys.stderr.write(f"refused: {finding}\n")
        return 2
    except (ByocError, OSError) as error:
        sys.stderr.write(f"error: {without_passwords(str(error))}\n")
        return 1
    return 0


def _run(config: Path, log_level: str) -> None:
    from collector.memory import keep_one_heap

    keep_one_heap()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here is linear algebra
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # structlog draws tracebacks with it: 6 MB
    import uvloop

    from collector.settings import load_collector_settings
    from kernel.logs import configure_logs

    settings = load_collector_settings(config)
    configure_logs(log_level.upper())
    uvloop.run(_serve(settings, config))


async def _serve(settings: CollectorSettings, config: Path) -> None:
    from collector.app import CollectorService

    await CollectorService(settings, config=config).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
