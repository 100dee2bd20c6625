"""llama.cpp itself loads what `export --for gguf` writes, and computes with it what PEFT does.

Opt-in: `ADAPTKIT_LLAMA_CPP` names a folder where llama.cpp is installed, with `include/llama.h` and `lib/libllama.so`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptkit import Workspace
from adaptkit.serving.engines.gguf_file import BaseShape, permuted

LOGITS = Path(__file__).parents[3] / "shared" / "llama_cpp_logits.c"
PROMPTS = ([1, 2, 3, 4, 5], [7, 3, 9], [11, 2])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program that prints logits, compiled against the llama.cpp that is there."""
    found = os.environ.get("ADAPTKIT_LLAMA_CPP")
    if not found:
        pytest.skip(
            "build llama.cpp, cmake --install it, and set ADAPTKIT_LLAMA_CPP to the folder (docs/serving.md)"
        )
    out = tmp_path_factory.mktemp("llama-cpp") / "logits"
    include, lib = (str(Path(found) / part) for part in ("include", "lib"))
    subprocess.run(
        ["cc", LOGITS, "-o", out, "-I", include, "-L", lib, "-lllama", f"-Wl,-rpath,{lib}"],
        check=True,
    )
    return out


def write_base(folder, path):
    """A base without a tokenizer as GGUF, as llama.cpp's own converter writes a Llama."""
    gguf = pytest.importorskip("gguf", reason="pip install gguf")
    from safetensors.numpy import load_file

    about = json.loads((folder / "config.json").read_text())
    layers, heads = about["num_hidden_layers"], about["num_attention_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(about["max_position_embeddings"])
    writer.add_embedding_length(about["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(about["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(about["num_key_value_heads"])
    writer.add_rope_dimension_count(about["hidden_size"] // heads)
    writer.add_rope_freq_base(about["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(about["rms_norm_eps"])
    writer.add_vocab_size(about["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    shape = BaseShape.of(about, "the base")
    for name, values in load_file(folder / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        array = np.ascontiguousarray(permuted(values.astype(np.float32), stem, shape))
        there = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(there, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ask(program, base, adapter, tokens):
    done = subprocess.run(
        [program, base, adapter, *map(str, tokens)],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(done.stdout.split(), np.float32)


@pytest.mark.parametrize("name", ["naval", "medic", "cargo"])
def test_llama_cpp_computes_with_a_gguf_adapter_what_peft_does(program, fleet, tmp_path, name):
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    write_base(fleet.base, base)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add(fleet.adapters[name], name, base=str(fleet.base))
        ws.export_for(name, adapter, "gguf", base=str(fleet.base))
    plain, with_it = fleet.model(), fleet.alone(name)
    for tokens in PROMPTS:
        ids = torch.tensor([tokens])
        with torch.inference_mode():
            alone, wanted = (
                model(input_ids=ids).logits[0, -1].numpy() for model in (plain, with_it)
            )
        assert np.abs(wanted - alone).max() > 1e-3
        np.testing.assert_allclose(ask(program, base, "", tokens), alone, atol=1e-5)
        np.testing.assert_allclose(ask(program, base, adapter, tokens), wanted, atol=1e-5)
