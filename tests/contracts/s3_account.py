"""How the S3 adapter signs in to the test server: by a credentials file, as a deployment may."""

from pathlib import Path

from kernel.objects.s3_settings import S3Settings
from tests.services.s3 import S3Bucket


def s3_settings(bucket: S3Bucket, folder: Path) -> S3Settings:
    credentials = folder / "credentials"
    account = bucket.account
    credentials.write_text(
        f"[default]\naws_access_key_id = {account.access_key}\naws_secret_access_key = {account.secret_key}\n"
    )
    return S3Settings(
        bucket=bucket.name,
        prefix="vendor/",
        endpoint_url=account.endpoint_url,
        region=account.region,
        credentials_file=credentials,
        expected_bucket_owner="123456789012",
        encryption="none",
    )
