"""Google's and Azure's object stores on loopback, as far as obstore speaks to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopback_buckets import azure, google
from loopback_buckets.azure import AzureBuckets
from loopback_buckets.google import GoogleBuckets

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEMES", "AzureBuckets", "GoogleBuckets", "bucket_environment"]
SCHEMES = ("s3", "gs", "az")


def bucket_environment(host: str, folder: Path) -> dict[str, str]:
    """What a user sets to reach one server by all three protocols."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}",
        "AWS_ACCESS_KEY_ID": "adaptkit-tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-at-all",
        "AWS_REGION": "us-east-1",
        **google.environment(host, folder),
        **azure.environment(host),
    }
