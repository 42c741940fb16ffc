"""`byoc up`: the whole vendor side in one process, or with `--only` the parts that are named.

Gateway, lake writer, usage, licence gauges, alerts and the provisioner's engine share the process and nothing else:
they meet at the log, the lake and the database.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from alerts.api import AlertService
from billing.api import (
    ContractBook,
    Delivery,
    DeliveryWorker,
    InvoiceRun,
    LicenceGauges,
    Receivables,
    TermsWorker,
    invoice_pdf,
    open_signer,
)
from console.month_keeper import MonthKeeper
from console.parts import Part
from console.sections import Sections
from console.wiring import Vendor
from console.workers import start_workers
from kernel.health import serve_health
from kernel.identity.authority import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.errors import NoAuthority
from kernel.identity.revocation import Revocations
from kernel.log import Log
from kernel.logs import logger
from kernel.service import Service
from metering.gateway.app import GatewayParts
from metering.gateway.server import serve_gateway
from metering.lake.api import Lake
from metering.lake.writer import LakeWriter
from metering.meters.catalogue import open_catalogue
from metering.meters.closer import MeterCloser
from metering.meters.store import MeterStore
from metering.record import HISTORY_TOPIC, LIVE_TOPIC
from metering.usage.api import HourCloser, LakeSource, Reconciler, UsageSettings, UsageStore
from provisioner.api import Provisioner
from provisioner.cli import CUSTOMER_FOLDER
from provisioner.engines.durable import DurableEngine
from provisioner.local.provider import LocalProvider

ENDPOINTS_FILE = "endpoints.json"
_log = logger("console")


async def run_vendor(vendor: Vendor, sections: Sections, parts: Collection[Part] = tuple(Part)) -> None:
    """Run these parts until SIGTERM or SIGINT. Raises Stop when one failed."""
    service = Service("vendor", CollectorRegistry(), stop_seconds=sections.up.stop_seconds)
    service.on_close("deployment", vendor.close)
    try:
        ports = await _start(service, vendor, sections, frozenset(parts))
        gc.collect()
        gc.freeze()  # what was imported and set up is left out of collections: reading a month takes half as long
        ports["health_port"] = await serve_health(service, sections.up.health_host, sections.up.health_port)
        endpoints = write_endpoints(vendor.folder, endpoints_file(parts), ports)
        _log.info("vendor_is_up", parts=sorted(parts), **ports)
    except BaseException:
        await service.shutdown()
        raise
    try:
        await service.run()
    finally:
        endpoints.unlink(missing_ok=True)


async def _start(service: Service, vendor: Vendor, sections: Sections, parts: frozenset[Part]) -> dict[str, int]:
    """In this order, the gateway last: who pushes finds everything behind it up. Returns the ports by name."""
    log = await vendor.log()
    await log.ensure_topics(dict.fromkeys((LIVE_TOPIC, HISTORY_TOPIC), vendor.settings.log.partitions))
    if Part.PROVISIONER in parts:
        await _start_provisioner(service, vendor)
    if parts & {Part.LAKE, Part.USAGE}:
        lake = await open_lake(vendor)
        service.on_close("lake", lake.close)
        if Part.LAKE in parts:
            lake_writer = LakeWriter(lake, log, sections.lake, vendor.clock, service.registry)
            service.checks["lake"] = lake_writer.not_ready
            service.spawn("lake-writer", lake_writer.run())
        if Part.USAGE in parts:
            source = LakeSource(lake, sections.lake.watermark_hold_seconds)
            store = UsageStore(vendor.database())
            meters = open_meters(vendor, source, sections.usage)
            closer = HourCloser(source, store, sections.usage, vendor.clock, service.registry, meters)
            service.spawn("usage", closer.run())
            reconciler = Reconciler(vendor.database(), vendor, sections.usage, vendor.clock)
            usage_writer = await log.writer()
            service.on_close("usage-log", usage_writer.close)
            service.spawn("reconciliation", reconciler.run(usage_writer, service.registry))
    if Part.LICENCES in parts:
        await _start_gauges(service, vendor, sections, log)
        service.spawn("months", MonthKeeper(vendor, sections.up.month_seconds, service.registry).run())
        if sections.delivery.automatic:
            _start_delivery(service, vendor, sections)
        if sections.terms.renew or sections.terms.commitments:
            _start_terms(service, vendor, sections)
    if Part.ALERTS in parts:
        AlertService(vendor.database(), log, vendor.clock, sections.alerts, service.registry).attach(service)
    if Part.GATEWAY in parts:
        return {"gateway_port": await _start_gateway(service, vendor, sections, log)}
    return {}


async def open_lake(vendor: Vendor) -> Lake:
    """The deployment's lake; what does not exist is created."""
    return await Lake.open(
        vendor.catalog_url, vendor.warehouse, vendor.objects(), vendor.clock, vendor.lake_properties
    )


def open_meters(vendor: Vendor, source: LakeSource, settings: UsageSettings) -> MeterCloser:
    """The closer of the catalogue's meters. Raises InvalidInput for a catalogue that is not one."""
    catalogue = open_catalogue(settings.catalogue)
    limit_ms = round(settings.staleness_limit_seconds * 1000)
    return MeterCloser(source, MeterStore(vendor.database()), catalogue, vendor.clock, limit_ms)


def open_authority(vendor: Vendor) -> CertificateAuthority:
    """The deployment's authority; on the first start it is made."""
    try:
        return CertificateAuthority.open(vendor.authority_folder, vendor.clock)
    except NoAuthority:
        _log.info("authority_created", folder=str(vendor.authority_folder))
        return CertificateAuthority.create(vendor.authority_folder, vendor.settings.trust_domain, vendor.clock)


def endpoints_file(parts: Collection[Part]) -> str:
    """The name of the file that tells where the process of these parts listens; whole ones share one name."""
    missing = frozenset(Part) - frozenset(parts)
    return f"endpoints-{'-'.join(part for part in Part if part in parts)}.json" if missing else ENDPOINTS_FILE


def write_endpoints(folder: Path, name: str, ports: Mapping[str, int]) -> Path:
    """Tell other programs of this machine where to find this process; written whole or not at all."""
    path = folder / name
    waiting = path.with_suffix(".part")
    waiting.write_text(json.dumps({**ports, "pid": os.getpid()}) + "\n", encoding="utf-8")
    waiting.replace(path)
    return path


async def _start_gateway(service: Service, vendor: Vendor, sections: Sections, log: Log) -> int:
    authority = open_authority(vendor)
    if sections.gateway.workers > 1:
        return await start_workers(service, vendor, sections)
    writer = await log.writer()
    service.on_close("gateway-log", writer.close)
    database, clock, audit = vendor.database(), vendor.clock, vendor.audit()
    parts = GatewayParts(
        settings=sections.gateway,
        writer=writer,
        authority=authority,
        tokens=EnrolmentTokens(database, clock, audit),
        revocations=Revocations(database, clock, audit),
        clock=clock,
        registry=service.registry,
        log=log,
    )
    return await serve_gateway(service, parts)


async def _start_gauges(service: Service, vendor: Vendor, sections: Sections, log: Log) -> None:
    gauge_writer = await log.writer()
    service.on_close("gauges-log", gauge_writer.close)
    gauges = LicenceGauges(vendor.database(), gauge_writer, vendor.clock, sections.up.gauge_seconds)
    service.spawn("licence-gauges", gauges.run())


def _start_delivery(service: Service, vendor: Vendor, sections: Sections) -> None:
    receivables = Receivables(vendor.database(), vendor.clock, vendor.audit(), "delivery")
    delivery = Delivery(receivables, invoice_pdf(vendor.folder / "logos"), sections.delivery.sender)
    service.spawn("delivery", DeliveryWorker(delivery, sections.delivery, vendor.clock, service.registry).run())


def _start_terms(service: Service, vendor: Vendor, sections: Sections) -> None:
    database, clock, audit = vendor.database(), vendor.clock, vendor.audit()
    signer = open_signer(vendor.authority_folder, clock)
    run = InvoiceRun(database, UsageStore(database), clock, audit, "terms", signer)
    worker = TermsWorker(ContractBook(database, clock, audit), run, sections.terms, service.registry)
    service.spawn("terms", worker.run())


async def _start_provisioner(service: Service, vendor: Vendor) -> None:
    database = vendor.database()
    provisioner = Provisioner(
        database,
        DurableEngine(database),
        LocalProvider(vendor.folder / CUSTOMER_FOLDER),
        vendor.capacity,
        vendor.audit(),
        vendor.clock,
    )
    await provisioner.start()
    service.on_close("provisioner", provisioner.stop)
    service.spawn("provisioner-watch", provisioner.watch())
