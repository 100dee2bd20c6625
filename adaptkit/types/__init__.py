"""The frozen dataclasses that cross boundaries.

Reading one from JSON checks it by `adaptkit.types.checks.schema`; else this takes the standard library only.

Every value that travels between the core, a plugin and the registry is one of these, so a reader
who knows this page knows what the packages say to each other.
"""

from __future__ import annotations

from adaptkit.types.base_identity import (
    STATUSES,
    BaseIdentity,
    Level,
    Quantisation,
    Sameness,
    Verdict,
)
from adaptkit.types.digests import canonical_json, digest_of
from adaptkit.types.event import Event
from adaptkit.types.facts import Facts, LossFacts
from adaptkit.types.files import FileEntry, TensorInfo, artifact_digest
from adaptkit.types.lineage import Lineage
from adaptkit.types.manifest import MANIFEST_SCHEMA, Manifest, Parent
from adaptkit.types.places import PlacedVersion, Placement, Receipt, latest_of
from adaptkit.types.search import Condition
from adaptkit.types.version import AliasMove, Version

__all__ = [
    "MANIFEST_SCHEMA",
    "STATUSES",
    "AliasMove",
    "BaseIdentity",
    "Condition",
    "Event",
    "Facts",
    "FileEntry",
    "Level",
    "Lineage",
    "LossFacts",
    "Manifest",
    "Parent",
    "PlacedVersion",
    "Placement",
    "Quantisation",
    "Receipt",
    "Sameness",
    "TensorInfo",
    "Verdict",
    "Version",
    "artifact_digest",
    "canonical_json",
    "digest_of",
    "latest_of",
]
