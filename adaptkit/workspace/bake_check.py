"""Whether a baked model computes what the live adapter does: language models by logits, pipelines by component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.bases.pipeline import is_pipeline
from adaptkit.errors import BakeError
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter

LOGITS = "logits"
DIALECT = "diffusers"  # what a pipeline's own loader reads


def comparison(
    source: OpenAdapter, base: Path, prompt: str, work: Path
) -> Callable[[Path], dict[str, float]]:
    """What compares a finished folder with the live adapter; refused now where that could not be done.

    It returns how far each output is from the live adapter's, relative to its largest value, by the pipeline's
    component or as `LOGITS`.
    """
    if not is_pipeline(base):
        from adaptkit.bake import check_logits

        check_logits.check_can_run(base)
        adapter = source.adapter.path
        return lambda made: {LOGITS: check_logits.check_logits(base, adapter, made, prompt)}
    from adaptkit.bake import check_pipeline

    check_pipeline.check_can_run(base, prompt)
    live = _file_for_pipelines(source, work)
    return lambda made: check_pipeline.check_pipeline(base, live, made, prompt)


def checked(
    compare: Callable[[Path], dict[str, float]], made: Path, failed: Path
) -> dict[str, float]:
    """Compare a model that has no name yet; an error names the folder that it then becomes, `failed`."""
    try:
        return compare(made)
    except BakeError as error:
        raise error.about(str(made), str(failed)) from error
    except Exception as error:
        raise BakeError(
            f"the model in {failed} could not be checked",
            why=str(error).replace(str(made), str(failed)).partition("\n")[0][:200],
            fix="look whether the base itself opens and runs in its own library, or leave out --check",
        ) from error


def _file_for_pipelines(source: OpenAdapter, work: Path) -> Path:
    """The adapter as a file that a pipeline's own loader reads."""
    from adaptkit.adapters.formats import to_dialect

    if DIALECT not in source.method.dialects:
        raise BakeError(
            f"cannot check a bake of {source.label}",
            why=f"{DIALECT} itself cannot load such an adapter, so there is nothing to compare with",
            fix="leave out --check",
        )
    folder = work / "live"
    with os_errors("write", folder):
        folder.mkdir()
    return to_dialect(source.adapter, source.method, DIALECT, folder)
