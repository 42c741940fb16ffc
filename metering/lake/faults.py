"""Faults of the catalog, the warehouse and what decodes the tables' metadata, as errors of the lake."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy.exc
from pyiceberg.exceptions import ValidationError
from pyiceberg.table import Table

from kernel.errors import truncate, without_passwords
from metering.lake.errors import LakeDamaged, LakeUnavailable

# What a file that was cut or altered raises, by trial.
_UNDECODED = (ValueError, EOFError, zlib.error, SystemError, ValidationError)


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Faults of the catalog's database and of the warehouse become LakeUnavailable; what can't be decoded there
    LakeDamaged.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise LakeUnavailable(f"{doing}: {said(error)}; trying again may help") from error
    except _UNDECODED as error:
        raise LakeDamaged(
            f"{doing}: a file was cut or altered ({said(error)}); `byoc lake verify` names it, unless it is the "
            "newest metadata.json; restore it from a copy"
        ) from error


def said(error: BaseException) -> str:
    """What an error says, in a line and without passwords."""
    cause: Any = getattr(error, "orig", None) or error  # what the database said, without the statement
    text = " ".join(str(cause).split())
    return truncate(without_passwords(f"{type(error).__name__}: {text}"), 300)


def unreadable_metadata(table: Table) -> Iterator[str]:
    """The manifests of the newest snapshot that can't be read, and their list."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return
    try:
        manifests = snapshot.manifests(table.io)
    except (OSError, *_UNDECODED) as error:
        yield f"{snapshot.manifest_list}: can't be read ({said(error)}); restore it from a copy"
        return
    for manifest in manifests:
        try:
            manifest.fetch_manifest_entry(table.io)
        except (OSError, *_UNDECODED) as error:
            yield f"{manifest.manifest_path}: can't be read ({said(error)}); restore it from a copy"
