"""The key that signs receipts: Ed25519, beside the authority's own, certified by it.

A key of its own, since receipts are signed at every push and for years: it can be replaced without a new authority,
and what a collector must keep to check old receipts is 32 bytes. Made once, by whichever process comes first; the
workers and machines that share the authority's folder share it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from kernel.errors import InvalidInput

RECEIPT_KEY_FILE = "receipt-key.pem"
LICENCE_KEY_FILE = "licence-key.pem"
INVOICE_KEY_FILE = "invoice-key.pem"


def open_receipt_key(folder: Path) -> ed25519.Ed25519PrivateKey:
    """The key in `folder`, made if there is none. Raises InvalidInput: unreadable, damaged, or open to others."""
    return open_key(folder / RECEIPT_KEY_FILE)


def open_licence_key(folder: Path) -> ed25519.Ed25519PrivateKey:
    """The key that signs licence files, likewise."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open_key(folder / LICENCE_KEY_FILE)


def open_invoice_key(folder: Path) -> ed25519.Ed25519PrivateKey:
    """The key that signs invoices, likewise; the folder is the authority's."""
    return open_key(folder / INVOICE_KEY_FILE)


def open_key(path: Path) -> ed25519.Ed25519PrivateKey:
    """An Ed25519 key of this machine, made if there is none. Raises InvalidInput."""
    try:
        if not path.exists():
            _make(path)
        content, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except OSError as error:
        allowed = "a folder in which one gateway could make it; `byoc ca init` makes it too"
        raise InvalidInput.single(str(path), "receipt key", error.strerror, allowed) from error
    if mode & 0o077:
        raise InvalidInput.single(str(path), "mode", f"{mode:04o}", "0600: readable by its owner alone")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput.single(str(path), "receipt key", str(error), "an Ed25519 key in PEM") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidInput.single(str(path), "receipt key", type(key).__name__, "an Ed25519 key in PEM")
    return key


def _make(path: Path) -> None:
    """Write a new key under a name of our own and link it: of several processes one wins, and none sees a part."""
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    waiting = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(waiting, path)
    except FileExistsError:
        pass  # another process was faster: its key is the key
    finally:
        waiting.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
