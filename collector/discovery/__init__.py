"""Where targets come from: written out, or in files that are read again when they change."""

from __future__ import annotations

from collections.abc import Iterable

from collector.scrape.settings import StaticConfig
from collector.scrape.target import Discovered


def static_targets(configs: Iterable[StaticConfig]) -> list[Discovered]:
    """The targets of `static_configs`, in their order."""
    return [Discovered(address, dict(config.labels)) for config in configs for address in config.targets]
