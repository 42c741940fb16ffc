"""The files that a vendor and a customer would write, as the demo writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kernel.settings import read_yaml_mapping

PRICE_PER_VCPU_YEAR = "900.00"
ALLOWED_METRICS = ("up", "byoc_*", "milvus_*", "process_*", "go_*", "scrape_*")
ALLOWED_PATTERN = r"up|(byoc|milvus|process|go|scrape)_.*"


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization of the demo, with one project and one collector."""

    organization: str
    name: str
    licensed_vcpu: int
    on_demand: bool
    size: str
    wanted_size: str

    @property
    def project(self) -> str:
        return f"{self.organization}-production"

    @property
    def cluster(self) -> str:
        return f"{self.organization}-vectors"

    @property
    def collector(self) -> str:
        return f"{self.organization}-collector"


FIXED = Customer("org-fixed", "Fixed Capacity", 2, on_demand=False, size="1cu", wanted_size="4cu")
FLEXIBLE = Customer("org-flexible", "Flexible Capacity", 16, on_demand=True, size="1cu", wanted_size="20cu")
CUSTOMERS = (FIXED, FLEXIBLE)


def write_vendor_config(path: Path, folder: Path, receiver_url: str, secret_file: Path, base: Path | None) -> None:
    """`vendor.yaml`: `base` may bring another deployment; the rest is quick, so that the demo need not wait."""
    content: dict[str, Any] = dict(read_yaml_mapping(base)) if base else {}
    content["deployment"] = {**content.get("deployment", {}), "folder": str(folder)}
    content["up"] = {"gauge_seconds": 1.0}
    content["gateway"] = {"port": 0, "host_names": ["localhost", "127.0.0.1"]}
    content["lake"] = {"commit_seconds": 2.0}
    simulated = f"{FLEXIBLE.organization}/{FLEXIBLE.project}/history-*"  # no server, so nothing that provisioned it
    content["usage"] = {"check_interval_seconds": 5.0, "reconcile_not_provisioned": [simulated]}
    content["alerts"] = {
        "allow_private_receivers": True,
        "receivers": [{"name": "on-call", "url": receiver_url, "secret_file": str(secret_file)}],
    }
    _write(path, content)


def write_documents(folder: Path, customer: Customer, start: str, end: str) -> dict[str, Path]:
    """Contract and licence of a customer, from `start` to `end` (dates); the paths by kind."""
    contract = {
        "contract": f"{customer.organization}-contract",
        "organization": customer.organization,
        "legal_entity": {"id": "demo", "name": "Demo Vendor", "address": ["1 Example Street"]},
        "customer": {"name": customer.name, "address": ["2 Example Street"]},
        "currency": "USD",
        "term": {"start": start, "end": end},
        "commitment": [{"start": start, "vcpu": customer.licensed_vcpu}],
        "price": {"book": "demo-prices", "version": 1},
        "grace_hours": 0,  # the month that is closed ended a moment or weeks ago, on whatever day this runs
        "on_demand": customer.on_demand,
    }
    licence = {
        "licence": f"{customer.organization}-licence",
        "organization": customer.organization,
        "contract": contract["contract"],
        "valid": {"start": start, "end": end},
        "capacity": [{"start": start, "vcpu": customer.licensed_vcpu}],
    }
    paths = {}
    for kind, content in (("contract", contract), ("licence", licence)):
        paths[kind] = folder / f"{customer.organization}-{kind}.yaml"
        _write(paths[kind], content)
    return paths


def write_prices(path: Path, start: str) -> None:
    """The price book."""
    price = {"item": "vcpu-year", "currency": "USD", "start": start, "amount": PRICE_PER_VCPU_YEAR}
    _write(path, {"price_book": "demo-prices", "version": 1, "prices": [price]})


def write_collector_config(path: Path, gateway_port: int, witness: str, project_folder: Path) -> None:
    """`collector.yaml` in "the customer's VPC": targets by file discovery, scraped past the witness."""
    past_the_witness = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": witness},
    ]
    jobs = [
        {
            "job_name": job,
            "file_sd_configs": [{"files": [str(project_folder / file)], "refresh_interval": "1s"}],
            "relabel_configs": past_the_witness,
        }
        for job, file in (("byoc-exporter", "exporter.json"), ("milvus", "targets.json"))
    ]
    _write(
        path,
        {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
            "scrape_configs": jobs,
            "policy": {"allow": [{"metrics": list(ALLOWED_METRICS), "labels": ["*"], "pseudonyms": []}]},
            "gateway": {
                "url": f"https://localhost:{gateway_port}",
                "ca_file": "ca.pem",
                "token_file": "token",
                "max_backoff": "1s",
            },
            "health": {"port": 0},
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
