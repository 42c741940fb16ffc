"""The acts, up to the backfill. Each asserts what it shows by looking, never by having asked."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp

from console.demo.files import (
    CUSTOMERS,
    FIXED,
    FLEXIBLE,
    Customer,
    write_collector_config,
    write_documents,
    write_prices,
    write_vendor_config,
)
from console.demo.history import write_history
from console.demo.network import Wire
from console.demo.programs import ProgramFailed, byoc, succeed
from console.demo.stage import Stage, read_json
from console.up import open_lake
from console.wiring import Vendor, open_vendor
from kernel.window import month as month_window

MILVUS_VERSION = "2.3.5"
CUT_SECONDS = 12.0
PAGE_SECONDS = 60.0


async def start_vendor(stage: Stage) -> None:
    """`byoc up`, with a receiver for its pages."""
    assert stage.receiver is not None
    url = await stage.receiver.start()
    secret = stage.state / "webhook-secret"
    write_vendor_config(stage.config, stage.vendor_folder, url, secret, stage.base_config)
    await stage.start_program("vendor", "-c", str(stage.config), "up", "--health-port", "0")
    endpoints = stage.vendor_folder / "endpoints.json"

    async def is_ready() -> bool:
        found = await asyncio.to_thread(read_json, endpoints)
        return bool(found) and await _answers(f"http://127.0.0.1:{found['health_port']}/readyz")

    await stage.until("the vendor side", is_ready, 180, "vendor")


async def add_customers(stage: Stage, term: tuple[str, str]) -> None:
    """Organization, project, contract and licence of each customer, by the commands a vendor would type."""
    prices = stage.state / "prices.yaml"
    write_prices(prices, term[0])
    await succeed(stage.config, "price", "add", str(prices))
    await asyncio.gather(*(_add_customer(stage, customer, term) for customer in CUSTOMERS))


async def _add_customer(stage: Stage, customer: Customer, term: tuple[str, str]) -> None:
    config = stage.config
    await succeed(config, "organization", "create", customer.name, "--id", customer.organization)
    await succeed(
        config, "project", "create", customer.organization, f"{customer.name} VPC", "--id", customer.project
    )
    documents = write_documents(stage.state, customer, *term)
    await succeed(config, "contract", "add", str(documents["contract"]))
    await succeed(config, "licence", "add", str(documents["licence"]))


async def create_clusters(stage: Stage) -> None:
    """Both at once; RUNNING means observed."""
    await asyncio.gather(
        *(
            succeed(
                stage.config,
                *("cluster", "create", customer.project, "vectors", "--size", customer.size),
                *("--version", MILVUS_VERSION, "--id", customer.cluster, "--wait", "120"),
            )
            for customer in CUSTOMERS
        )
    )
    shown = json.loads(await succeed(stage.config, "cluster", "show", FLEXIBLE.cluster, "--json"))
    if shown["state"] != "RUNNING":
        raise ProgramFailed(f"the cluster is {shown['state']}: {shown}")
    stage.say(f"Milvus at {shown['endpoint']}")


async def start_collectors(stage: Stage) -> None:
    """Enrol with a single-use token, scrape past the witness, ship through a wire that can be cut."""
    assert stage.witness is not None
    stage.witness_address = await stage.witness.start()
    authority = await succeed(stage.config, "ca", "show")
    for customer in CUSTOMERS:
        await _start_collector(stage, customer, authority)

    async def has_arrived() -> bool:
        vendor = open_vendor(None, stage.config)
        try:
            return await _has_samples(vendor)
        finally:
            await vendor.close()

    await stage.until("samples of both customers in the lake", has_arrived, 180, "vendor")


async def _has_samples(vendor: Vendor) -> bool:
    lake = await open_lake(vendor)
    try:
        return {customer.organization for customer in CUSTOMERS} <= set(await lake.organizations())
    finally:
        await lake.close()


async def _start_collector(stage: Stage, customer: Customer, authority: str) -> None:
    folder = stage.customer_folder(customer.organization)
    folder.mkdir()
    token = await succeed(
        stage.config,
        *("enrol", "create", "--organization", customer.organization),
        *("--project", customer.project, "--collector", customer.collector),
    )
    (folder / "ca.pem").write_text(authority + "\n", encoding="utf-8")
    (folder / "token").write_text(token + "\n", encoding="utf-8")
    wire = Wire("127.0.0.1", read_json(stage.vendor_folder / "endpoints.json")["gateway_port"])
    stage.wires[customer.organization] = wire
    config = folder / "collector.yaml"
    write_collector_config(
        config, await wire.start(), stage.witness_address, stage.project_folder(customer.project)
    )
    await stage.start_program(f"collector-{customer.organization}", "collector", "run", "-c", str(config))


async def run_workload(stage: Stage) -> None:
    """Insert, index, load, search, on the flexible customer's Milvus."""
    shown = json.loads(await succeed(stage.config, "cluster", "show", FLEXIBLE.cluster, "--json"))
    port = shown["endpoint"].rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provisioner.local.workload", "--port", port, "--seconds", "8", "--rows", "2000"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise ProgramFailed(f"the workload failed: {errors.decode(errors='replace')[-2000:]}")
    done = json.loads(output.splitlines()[-1])
    stage.figures["milvus_version"] = str(done.pop("server_version")).removeprefix("v")  # by the server itself
    stage.figures["workload"] = done
    stage.say(f"Milvus {stage.figures['milvus_version']} by its own word")
    stage.say(f"{done['rows_inserted']} vectors inserted, {done['searches']} searches")


async def cut_and_heal(stage: Stage) -> None:
    """Cut the flexible customer's way out; scraping goes on, the spool grows, and after healing it drains."""
    wire = stage.wires[FLEXIBLE.organization]
    await wire.cut()
    await stage.clock.sleep(CUT_SECONDS)
    connections = wire.connections
    await wire.heal()

    async def is_connected() -> bool:
        return wire.connections > connections

    await stage.until("the collector to come back", is_connected, 30, f"collector-{FLEXIBLE.organization}")
    stage.figures["network_cut_seconds"] = CUT_SECONDS


async def scale_over_licence(stage: Stage) -> None:
    """The same wish under two contracts."""
    refused = await byoc(
        stage.config, "cluster", "scale", FIXED.cluster, "--size", FIXED.wanted_size, "--wait", "60"
    )
    if refused.status == 0 or "licens" not in refused.errors:
        raise ProgramFailed(f"a scale-up over the licence was not refused: {refused}")
    stage.say(f"[yellow]refused[/]: {refused.errors.removeprefix('error: ')}")
    stage.figures["scale_refused"] = refused.errors.removeprefix("error: ")
    stage.figures["scale_admitted_at_ms"] = stage.clock.now_ms()
    wished = ("cluster", "scale", FLEXIBLE.cluster, "--size", FLEXIBLE.wanted_size, "--wait", "120")
    await succeed(stage.config, *wished)
    stage.say(f"[green]admitted[/]: {FLEXIBLE.cluster} runs at {FLEXIBLE.wanted_size}")


async def wait_for_page(stage: Stage) -> None:
    """On-call is told that the licence is over 100 %; the latency runs from the moment the wish was made."""
    receiver = stage.receiver
    assert receiver is not None

    async def is_paged() -> bool:
        return any(page.verified and page.firing("LicenceCores") for page in receiver.received)

    await stage.until("the page", is_paged, PAGE_SECONDS, "vendor")
    first = next(page for page in receiver.received if page.verified and page.firing("LicenceCores"))
    latency_ms = first.received_ms - stage.figures.pop("scale_admitted_at_ms")
    stage.figures["page_latency_seconds"] = round(latency_ms / 1000, 3)
    told = [alert for alert in first.body["alerts"] if alert["labels"]["alertname"] == "LicenceCores"]
    alert = max(told, key=lambda one: int(one["labels"]["threshold"]))
    stage.say(
        f"{alert['labels']['severity']}: {alert['annotations']['summary']} ({alert['labels']['organization']})"
    )


async def backfill(stage: Stage, month: str) -> None:
    """A month that no server lived through, marked so, by the same collector, gateway and log."""
    file = stage.out / f"simulated-history-{month}.csv"
    samples = await asyncio.to_thread(write_history, month_window(month), file)
    config = stage.customer_folder(FLEXIBLE.organization) / "collector.yaml"
    await succeed(None, "collector", "backfill", str(file), "-c", str(config))
    stage.figures["simulated_history_samples"] = samples
    stage.say(f"{samples} samples marked as simulated history")


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
