"""The Authorization header of a request to a server on the customer's side."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from pydantic import SecretStr

from collector.client.settings import HttpClientSettings


def authorization_of(settings: HttpClientSettings) -> str | None:
    """The Authorization header; files are read now. Blocking. Raises OSError, ValueError (no UTF-8)."""
    if settings.basic_auth is not None:
        password = _secret(settings.basic_auth.password, settings.basic_auth.password_file)
        return f"Basic {b64encode(f'{settings.basic_auth.username}:{password}'.encode()).decode()}"
    if settings.authorization is not None:
        credentials = _secret(settings.authorization.credentials, settings.authorization.credentials_file)
        return f"{settings.authorization.type} {credentials}"
    if settings.bearer_token is not None or settings.bearer_token_file is not None:
        return f"Bearer {_secret(settings.bearer_token, settings.bearer_token_file)}"
    return None


def _secret(written: SecretStr | None, file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return written.get_secret_value() if written is not None else ""
