"""The play: from nothing to an invoice and a page, on real servers, with every figure measured."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from console.demo import acts, closing, proving
from console.demo.receiver import Receiver
from console.demo.stage import Stage
from console.demo.witness import Witness
from kernel.clock import SystemClock
from kernel.window import month_name, previous_month

MARK = ".byoc-demo"  # without it a folder was not made here, and is not removed


async def run_demo(out: Path, base_config: Path | None) -> None:
    """Play it all; leave report, invoice, its proof, webhooks.jsonl, summary.json in `out`. Raises what fails."""
    console = Console()
    stage = _set(out, console, base_config)
    started = stage.clock.monotonic()
    try:
        await _play(stage)
    finally:
        with console.status("Putting everything away"):
            await closing.put_away(stage)
    stage.seconds["total"] = round(stage.clock.monotonic() - started, 2)
    stage.figures["seconds"] = stage.seconds
    summary = json.dumps(stage.figures, indent=2, sort_keys=True) + "\n"
    (out / "summary.json").write_text(summary, encoding="utf-8")
    closing.print_summary(stage)
    closing.judge(stage.figures)


async def _play(stage: Stage) -> None:
    now = stage.clock.now()
    month = previous_month(month_name(now))
    term = (f"{month}-01", (now + timedelta(days=365)).strftime("%Y-%m-01"))
    async with stage.timed(
        "vendor", "Vendor side up: gateway, log, lake, usage, alerts, provisioner in one process"
    ):
        await acts.start_vendor(stage)
    async with stage.timed("customers", "Two customers: organization, project, contract, licence each"):
        await acts.add_customers(stage, term)
    async with stage.timed("provision", "Two real Milvus servers provisioned and observed"):
        await acts.create_clusters(stage)
    async with stage.timed("collect", "A collector in each VPC enrolled; real metrics arrive in the lake"):
        await acts.start_collectors(stage)
    async with stage.timed("workload", "A workload inserts, indexes and searches; the network is cut and healed"):
        await asyncio.gather(acts.run_workload(stage), acts.cut_and_heal(stage))
    async with stage.timed("scale", "Scale over the licence: refused under one contract, admitted under the other"):
        await acts.scale_over_licence(stage)
    async with stage.timed("page", "The page reaches on-call, signed"):
        await acts.wait_for_page(stage)
    async with stage.timed("history", f"A month of simulated history ({month}) shipped in the history lane"):
        await acts.backfill(stage, month)
    async with stage.timed("drain", "Collectors stopped; the lake has everything that was sent"):
        await closing.drain(stage)
    async with stage.timed("close", f"{month} closed: report and invoice"):
        await closing.close(stage, month)
    async with stage.timed(
        "proof", "A line of the invoice explained, and the invoice verified as its customer would"
    ):
        await proving.prove(stage)
    async with stage.timed("witness", "The witness compares every scraped value with the lake"):
        await closing.compare_all(stage, month)


def _set(out: Path, console: Console, base_config: Path | None) -> Stage:
    """An empty folder; a former demo's is removed, anything else is refused."""
    state, mark = out / "state", out / MARK
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise FileExistsError(f"{out} is not empty and was not made by the demo: name another --out")
    shutil.rmtree(out, ignore_errors=True)
    state.mkdir(parents=True)
    mark.touch()
    secret = state / "webhook-secret"
    secret.touch(mode=0o600)
    text = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    secret.write_text(text + "\n", encoding="utf-8")
    clock = SystemClock()
    stage = Stage(out.absolute(), state.absolute(), clock, console, base_config)
    stage.receiver = Receiver(text, stage.out / "webhooks.jsonl", clock)
    stage.witness = Witness(clock)
    return stage
