"""Signatures, moments and corrected README.md files go where their version is mirrored to, each checked by its kind."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.extend import Bundle, attachments
from adaptkit.remotes.corrected import BadCorrection, Correction
from adaptkit.signing.form import BadForm
from adaptkit.signing.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.remotes.mirrored import Plan, Review
    from adaptkit.types import PlacedVersion

_WORDS = {
    attachments.SIGNATURE: "a signature",
    attachments.MOMENTS: "moments",
    attachments.CORRECTION: "a corrected README.md",
}


def carry_attachments(
    planned: Plan, numbers: Mapping[str, int], folder: Path, review: Review, failures: list[str]
) -> None:
    """Copy what is attached to where its version went; what is there already is not sent again.

    What has not the form of its kind is left out, and reported. `folder` is for reviews to read in.
    """
    for placed in planned.listed:
        number = numbers.get(placed.manifest.digest)
        if number is None:
            continue
        for kind in attachments.TRAVEL:
            try:
                _carry(planned, placed, number, kind, folder, review, failures)
            except AdaptkitError as error:
                failures.append(error.summary)


def _carry(
    planned: Plan,
    placed: PlacedVersion,
    number: int,
    kind: str,
    folder: Path,
    review: Review,
    failures: list[str],
) -> None:
    found = planned.source.attached(placed.number, kind)
    there = [dict(files) for files in planned.target.attached(number, kind)] if found else []
    for files in found:
        if dict(files) in there:
            continue
        try:
            checked = _checked(kind, placed.manifest.digest, files)
        except (BadForm, BadCorrection) as error:
            label = f"{_WORDS[kind]} of {planned.source.url}@{placed.number}"
            were = "were" if kind == attachments.MOMENTS else "was"
            failures.append(f"{label} {were} not copied: {error}")
            continue
        if kind != attachments.MOMENTS:  # they hold no text that a review could read
            review(planned, Bundle(placed, {}), _written(checked, folder))
        planned.target.attach(number, kind, checked)


def _checked(kind: str, digest: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The files in the order in which they are attached; `BadForm` or `BadCorrection` when they are something else."""
    if kind == attachments.CORRECTION:
        return Correction.read(files, digest).files
    if kind == attachments.MOMENTS:
        if why := attachments.misformed_moments(files):
            raise BadForm(why)
        return files
    signature = Signature.read(files)
    if signature.statement.manifest.digest != digest:
        raise BadForm("it is of other files")
    return signature.files


def _written(files: Mapping[str, bytes], folder: Path) -> Mapping[str, Path]:
    """The files of an attachment, for reviews to read."""
    into = Path(mkdtemp(dir=folder))
    for name, data in files.items():
        (into / name).write_bytes(data)
    return {name: into / name for name in files}
