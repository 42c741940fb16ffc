"""Settings of the S3 object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kernel.objects import is_name
from kernel.settings import Section


def _prefix(text: str) -> str:
    if text and not (text.endswith("/") and is_name(text[:-1])):
        raise ValueError("nothing, or folders of [A-Za-z0-9._=-] each ending in '/'")
    return text


class S3Settings(Section):
    """Used when `objects.kind` is s3. Access keys come from boto3's chain unless `credentials_file` is set."""

    bucket: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$",
        description="Name of the bucket, which must exist. No default: needed for S3.",
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="",
        description="Put before every object's name, ending in '/'. Default: nothing.",
    )
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Endpoint of a store that is not AWS. Default: AWS's for the region.",
    )
    region: str | None = Field(
        default=None, description="Region of the bucket. Default: what boto3's chain says (AWS_REGION and so on)."
    )
    credentials_file: Path | None = Field(
        default=None,
        description="A file as ~/.aws/credentials, whose profile `default` is used. Default: boto3's chain"
        " (environment, web identity, instance role).",
    )
    expected_bucket_owner: str | None = Field(
        default=None,
        pattern=r"^[0-9]{12}$",
        description="12-digit account that must own the bucket; sent with every call, so that a bucket"
        " which someone else re-created under the name is refused. Default: not checked.",
    )
    encryption: Literal["none", "AES256", "aws:kms"] = Field(
        default="AES256",
        description="Server-side encryption asked for with each write: AES256 (default), aws:kms with `kms_key_id`,"
        " or none for a store that refuses the header.",
    )
    kms_key_id: str | None = Field(
        default=None, description="Key for aws:kms. Default: the bucket's or the account's own."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="Seconds to wait for an answer before a try fails. Default 30."
    )
