"""TLS towards the servers of the customer."""

from __future__ import annotations

import ssl
from pathlib import Path

from collector.client.settings import TlsSettings
from kernel.errors import InvalidInput


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """A client context. Raises OSError (ssl.SSLError is one) for files that are none. Blocking."""
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file and settings.key_file:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    return context


def check_tls_files(settings: TlsSettings, job_name: str) -> None:
    """Raises InvalidInput that names the file which is not there, or not what it should be. Blocking."""
    files = {name: getattr(settings, name) for name in ("ca_file", "cert_file", "key_file")}
    for name, path in files.items():
        if path is not None and not _is_file(path):
            raise InvalidInput.single(job_name, f"tls_config.{name}", str(path), "a file that exists")
    if settings.ca_file is not None:
        try:
            tls_context(settings.model_copy(update={"cert_file": None, "key_file": None}))
        except OSError as error:
            found = f"{settings.ca_file}: {error}"
            raise InvalidInput.single(job_name, "tls_config.ca_file", found, "PEM certificates") from error
    if settings.cert_file is not None:
        try:
            tls_context(settings)
        except OSError as error:
            found = f"{settings.cert_file} and {settings.key_file}: {error}"
            allowed = "a PEM certificate and its key, without a password"
            raise InvalidInput.single(job_name, "tls_config.cert_file, key_file", found, allowed) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for one
        return False
