"""Credentials from `~/.aws`: profiles, SSO, roles and programs, through botocore; obstore reads the environment only.

Asked for where the environment has no key of its own, and AWS_PROFILE or a file of credentials is there.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from adaptkit.errors import StorageError, requires_extra
from adaptkit.io.safe_paths import user_path

if TYPE_CHECKING:
    from obstore.store import S3Credential

_OWN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_RENEW = timedelta(minutes=15)


class Profile:
    """A credential provider for obstore's S3 client: what botocore finds in a profile, as often as it is asked."""

    def __init__(self, credentials: Any, region: str) -> None:
        self._credentials, self.region = credentials, region

    def __call__(self) -> S3Credential:
        frozen = self._credentials.get_frozen_credentials()
        found: S3Credential = {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _RENEW,
        }
        return found


def profile_credentials(url: str) -> Profile | None:
    """The credentials of the profile in force; None where the environment has its own, or there is no profile."""
    name = os.environ.get("AWS_PROFILE", "")
    file = user_path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    if any(os.environ.get(variable) for variable in _OWN):
        return None
    if not name and not file.is_file():
        return None
    with requires_extra("aws", f"cannot read the credentials in {file.parent} for {url}"):
        import botocore.session
        from botocore.exceptions import BotoCoreError
    try:
        session = botocore.session.Session(profile=name or None)
        resolver = session.get_component("credential_provider")
        for machine in ("container-role", "iam-role"):  # obstore asks these by itself
            resolver.remove(machine)
        credentials = resolver.load_credentials()
        region = session.get_config_variable("region") or os.environ.get("AWS_REGION", "")
    except BotoCoreError as error:
        raise StorageError(
            f"cannot open {url}",
            why=f"AWS_PROFILE or a file in {file.parent} cannot be used ({type(error).__name__})",
            fix="see which profiles there are: aws configure list-profiles",
        ) from None
    if credentials is None:
        if name:
            raise StorageError(
                f"cannot open {url}",
                why=f"the profile '{name[:64]}' (AWS_PROFILE) holds no credentials",
                fix=f"add them to {file}",
            )
        return None
    return Profile(credentials, region)
