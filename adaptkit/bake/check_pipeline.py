"""A baked pipeline against the adapter it was baked from, live in diffusers: the output of each changed component."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptkit.bake.check_logits import TOLERANCE
from adaptkit.bases.files.checkpoint import read_layout
from adaptkit.errors import BakeError
from adaptkit.io.safetensors.reader import numpy_dtype, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_SEED = 0  # of the noise that a picture begins with


def check_can_run(base: Path, prompt: str) -> None:
    """Refuse a check that could not be made, before anything is written for it."""
    try:
        import diffusers  # noqa: F401
        import peft  # noqa: F401
    except ImportError as error:
        raise BakeError(
            "cannot compare a pipeline with the live adapter",
            why=f"{error.name} is not installed",
            fix="pip install diffusers peft, or leave out --check",
        ) from error
    from transformers import AutoTokenizer

    index = read_layout(base).config
    named = [name for name in sorted(index) if name.startswith("tokenizer")]
    tokenizers = [name for name in named if isinstance(index[name], list) and all(index[name])]
    try:
        if not tokenizers:
            raise ValueError("its model_index.json names none")  # noqa: TRY301
        for name in tokenizers:
            AutoTokenizer.from_pretrained(base / name)(prompt)
    except Exception as error:
        raise BakeError(
            f"cannot check a pipeline baked into {base}",
            why="the prompt needs the tokenizer of the base, and none could be opened there: "
            f"{str(error).partition(chr(10))[0][:200]}",
            fix="put the tokenizer's folder there, or leave out --check",
        ) from error


def check_pipeline(base: Path, live: Path, baked: Path, prompt: str) -> dict[str, float]:
    """The largest difference of each changed component's first output, relative to the largest value in it.

    `live` is the adapter as a file that diffusers loads; its names say which components are changed. One step is made
    for the prompt, from the same noise. `BakeError` where they are further apart than rounding explains.
    """
    components = sorted({name.partition(".")[0] for name in read_header(live).tensors})
    with _quiet():
        wanted = _outputs(base, components, prompt, live)
        found = _outputs(baked, components, prompt)
    if silent := [name for name in components if name not in wanted]:
        raise BakeError(
            f"the model in {baked} could not be checked",
            why=f"the pipeline made a step without its {silent[0]}, which the adapter changes",
            fix="leave out --check",
        )
    apart = {}
    for name in components:
        apart[name] = float((found[name] - wanted[name]).abs().max() / wanted[name].abs().max())
        allowed = _tolerance(baked, name)
        if not apart[name] <= allowed:
            raise BakeError(
                f"the model in {baked} does not answer like the live adapter",
                why=f"outputs of its {name} differ by {apart[name]:.2g} of the largest, more than {allowed:g}",
                fix="do not use it; please report this with the adapter's config",
            )
    return apart


def _outputs(
    folder: Path, components: Sequence[str], prompt: str, live: Path | None = None
) -> dict[str, Any]:
    """The first output of each component when the pipeline makes one step, in float32."""
    import diffusers
    import torch

    pipeline: Any = diffusers.DiffusionPipeline
    how: dict[str, Any] = {"torch_dtype": torch.float32, "local_files_only": True}
    if (variant := _variant(folder)) is not None:
        how["variant"] = variant
    pipe = pipeline.from_pretrained(folder, **how)
    pipe.set_progress_bar_config(disable=True)
    if live is not None:
        pipe.load_lora_weights(str(live.parent), weight_name=live.name)
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            first = output if isinstance(output, torch.Tensor) else output[0]
            outputs.setdefault(name, first.detach().float().clone())

        return hook

    for name in components:
        getattr(pipe, name).register_forward_hook(keep(name))
    noise = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        pipe(prompt=prompt, num_inference_steps=1, output_type="latent", generator=noise)
    return outputs


def _variant(folder: Path) -> str | None:
    """The variant that a pipeline's weights are, such as `fp16` of `model.fp16.safetensors`."""
    names = [file.name.split(".") for file in read_layout(folder).files]
    return next((parts[1] for parts in names if len(parts) == 3), None)


def _tolerance(baked: Path, component: str) -> float:
    """What rounding to the dtypes that the component is stored in costs, with room."""
    tensors: Mapping[str, Any] = read_layout(baked).components[component].tensors or {}
    dtypes = {numpy_dtype(place.entry.dtype).name for place in tensors.values()}
    return max(TOLERANCE.get(dtype, 0.0) for dtype in dtypes) or TOLERANCE["bfloat16"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and what the libraries have to remark about themselves."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.set_verbosity(level)
