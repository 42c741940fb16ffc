"""Objects in an S3 bucket, by boto3 in worker threads.

Every call names the account that must own the bucket, every write asks for encryption. A conditional put is tried
once: boto3's own second try would find the object that its first try wrote, and call it another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from kernel.clock import Clock, SystemClock
from kernel.errors import truncate
from kernel.objects import (
    ObjectNotFound,
    ObjectsDenied,
    ObjectsUnavailable,
    PreconditionFailed,
    StoredObject,
    check_name,
)
from kernel.objects.s3_settings import S3Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MULTIPART_BYTES = 16 * 1024 * 1024
_ATTEMPTS = 4
_CONDITION_CODES = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_ABSENT_CODES = {"NoSuchKey", "NotFound", "404"}


class S3Objects:
    """Implements `kernel.objects.ObjectStore`. The etag is S3's, without quotes."""

    def __init__(self, settings: S3Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()  # for an answer without a date
        self._client = _make_client(settings, _ATTEMPTS)
        self._client_once = _make_client(settings, 1)
        self._bucket: dict[str, Any] = {"Bucket": settings.bucket}
        if settings.expected_bucket_owner:
            self._bucket["ExpectedBucketOwner"] = settings.expected_bucket_owner

    async def put(
        self, name: str, content: bytes, *, if_absent: bool = False, if_etag: str | None = None
    ) -> StoredObject:
        conditions: dict[str, str] = {}
        if if_absent:
            conditions["IfNoneMatch"] = "*"
        if if_etag is not None:
            conditions["IfMatch"] = f'"{if_etag}"'
        return await asyncio.to_thread(self._put, check_name(name), content, conditions)

    async def get(self, name: str) -> bytes:
        return await asyncio.to_thread(self._get, check_name(name))

    async def head(self, name: str) -> StoredObject:
        return await asyncio.to_thread(self._head, check_name(name))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        pages = self._pages(prefix)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            for stored in page:
                yield stored

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._delete, check_name(name))

    def _put(self, name: str, content: bytes, conditions: dict[str, Any]) -> StoredObject:
        client = self._client_once if conditions else self._client
        with _mapped(name):
            if len(content) > MULTIPART_BYTES:
                answer = self._put_parts(client, name, content, conditions)
            else:
                answer = client.put_object(**self._key(name), **self._encryption(), **conditions, Body=content)
        sent_at = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        written_at = parsedate_to_datetime(sent_at) if sent_at else self._clock.now()
        return StoredObject(name, len(content), answer["ETag"].strip('"'), written_at)

    def _put_parts(self, client: S3Client, name: str, content: bytes, conditions: dict[str, Any]) -> Any:
        upload = self._client.create_multipart_upload(**self._key(name), **self._encryption())
        part_of: dict[str, Any] = {**self._key(name), "UploadId": upload["UploadId"]}
        try:
            parts: list[Any] = []
            for number, start in enumerate(range(0, len(content), MULTIPART_BYTES), start=1):
                body = content[start : start + MULTIPART_BYTES]
                sent = self._client.upload_part(**part_of, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            return client.complete_multipart_upload(**part_of, MultipartUpload={"Parts": parts}, **conditions)
        except BaseException:
            self._abort(part_of)
            raise

    def _abort(self, part_of: dict[str, Any]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.abort_multipart_upload(**part_of)
        except (BotoCoreError, ClientError):
            return  # the first error matters more; a lifecycle rule of the bucket sweeps unfinished uploads

    def _get(self, name: str) -> bytes:
        with _mapped(name):
            return self._client.get_object(**self._key(name))["Body"].read()

    def _head(self, name: str) -> StoredObject:
        with _mapped(name):
            found = self._client.head_object(**self._key(name))
        return StoredObject(name, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"])

    def _delete(self, name: str) -> None:
        with _mapped(name):
            self._client.delete_object(**self._key(name))

    def _pages(self, prefix: str) -> Iterator[tuple[StoredObject, ...]]:
        start = len(self._settings.prefix)
        pages = self._client.get_paginator("list_objects_v2")
        with _mapped(prefix):
            for page in pages.paginate(**self._bucket, Prefix=self._settings.prefix + prefix):
                yield tuple(_stored(found, start) for found in page.get("Contents", []))

    def _key(self, name: str) -> dict[str, Any]:
        return {**self._bucket, "Key": self._settings.prefix + name}

    def _encryption(self) -> dict[str, Any]:
        if self._settings.encryption == "none":
            return {}
        arguments: dict[str, Any] = {"ServerSideEncryption": self._settings.encryption}
        if self._settings.encryption == "aws:kms" and self._settings.kms_key_id:
            arguments["SSEKMSKeyId"] = self._settings.kms_key_id
        return arguments


def _make_client(settings: S3Settings, attempts: int) -> S3Client:
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    # A profile named outright makes botocore pass by the environment's keys.
    session = Session(profile="default") if settings.credentials_file else Session()
    if settings.credentials_file:
        session.set_config_variable("credentials_file", str(settings.credentials_file))
    config = Config(
        connect_timeout=min(5.0, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        # An address with a port is no place for bucket.host names.
        s3={"addressing_style": "path"} if settings.endpoint_url else {},
    )
    return boto3.Session(botocore_session=session).client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config
    )


def _stored(found: Any, start: int) -> StoredObject:
    return StoredObject(found["Key"][start:], found["Size"], found["ETag"].strip('"'), found["LastModified"])


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        raise _mapped_answer(name, error.response) from error
    except NoCredentialsError as error:
        raise ObjectsDenied("no S3 credentials: set credentials_file, or AWS_ACCESS_KEY_ID and so on") from error
    except BotoCoreError as error:
        raise ObjectsUnavailable(f"{name}: {truncate(str(error))}; whether it was written is unknown") from error


def _mapped_answer(name: str, response: Any) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{code}: {truncate(str(response.get('Error', {}).get('Message', '')))}"
    if code in _CONDITION_CODES or status == 412:
        return PreconditionFailed(f"{name} exists, or is another version; nothing was written: read it again")
    if code in _ABSENT_CODES:
        return ObjectNotFound(f"there is no object {name}")
    if status in {400, 401, 403} or code == "NoSuchBucket":
        return ObjectsDenied(f"{name}: S3 answers {text}; check credentials, bucket and expected_bucket_owner")
    return ObjectsUnavailable(f"{name}: S3 answers {status} {text}; try again")
