"""Every architecture × kind of adapter × tie × operation: right against PEFT's own forward, or refused before writing.

Each cell is `right`, `refused` with its error message, or `wrong` with how far it is off.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import architectures
from architectures import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from adaptkit import Workspace

KINDS = ("attention", "embedding", "head", "saved embedding", "saved head", "resized")
TIES = ("by config", "by class", "untied")
OPERATIONS = ("add", "merge", "reload", "bake", "extract")
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Cell:
    """One cell: what was tried, what became of it, and the error message or the distance."""

    architecture: str
    tie: str
    kind: str
    operation: str
    state: str
    text: str = ""


def base(name: str, tie: str, folder: Path) -> Path:
    """The base of a row."""
    if not folder.exists():
        wanted = {"by config": True, "by class": None, "untied": False}[tie]
        architectures.make(name, folder, tie=wanted, publish=tie == "by class")
    return folder


def options(name: str, kind: str) -> dict[str, Any] | None:
    """What LoraConfig is given; None where the architecture has no such layer."""
    tiny = TINY[name]
    attention = [tiny.attention]
    match kind:
        case "attention":
            return {"target_modules": attention}
        case "embedding" | "resized":
            found = {"target_modules": [*attention, tiny.embedding]}
        case "head":
            found = {"target_modules": [*attention, tiny.head]}
        case "saved embedding":
            found = {"target_modules": attention, "modules_to_save": [tiny.embedding]}
        case _:
            found = {"target_modules": attention, "modules_to_save": [tiny.head]}
    if not tiny.embedding and kind in {"embedding", "resized", "saved embedding"}:
        return None
    return None if kind == "resized" and name == "clip" else found


def adapter(name: str, kind: str, base_folder: Path, folder: Path) -> Any:
    """An adapter of that kind, as PEFT saves it; returns what the live model makes of the input, or None."""
    import torch
    from peft import LoraConfig, get_peft_model

    asked = options(name, kind)
    if asked is None:
        return None
    model = architectures.load(name, base_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "resized":
            _resize(model)
        task = TINY[name].task
        config = LoraConfig(r=4, lora_alpha=4, task_type=task, init_lora_weights=False, **asked)
        live = get_peft_model(model, config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in live.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(0.1 * noise)
        live.to(torch.float32)  # as it is stored
        live.save_pretrained(folder)
        return architectures.outputs(name, live.to(torch.float64).eval())


def row(
    workspace: Workspace,
    name: str,
    tie: str,
    kind: str,
    work: Path,
    only: tuple[str, ...] = OPERATIONS,
) -> Iterator[Cell]:
    """The cells of one adapter."""
    source = base(name, tie, work / f"{name}-{tie}".replace(" ", "-"))
    here = work / f"{name}-{tie}-{kind}".replace(" ", "-")
    here.mkdir()
    want = adapter(name, kind, source, here / "adapter")
    if want is None:
        return
    tried: dict[str, Callable[[], Any]] = {
        "add": lambda: _add(workspace, name, kind, source, here),
        "merge": lambda: _merge(workspace, name, kind, source, here),
        "reload": lambda: _live(name, kind, source, here / "adapter"),
        "bake": lambda: _bake(workspace, name, source, here),
        "extract": lambda: _extract(workspace, name, kind, source, here),
    }
    for operation in only:
        state, text = _judge(tried[operation], want)
        yield Cell(name, tie, kind, operation, state, text)
    shutil.rmtree(here)


def _judge(work: Callable[[], Any], want: Any) -> tuple[str, str]:
    from adaptkit.errors import AdaptkitError

    try:
        found = work()
    except AdaptkitError as error:
        return "refused", error.summary
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if isinstance(found, tuple):  # it came with what it has to be equal to
        found, want = found
    apart = ((found - want).norm() / want.norm()).item()
    return ("right" if apart <= TOLERANCE else "wrong"), f"{apart:.1e}"


def _add(workspace: Workspace, name: str, kind: str, source: Path, here: Path) -> Any:
    added = workspace.add(here / "adapter", "cell", base=str(source), new_version=True)
    return _live(name, kind, source, workspace.path(added.version.ref))


def _merge(workspace: Workspace, name: str, kind: str, source: Path, here: Path) -> Any:
    workspace.merge({here / "adapter": 1.0}, out=here / "merged", base=source)
    return _live(name, kind, source, here / "merged")


def _bake(workspace: Workspace, name: str, source: Path, here: Path) -> Any:
    workspace.bake(str(here / "adapter"), source, here / "baked")
    return architectures.outputs(name, architectures.load(name, here / "baked"))


def _extract(workspace: Workspace, name: str, kind: str, source: Path, here: Path) -> Any:
    """A fine-tune that moved the same layers in full, as an adapter: against the fine-tune itself."""
    import torch

    tiny = TINY[name]
    layers = {"attention": "", "head": tiny.head, "saved head": tiny.head}
    moved = (f"{tiny.attention}.weight", f"{layers.get(kind, tiny.embedding) or '-'}.weight")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = architectures.load(name, source).to(torch.float32)
        if kind == "resized":
            _resize(model)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters(remove_duplicate=False):
                if f".{parameter_name}".endswith(tuple(f".{end}" for end in moved)):
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(here / "tuned")
    workspace.extract(here / "tuned", source, rank=64, out=here / "extracted")
    return (
        _live(name, kind, source, here / "extracted"),
        architectures.outputs(name, architectures.load(name, here / "tuned")),
    )


def _live(name: str, kind: str, source: Path, folder: Path) -> Any:
    """What PEFT makes of an adapter on its base; the base resized as then."""
    import torch
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = architectures.load(name, source)
        if kind == "resized":
            _resize(model)
        live = PeftModel.from_pretrained(model, str(folder))
        return architectures.outputs(name, live.to(torch.float64).eval())


def _resize(model: Any) -> None:
    """Two tokens more, whose rows are zero in embedding and head: PEFT saves a head only where it is targeted."""
    import torch

    model.resize_token_embeddings(66, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                layer.weight[64:] = 0.0
