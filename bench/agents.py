"""The agents that race: our collector and vmagent, each with its scrape configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.identity import FILES
from bench.process import python
from tests.services.process import find_program, free_ports

if TYPE_CHECKING:
    from bench.race import Addresses


def _job(addresses: Addresses) -> dict[str, Any]:
    """The same for both: the targets, one rule on what comes in."""
    return {
        "job_name": "milvus",
        "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in addresses.targets]}],
        "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "go_gc_.*", "action": "drop"}],
    }


# The default list knows the families of a Milvus; Go's and etcd's are let out too, so that both send the same.
_ALL = {"allow": [{"metrics": ["*"], "unlisted": "pseudonym"}]}


def _timing(addresses: Addresses) -> dict[str, str]:
    interval = f"{addresses.interval_seconds}s"
    return {"scrape_interval": interval, "scrape_timeout": interval}


def collector_command(folder: Path, addresses: Addresses) -> list[str]:
    """`byoc collector run` with its defaults: allow-list, pseudonyms, spool with fsync, ledger of what left."""
    settings = {
        "global": _timing(addresses),
        "gateway": {
            "url": f"https://localhost:{addresses.sink}",
            "ca_file": FILES.ca,
            "token_file": FILES.token,
        },
        "health": {"port": 0},
        "scrape_configs": [_job(addresses) | {"body_size_limit": "256MB"}],
        **({"policy": _ALL} if addresses.lets_all_out else {}),
    }
    path = folder / "collector.yaml"
    path.write_text(yaml.safe_dump(settings))
    return python("-m", "console", "collector", "run", "-c", str(path))


def vmagent_command(folder: Path, addresses: Addresses) -> list[str]:
    """vmagent with its defaults, a client certificate and a folder for its queue. Raises ServiceUnavailable."""
    path = folder / "scrape.yml"
    path.write_text(yaml.safe_dump({"global": _timing(addresses), "scrape_configs": [_job(addresses)]}))
    how = "apt-get install victoria-metrics"
    return [
        find_program("vmagent", "vmagent-prod", how_to_get=how),
        f"-promscrape.config={path}",
        f"-remoteWrite.url=https://localhost:{addresses.sink}/api/v1/write",
        f"-remoteWrite.tlsCAFile={folder / FILES.ca}",
        f"-remoteWrite.tlsCertFile={folder / FILES.client}",
        f"-remoteWrite.tlsKeyFile={folder / FILES.client_key}",
        f"-remoteWrite.tmpDataPath={folder / 'queue'}",
        f"-httpListenAddr=127.0.0.1:{free_ports(1)[0]}",
        "-promscrape.maxScrapeSize=256MB",
    ]
