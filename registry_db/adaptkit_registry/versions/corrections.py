"""`Corrections`: files beside an artifact that its digest does not cover, such as README.md, replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from adaptkit.errors import NotFound
from adaptkit.types import Event, FileEntry, canonical_json
from adaptkit_registry.database.rows import read_manifest
from adaptkit_registry.database.schema import artifacts, files
from adaptkit_registry.database.transactions import Transactions, once_more

if TYPE_CHECKING:
    from collections.abc import Sequence


class Corrections(Transactions):
    """What may change of an artifact."""

    @once_more
    def correct_extras(
        self, digest: str, extras: Sequence[FileEntry], *, subject: str, author: str = ""
    ) -> bool:
        """Record other extras of an artifact; False when they are known. The event says what they were."""
        of_artifact = artifacts.c.digest == digest
        with self._writing() as connection:
            text = connection.execute(select(artifacts.c.manifest).where(of_artifact)).scalar()
            if text is None:
                raise NotFound("artifact with digest", digest)
            manifest = read_manifest(text)
            if manifest.extras == tuple(extras):
                return False
            corrected = replace(manifest, extras=tuple(extras))
            connection.execute(
                artifacts.update()
                .where(of_artifact)
                .values(manifest=canonical_json(corrected.to_json()))
            )
            old = [entry.path for entry in manifest.extras]
            connection.execute(
                files.delete().where(files.c.digest == digest, files.c.path.in_(old))
            )
            connection.execute(
                files.insert(),
                [
                    {"digest": digest, "path": f.path, "size": f.size, "sha256": f.sha256}
                    for f in extras
                ],
            )
            was = {entry.path: entry.sha256 for entry in manifest.extras}
            self._record(
                connection,
                Event(
                    "corrected",
                    subject,
                    digest,
                    {"files": sorted(entry.path for entry in extras), "was": was},
                    actor=author,
                ),
            )
            return True
