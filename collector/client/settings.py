"""What a job, a discovery and a receiver of remote write have in common: how they ask a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from kernel.settings import Section


class BasicAuth(Section):
    """HTTP basic authentication."""

    username: str = Field("", description="User name; default empty.")
    password: SecretStr | None = Field(None, description="Password; better password_file. Never printed.")
    password_file: Path | None = Field(None, description="A file with the password, read at every request.")


class Authorization(Section):
    """An Authorization header."""

    type: str = Field("Bearer", pattern=r"^[A-Za-z0-9._~-]+$", description="Scheme of the header; default Bearer.")
    credentials: SecretStr | None = Field(None, description="The credentials; better credentials_file.")
    credentials_file: Path | None = Field(None, description="A file with the credentials, read at every request.")


class TlsSettings(Section):
    """How a server's TLS is checked, and our own certificate if it asks for one."""

    ca_file: Path | None = Field(None, description="PEM of the authorities to trust; default the machine's.")
    cert_file: Path | None = Field(None, description="PEM of our certificate; default none.")
    key_file: Path | None = Field(None, description="PEM of its key; default none.")
    server_name: str | None = Field(None, description="Name expected in the certificate; default the host's.")
    insecure_skip_verify: bool = Field(False, description="Do not check the certificate; default false.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together")
        return self

    def files(self) -> dict[str, Path]:
        """The files that are named, by the name of their setting."""
        named = {name: getattr(self, name) for name in ("ca_file", "cert_file", "key_file")}
        return {name: path for name, path in named.items() if path is not None}


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


HeaderValue = Annotated[tuple[SecretStr, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=1)]


class HttpClientSettings(Section):
    """One way to ask a server. At most one authentication."""

    basic_auth: BasicAuth | None = Field(None, description="HTTP basic authentication; default none.")
    authorization: Authorization | None = Field(None, description="Authorization header; default none.")
    bearer_token: SecretStr | None = Field(None, description="Old spelling of authorization.credentials.")
    bearer_token_file: Path | None = Field(None, description="Old spelling of authorization.credentials_file.")
    tls_config: TlsSettings = Field(TlsSettings(), description="TLS of the server; default the machine's trust.")
    proxy_url: SecretStr | None = Field(
        None,
        description="http[s]://[user:password@]host[:port] of a proxy on this way; default none. Never printed.",
    )
    no_proxy: str = Field(
        "",
        description="Comma-separated names, .domains, addresses and networks that are asked directly, each with"
        " :port if it is for that port alone; default none. Only with proxy_url; localhost is then direct too.",
    )
    proxy_from_environment: bool = Field(
        False, description="Take HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment; default false."
    )
    proxy_connect_header: dict[str, HeaderValue] = Field(
        {}, description="Headers sent to the proxy with CONNECT; default none. Never printed."
    )
    follow_redirects: bool = Field(True, description="Follow redirects; default true, as Prometheus.")

    @field_validator("proxy_url")
    @classmethod
    def _proxy(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_proxy_url(url.get_secret_value(), ("http", "https"))
        return url

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = (self.basic_auth, self.authorization, self.bearer_token, self.bearer_token_file)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("at most one of basic_auth, authorization, bearer_token, bearer_token_file")
        if self.proxy_from_environment and (self.proxy_url or self.no_proxy):
            raise ValueError("proxy_from_environment goes without proxy_url and no_proxy")
        if self.no_proxy and self.proxy_url is None:
            raise ValueError("no_proxy needs a proxy_url")
        if self.proxy_connect_header and self.proxy_url is None and not self.proxy_from_environment:
            raise ValueError("proxy_connect_header needs a proxy_url or proxy_from_environment")
        return self

    def anchored(self, folder: Path) -> Self:
        """The same with every path relative to `folder` made absolute."""
        tls = {name: folder / path for name, path in self.tls_config.files().items()}
        updates: dict[str, object] = {"tls_config": self.tls_config.model_copy(update=tls)}
        if self.bearer_token_file is not None:
            updates["bearer_token_file"] = folder / self.bearer_token_file
        if self.basic_auth and self.basic_auth.password_file:
            update = {"password_file": folder / self.basic_auth.password_file}
            updates["basic_auth"] = self.basic_auth.model_copy(update=update)
        if self.authorization and self.authorization.credentials_file:
            update = {"credentials_file": folder / self.authorization.credentials_file}
            updates["authorization"] = self.authorization.model_copy(update=update)
        return self.model_copy(update=updates)


def check_proxy_url(url: str, schemes: tuple[str, ...] = ("http",)) -> str:
    """`url` if it is one of an HTTP proxy. Raises ValueError that does not repeat it: it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{' or '.join(schemes)}://[user:password@]host[:port] is allowed")
    _ = parts.port
    return url


def check_http_url(url: str) -> str:
    """`url` if it is an absolute http or https one without a user. Raises ValueError that does not repeat it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http:// or https:// URL with a host is allowed")
    if parts.username is not None:
        raise ValueError("a URL without user and password is allowed: write them as basic_auth")
    _ = parts.port
    return url
