"""Identifiers. Past the rim of the system an id is a NewType, made by `parse_id` or `new_id`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import NewType

from kernel.errors import InvalidInput

OrganizationId = NewType("OrganizationId", str)
ProjectId = NewType("ProjectId", str)
ClusterId = NewType("ClusterId", str)
CollectorId = NewType("CollectorId", str)
JobId = NewType("JobId", str)

ID_RULE = "2 to 63 characters a-z, 0-9 and '-', beginning with a letter, not ending in '-'"
# Of every organization: the vendor's own publishers (licence gauges, the alert clock). Nobody enrols under it.
VENDOR_PROJECT = ProjectId("vendor")
_ID = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, order=True)
class Tenant:
    """Who data belongs to: a project of an organization. Comes from a certificate, never from a label."""

    organization: OrganizationId
    project: ProjectId

    def __str__(self) -> str:
        return f"{self.organization}/{self.project}"

    @classmethod
    def parse(cls, text: str) -> Tenant:
        """The inverse of `str`. Raises InvalidInput."""
        organization, _, project = text.partition("/")
        return cls(OrganizationId(parse_id(organization, "organization")), ProjectId(parse_id(project, "project")))


def parse_id(text: str, kind: str, source: str = "id") -> str:
    """`text` if it is a well-formed id. Raises InvalidInput naming `kind`."""
    if not _ID.fullmatch(text):
        raise InvalidInput.single(source, kind, repr(text), ID_RULE)
    return text


def parse_customer_project(text: str, source: str = "id") -> ProjectId:
    """A project that a customer may have. Raises InvalidInput for a malformed id and for the vendor's own."""
    project = ProjectId(parse_id(text, "project", source))
    if project == VENDOR_PROJECT:
        raise InvalidInput.single(
            source, "project", repr(text), f"any id but {VENDOR_PROJECT!r}, which is the vendor's"
        )
    return project


def new_id(prefix: str) -> str:
    """A new random id, `prefix-` and 80 random bits in base 32."""
    return f"{prefix}-{''.join(secrets.choice(_ALPHABET) for _ in range(16))}"
