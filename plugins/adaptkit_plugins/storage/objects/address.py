"""Where a bucket is: the URL, and what the usual environment variables say. Secrets stay in the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from adaptkit.errors import StorageError, requires_extra
from adaptkit.io.http.environment import (
    check_certificates,
    check_label,
    check_secret,
    check_web_address,
)
from adaptkit_plugins.storage.objects import redirects
from adaptkit_plugins.storage.objects.profiles import profile_credentials

if TYPE_CHECKING:
    from obstore.store import (
        AzureStore,
        ClientConfig,
        GCSConfig,
        GCSStore,
        RetryConfig,
        S3Config,
        S3Store,
    )

    Store = S3Store | GCSStore | AzureStore

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
_LABELS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AZURE_STORAGE_ACCOUNT_NAME")
_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
)
_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)


@dataclass(frozen=True, slots=True)
class Address:
    """One adapter's folder in a bucket: `s3://BUCKET/PREFIX`, `gs://`, `az://CONTAINER/PREFIX`."""

    url: str
    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL; `StorageError` when it names no bucket, or holds what is no place's business."""
        parts = urlsplit(url)
        scheme, noun = parts.scheme, _noun(parts.scheme)
        prefix = unquote(parts.path).strip("/")
        example = f"for example {scheme}://my-{noun}/adapters/naval"
        if (
            "@" in parts.netloc or parts.query or parts.fragment
        ):  # a secret may stand there: not repeated
            raise StorageError(
                f"cannot read a place in {scheme}://…",
                why="it holds a user, a '?' or a '#'",
                fix=f"{example}; credentials come from {', '.join(_CREDENTIALS[scheme])}",
            )
        if not _BUCKET.fullmatch(parts.netloc):
            raise StorageError(
                f"cannot read the place '{url}'", why=f"it names no {noun}", fix=example
            )
        if re.search(r"[\x00-\x1f\x7f\\]", prefix) or {"", ".", ".."} & set(
            prefix.split("/") if prefix else ()
        ):
            raise StorageError(
                f"cannot read the place '{url}'",
                why="its path holds an empty, '.' or '..' part, or a control character",
                fix=example,
            )
        return cls(url, scheme, parts.netloc, prefix)

    @property
    def noun(self) -> str:
        return _noun(self.scheme)

    @property
    def endpoint(self) -> str:
        """The endpoint that the environment names; empty for the provider's own."""
        return next(
            (os.environ[name] for name in _ENDPOINTS[self.scheme] if os.environ.get(name)), ""
        )

    @property
    def endpoint_variable(self) -> str:
        """The variable that names the endpoint, the one that is set if any."""
        names = _ENDPOINTS[self.scheme]
        return next((name for name in names if os.environ.get(name)), names[-2])

    @property
    def at(self) -> str:
        """` at HOST` when an endpoint is set, without a user or password that stands in it."""
        host = urlsplit(self.endpoint).netloc.rpartition("@")[2]
        return f" at {host}" if host else ""

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of the variables that credentials usually come from."""
        return _CREDENTIALS[self.scheme]

    def check_environment(self) -> None:
        """Refuse what obstore would panic on: an endpoint that is no web address, a key with a line feed."""
        for name in _LABELS:
            check_label(self.url, name)
        for name in _SECRETS:
            check_secret(self.url, name)
        check_certificates(self.url)
        if self.endpoint:
            check_web_address(self.url, self.endpoint_variable, self.endpoint)

    def key(self, path: str) -> str:
        """The key of a path below this place."""
        return f"{self.prefix}/{path}".strip("/")

    def store(self, retries: int) -> Store:
        """The client for the bucket; obstore reads the environment. It tries `retries` times again by itself."""
        with requires_extra("s3", f"cannot open {self.url}"):
            from obstore.store import AzureStore, GCSStore, S3Store
        self.check_environment()
        profile = profile_credentials(self.url) if self.scheme == "s3" else None
        if (
            self.scheme == "s3"
            and profile is None
            and not any(os.environ.get(name) for name in _SOURCES)
            and _no_metadata()
        ):
            raise StorageError(
                f"cannot open {self.url}",
                why="no credentials were found",
                fix=f"set {', '.join(self.credentials)}, or AWS_PROFILE",
            )
        client: ClientConfig = {
            # plain HTTP only where the user wrote it into the environment
            "allow_http": self.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(minutes=30),
            "user_agent": "adaptkit",
            **redirects.no_other_host(self, signs=profile is not None),
        }
        retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(minutes=2)}
        try:
            if self.scheme == "s3":
                if profile is not None:
                    region: S3Config = {"region": profile.region} if profile.region else {}
                    return S3Store(
                        self.bucket,
                        config=region,
                        client_options=client,
                        retry_config=retry,
                        credential_provider=profile,
                    )
                return S3Store(self.bucket, client_options=client, retry_config=retry)
            if self.scheme == "gs":
                base: GCSConfig = {"base_url": self.endpoint} if self.endpoint else {}
                return GCSStore(self.bucket, client_options=client, retry_config=retry, **base)  # type: ignore[misc]
            return AzureStore(self.bucket, client_options=client, retry_config=retry)
        except Exception as error:  # noqa: BLE001 - obstore's own kinds; their text may quote a key
            raise StorageError(
                f"cannot open {self.url}",
                why=f"its client refuses the settings ({type(error).__name__})",
                fix=f"check {', '.join((*self.credentials, self.endpoint_variable))}",
            ) from None


def _noun(scheme: str) -> str:
    return "container" if scheme == "az" else "bucket"


def _no_metadata() -> bool:
    """Whether the machine's own metadata service, the last source of credentials, is not to be asked."""
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
