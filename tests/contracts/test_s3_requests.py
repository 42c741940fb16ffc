"""What the S3 adapter sends: owner and encryption with every call. Stores accept a wrong owner; AWS does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from kernel.objects import ObjectsDenied, ObjectsUnavailable
from kernel.objects.s3 import MULTIPART_BYTES, S3Objects
from kernel.objects.s3_settings import S3Settings

OWNER = "123456789012"


class Recorder:
    """The calls of a client, as (operation, headers) when they are about to be sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []

    def __call__(self, request: Any, operation_name: str, **_: Any) -> None:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        self.calls.append((operation_name, headers))

    def header(self, operation: str, name: str) -> set[str | None]:
        return {headers.get(name) for called, headers in self.calls if called == operation}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="acme-lake")
        yield


def recorded(**settings: Any) -> tuple[S3Objects, Recorder]:
    objects = S3Objects(S3Settings(bucket="acme-lake", region="us-east-1", expected_bucket_owner=OWNER, **settings))
    recorder = Recorder()
    for client in (objects._client, objects._client_once):
        client.meta.events.register("before-sign.s3", recorder)
    return objects, recorder


@pytest.mark.usefixtures("aws")
async def test_every_call_names_the_owner_and_every_write_asks_for_encryption() -> None:
    objects, recorder = recorded()
    await objects.put("small", b"x")
    await objects.put("once", b"x", if_absent=True)
    await objects.put("large", b"x" * (MULTIPART_BYTES + 1))
    await objects.get("small")
    await objects.head("small")
    assert [stored.name async for stored in objects.list("")] == ["large", "once", "small"]
    await objects.delete("small")

    operations = {operation for operation, _ in recorder.calls}
    assert operations == {
        "PutObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
        "DeleteObject",
    }
    for operation in operations:
        assert recorder.header(operation, "x-amz-expected-bucket-owner") == {OWNER}, operation
    for operation in ("PutObject", "CreateMultipartUpload"):
        assert recorder.header(operation, "x-amz-server-side-encryption") == {"AES256"}
    assert recorder.header("PutObject", "if-none-match") == {None, "*"}


@pytest.mark.usefixtures("aws")
async def test_a_key_of_the_customer_is_asked_for_by_name() -> None:
    objects, recorder = recorded(encryption="aws:kms", kms_key_id="alias/acme")
    await objects.put("a", b"x")
    assert recorder.header("PutObject", "x-amz-server-side-encryption") == {"aws:kms"}
    assert recorder.header("PutObject", "x-amz-server-side-encryption-aws-kms-key-id") == {"alias/acme"}


@pytest.mark.usefixtures("aws")
async def test_an_upload_that_fails_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, recorder = recorded()
    monkeypatch.setattr(objects._client, "upload_part", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await objects.put("large", b"x" * (MULTIPART_BYTES + 1))
    assert "AbortMultipartUpload" in {operation for operation, _ in recorder.calls}


@pytest.mark.usefixtures("aws")
async def test_a_bucket_that_is_not_there_is_denied() -> None:
    objects = S3Objects(S3Settings(bucket="other-bucket", region="us-east-1"))
    with pytest.raises(ObjectsDenied, match="NoSuchBucket"):
        await objects.put("a", b"x")


async def test_a_store_that_is_away_is_unavailable(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    objects = S3Objects(
        S3Settings(
            bucket="acme-lake", region="us-east-1", endpoint_url="http://127.0.0.1:1", credentials_file=credentials
        )
    )
    with pytest.raises(ObjectsUnavailable, match="unknown"):
        await objects.put("a", b"x", if_absent=True)
