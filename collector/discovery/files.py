"""`file_sd_configs`: targets in YAML or JSON files, with Prometheus' wildcard in the last part of the path.

A file that can't be read keeps the targets it had: an editor that writes in two steps must not end series.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from collector.scrape.settings import FileSdConfig, StaticConfig
from collector.scrape.target import Discovered
from kernel.errors import InvalidInput
from kernel.logs import logger
from kernel.settings import invalid, parse_yaml, read_text

_log = logger("discovery")
_GROUPS: TypeAdapter[tuple[StaticConfig, ...]] = TypeAdapter(tuple[StaticConfig, ...])
MAX_FILES = 10_000


class FileDiscovery:
    """The files of one job, as last read."""

    def __init__(self, configs: Iterable[FileSdConfig]) -> None:
        self._patterns = [pattern for config in configs for pattern in config.files]
        self._last: dict[Path, list[Discovered]] = {}

    def refresh(self) -> list[Discovered]:
        """Read the files and return their targets. Blocking."""
        current: dict[Path, list[Discovered]] = {}
        for path in self._paths():
            try:
                current[path] = read_target_file(path)
            except InvalidInput as error:
                _log.warning("target_file_refused", file=str(path), reason=str(error))
                current[path] = self._last.get(path, [])
        self._last = current
        return [one for found in current.values() for one in found]

    def _paths(self) -> list[Path]:
        found = {Path(name) for pattern in self._patterns for name in glob.glob(pattern)}  # noqa: PTH207
        return sorted(found)[:MAX_FILES]


def read_target_file(path: Path) -> list[Discovered]:
    """The targets of one file (JSON is YAML too). Raises InvalidInput."""
    content: Any = parse_yaml(read_text(path), str(path))
    try:
        groups = _GROUPS.validate_python(content if content is not None else ())
    except ValidationError as error:
        raise invalid(error, str(path)) from error
    meta = {"__meta_filepath": str(path)}
    return [Discovered(address, {**meta, **group.labels}) for group in groups for address in group.targets]
