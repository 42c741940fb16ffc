"""What `byoc up` would stumble over at its start, found without asking a server or making a file."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from alerts.api import load_groups
from alerts.settings import AlertSettings
from console.sections import Sections
from console.wiring import Vendor, read_access_keys
from kernel.deployment_settings import DeploymentSettings
from kernel.errors import Finding, InvalidInput, raise_findings
from kernel.identity.authority import CertificateAuthority
from kernel.identity.errors import NoAuthority
from kernel.log.kafka_settings import KafkaSettings


def check_start(vendor: Vendor, sections: Sections) -> None:
    """Folder, authority, certificates, access keys, rule files, signing secrets. Raises InvalidInput with all."""
    settings = vendor.settings
    findings = [
        *_folder(vendor.folder),
        *_of(lambda: _authority(vendor)),
        *_secrets(sections.alerts),
        *_of(lambda: load_groups(sections.alerts)),
    ]
    if settings.log.kind == "kafka":
        findings += _brokers_tls(settings.log.kafka)
    if settings.objects.s3.credentials_file is not None and _uses_s3(settings):
        path = settings.objects.s3.credentials_file
        findings += _of(lambda: read_access_keys(path))
    raise_findings(findings)


def _of(check: Callable[[], object]) -> list[Finding]:
    try:
        check()
    except InvalidInput as error:
        return list(error.findings)
    return []


def _uses_s3(settings: DeploymentSettings) -> bool:
    return settings.objects.kind == "s3" or (settings.lake.warehouse or "").startswith("s3://")


def _folder(folder: Path) -> Iterator[Finding]:
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = "not a folder" if not existing.is_dir() else "a folder that this user can't write to"
        yield Finding("deployment.folder", str(existing), found, "a folder that can be made or written to")


def _authority(vendor: Vendor) -> None:
    try:
        CertificateAuthority.open(vendor.authority_folder, vendor.clock)
    except NoAuthority:
        return  # the first start makes one


def _brokers_tls(settings: KafkaSettings) -> Iterator[Finding]:
    source = "deployment.log.kafka"
    if not settings.security.endswith("SSL"):
        return
    named = {
        "ca_file": settings.ca_file,
        "certificate_file": settings.certificate_file,
        "key_file": settings.key_file,
    }
    missing = [name for name, path in named.items() if path is not None and not os.access(path, os.R_OK)]
    for name in missing:
        yield Finding(source, name, f"{named[name]}, which can't be read", "a PEM file that exists")
    if missing:
        return
    field = "ca_file"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        field = "certificate_file, key_file"
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file, password="")  # never ask
    except (ssl.SSLError, OSError) as error:
        yield Finding(source, field, str(error), "certificates in PEM, and their key, not encrypted")


def _secrets(settings: AlertSettings) -> Iterator[Finding]:
    for index, receiver in enumerate(settings.receivers):
        where = f"receivers[{index}].secret_env"
        if receiver.secret_env is not None and not os.environ.get(receiver.secret_env):
            yield Finding("alerts", where, f"{receiver.secret_env}, which is not set", "a variable with the secret")
        else:
            yield from _of(receiver.load_secrets)
