"""Settings of billing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from billing.fields import Email
from kernel.settings import Section


class DeliverySettings(Section):
    """How documents are mailed. Always with TLS: a server without it is refused."""

    sender: Email = Field(
        "billing@localhost.localdomain",
        description="Address that documents come from; default billing@localhost.localdomain. Message-IDs end in "
        "its domain.",
    )
    host: str = Field("", description="SMTP server; default none, then documents can only be written to a folder.")
    automatic: bool = Field(
        False,
        description="Whether `byoc up` mails what was issued by itself; default false: by `byoc invoice deliver`.",
    )
    interval_seconds: float = Field(
        60.0, gt=0, description="Seconds between two looks of `byoc up` for documents to mail; default 60."
    )
    port: int = Field(587, ge=1, le=65535, description="Its port; default 587.")
    tls: Literal["starttls", "implicit"] = Field(
        "starttls", description="starttls (mostly port 587) or implicit (mostly port 465); default starttls."
    )
    ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the server's certificate; default the system's."
    )
    user: str = Field("", description="User name at the server; default none, then there is no login.")
    password: SecretStr = Field(SecretStr(""), description="Its password; default none. Never printed.")


class TermsSettings(Section):
    """What `byoc up` does of contracts by itself, in the part `licences`."""

    renew: bool = Field(
        False,
        description="Whether contracts with `renewal` are renewed by themselves once their last day of notice is"
        " over; default false: by `byoc contract renew --due`.",
    )
    commitments: bool = Field(
        False,
        description="Whether commitments of running contracts are invoiced when they begin; default false: by"
        " `byoc invoice commitments`, or with the first month that is closed after it.",
    )
    interval_seconds: float = Field(
        3600.0, gt=0, description="Seconds between two looks of `byoc up` at the terms of contracts; default 3600."
    )
