"""Reading adapter folders, the good ones and those of the wild."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct

import ml_dtypes
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit.adapters.adapter import Adapter, artifact_paths
from adaptkit.adapters.keys import normalise
from adaptkit.errors import BadAdapter, BadConfig, BadWeights
from adaptkit.plugin.manager import Plugins

PLUGINS = Plugins.from_environment()


@pytest.fixture
def naval(tmp_path, lora_pair):
    return shutil.copytree(lora_pair[0], tmp_path / "naval")


def check(folder, **how):
    """Everything that `add` checks of an adapter alone."""
    with Adapter.open(folder, "naval", **how) as adapter:
        method = PLUGINS.method_for(adapter)
        method.check(adapter)
        adapter.check_tensors()
        return method


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def rewrite(folder, tensors):
    save_file(tensors, folder / "adapter_model.safetensors")


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read adapter_config.json: it is empty"),
        ('{"peft_type": "LORA", "r"', "cannot read adapter_config.json"),
        ("[1, 2]", "adapter_config.json holds a list"),
        ('{"peft_type": "LORA", "lora_alpha": NaN}', "NaN is not a value JSON knows"),
        ("[" * 100_000, "cannot read adapter_config.json"),
        ('{"peft_type": "LORA", "revision": "\\ud800"}', "surrogates not allowed"),
        ('{"peft_type": "LORA", "r": 1%s}' % ("0" * 400), "the number 10.* is out of range"),
        ('{"peft_type": "LORA", "lora_alpha": 1e999}', "the number 1e999 is out of range"),
        ('{"peft_type": "LORA", "lora_alpha": 1e308}', "the number 1e308 is out of range"),
        (" " * (50 << 20), "adapter_config.json has 52,428,800 bytes"),
        ('{"peft_type": "LORAX"}', "peft_type is 'LORAX': PEFT has no such type; it has LORA"),
        ('{"r": 4}', "peft_type is None"),
        ("\xff", "cannot read adapter_config.json"),
    ],
    ids=[
        "empty",
        "truncated",
        "a list",
        "NaN",
        "deep",
        "half a surrogate pair",
        "a number of 400 digits",
        "infinite",
        "too large for its square",
        "50 MB",
        "unknown type",
        "no type",
        "not UTF-8",
    ],
)
def test_a_broken_config_is_refused_with_its_reason(text, message, naval):
    (naval / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadConfig, match=message):
        check(naval)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0: it must be a number of at least 1"),
        ({"r": "8"}, "r is '8'"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": -16}, "lora_alpha is -16: it must be a number of at least 0"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern gives 'q_proj' the value -1"),
        ({"alpha_pattern": {"(.+)+!": 4}}, "matching it could take for ever"),
        ({"rank_pattern": {".*.*.*.*.*!": 4}}, "matching it could take for ever"),
    ],
)
def test_impossible_numbers_in_a_config_are_named(changes, message, naval):
    with pytest.raises(BadConfig, match=message):
        check(tiny.edit_config(naval, **changes))


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("peft_type", ["LORA"], "a text, such as LORA"),
        ("base_model_name_or_path", 5, "a text"),
        ("target_modules", {"q_proj": 1}, "a text or a list of texts"),
        ("target_modules", ["q_proj", 1], "a text or a list of texts"),
        ("target_parameters", "gate_up_proj", "a list of texts"),
        ("modules_to_save", 5, "a list of texts"),
        ("rank_pattern", [4], "an object: a pattern and a number each"),
        ("alpha_pattern", 5, "an object: a pattern and a number each"),
        ("layer_replication", [[0, "4"]], "a list of pairs of numbers"),
        ("trainable_token_indices", {"embed": ["a"]}, "a list of row numbers, or an object"),
    ],
)
def test_a_setting_of_another_type_than_pefts_is_named(setting, value, expected, naval):
    config = json.loads((naval / "adapter_config.json").read_text())
    (naval / "adapter_config.json").write_text(json.dumps(config | {setting: value}))
    with pytest.raises(BadConfig) as caught:
        check(naval)
    assert caught.value.what == f"naval: {setting} is {str(value)!r}"
    assert caught.value.why.startswith(f"it must be {expected}")
    assert "correct adapter_config.json" in caught.value.fix


def test_a_missing_path_a_file_and_an_empty_folder_are_refused_with_their_reasons(tmp_path):
    with pytest.raises(BadAdapter, match=r"no adapter at .*nowhere: the path does not exist"):
        Adapter.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        BadAdapter, match="is a file: an adapter is a folder that holds adapter_config.json"
    ):
        Adapter.open(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadConfig, match=r"has no adapter_config.json: it is not a saved adapter"):
        Adapter.open(tmp_path / "empty")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin.index.json", "model.safetensors.index.json"]
)
def test_the_folder_of_a_base_is_told_from_an_adapter(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(BadConfig, match="it holds a base model, not an adapter") as caught:
        Adapter.open(tmp_path)
    assert caught.value.fix.startswith(f"adaptkit base add {tmp_path} --name NAME")


def test_a_folder_of_adapters_names_one_and_how_to_add_all(naval):
    with pytest.raises(BadConfig, match="its folder naval has one") as caught:
        Adapter.open(naval.parent)
    assert f"adaptkit add {naval.parent} --recursive --name-from '{{dir}}'" in caught.value.fix


# ---------------------------------------------------------------- weights


def test_views_are_the_tensors_themselves_and_cannot_be_written(naval):
    with Adapter.open(naval, views=True) as viewed, Adapter.open(naval) as copied:
        for key in copied.header:
            mine, own = viewed.read(key), copied.read(key)
            assert (mine == own).all()
            assert mine.dtype == own.dtype
            assert own.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                mine[...] = 0


def test_missing_weights_and_git_lfs_pointers_say_what_to_do(naval):
    path = naval / "adapter_model.safetensors"
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
    )
    with pytest.raises(BadWeights, match="is a Git LFS pointer") as caught:
        check(naval)
    assert "run git lfs pull" in str(caught.value)
    path.unlink()
    with pytest.raises(BadWeights, match="naval has no weights"):
        check(naval)
    (naval / "adapter_model-00001-of-00002.safetensors").touch()
    with pytest.raises(BadWeights, match="naval has its weights in several files") as caught:
        check(naval)
    assert "PEFT loads one, adapter_model.safetensors" in str(caught.value)


def test_truncated_weights_are_refused(naval):
    path = naval / "adapter_model.safetensors"
    os.truncate(path, path.stat().st_size - 7)
    with pytest.raises(BadWeights, match="truncated"):
        check(naval)


def test_duplicate_keys_and_huge_headers_are_refused(naval):
    path = naval / "adapter_model.safetensors"
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(BadWeights, match="the key 'a' occurs twice"):
        check(naval)
    path.write_bytes(struct.pack("<Q", 26 << 20) + b"{" + b" " * (26 << 20))
    with pytest.raises(BadWeights, match="the header of .* has 27,262,976 bytes"):
        check(naval)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_found(value, naval):
    tensors = weights(naval)
    key = min(tensors)
    tensors[key] = tensors[key].copy()
    tensors[key][0, 0] = value
    rewrite(naval, tensors)
    with pytest.raises(BadWeights, match=f"the tensor '{key}' holds NaN or Inf"):
        check(naval)


def test_what_an_ungathered_save_leaves_is_recognised(naval):
    tensors = weights(naval)
    key = next(k for k in tensors if "lora_B" in k)
    for broken in (
        np.zeros((0,), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((128,), np.float32),
    ):
        rewrite(naval, tensors | {key: broken})
        with pytest.raises(BadWeights, match="ZeRO-3 or FSDP"):
            check(naval)


def test_factors_that_do_not_fit_or_lack_their_partner_are_named(naval):
    tensors = weights(naval)
    key = next(k for k in tensors if k.endswith("q_proj.lora_B.weight"))
    rewrite(naval, tensors | {key: np.zeros((32, 5), np.float32)})
    with pytest.raises(
        BadWeights,
        match=r"A and B of 'model.layers.0.self_attn.q_proj' do not fit: A is \[4, 32\] and B is \[32, 5\]",
    ):
        check(naval)
    rewrite(naval, {k: v for k, v in tensors.items() if k != key})
    with pytest.raises(BadWeights, match=r"'.*q_proj' has no lora_B"):
        check(naval)
    rewrite(naval, {"base_model.model.head.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(BadWeights, match="changes no module"):
        check(naval)


# ---------------------------------------------------------------- pickles


class Malice:
    """Pickles into a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_is_refused_unless_asked_for_and_then_only_tensors_come_out(naval):
    import torch

    tensors = weights(naval)
    (naval / "adapter_model.safetensors").unlink()
    torch.save(
        {k: torch.from_numpy(v).to(torch.bfloat16) for k, v in tensors.items()},
        naval / "adapter_model.bin",
    )
    with pytest.raises(BadWeights, match=r"holds a pickle, adapter_model.bin") as caught:
        check(naval)
    assert "--allow-pickle" in str(caught.value)
    with Adapter.open(naval, allow_pickle=True) as adapter:
        key = min(tensors)
        assert adapter.header[key].dtype == "BF16"
        assert np.array_equal(adapter.read(key), tensors[key].astype(ml_dtypes.bfloat16))


def test_a_malicious_pickle_runs_nothing(naval, tmp_path):
    marker = tmp_path / "was-here"
    (naval / "adapter_model.safetensors").unlink()
    (naval / "adapter_model.bin").write_bytes(pickle.dumps(Malice(f"touch {marker}")))
    with pytest.raises(BadWeights, match="cannot read adapter_model.bin safely"):
        check(naval, allow_pickle=True)
    assert not marker.exists()


# ---------------------------------------------------------------- what the wild writes


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("base_model.model.q.lora_A.default.weight", "base_model.model.q.lora_A.weight"),
        ("base_model.model.q.lora_B.naval-2.bias", "base_model.model.q.lora_B.bias"),
        ("base_model.model._orig_mod.q.lora_A.weight", "base_model.model.q.lora_A.weight"),
        (
            "_fsdp_wrapped_module.base_model.model.q.lora_A.weight",
            "base_model.model.q.lora_A.weight",
        ),
        ("module.base_model.model.q.lora_A.weight", "base_model.model.q.lora_A.weight"),
        ("base_model.model.e.lora_embedding_A.default", "base_model.model.e.lora_embedding_A"),
        (
            "base_model.model.q.lora_magnitude_vector.default.weight",
            "base_model.model.q.lora_magnitude_vector",
        ),
        (
            "base_model.model.score.modules_to_save.default.dense.weight",
            "base_model.model.score.dense.weight",
        ),
        ("base_model.model.q.ia3_l.default", "base_model.model.q.ia3_l"),
        ("base_model.model.q.hada_w1_a.naval", "base_model.model.q.hada_w1_a"),
        ("base_model.model.q.lokr_w2.default", "base_model.model.q.lokr_w2"),
        ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_A.weight"),
        ("base_model.model.module.classifier.weight", "base_model.model.module.classifier.weight"),
    ],
)
def test_stray_names_and_wrapper_prefixes_are_taken_off(raw, key):
    assert normalise(raw) == key


def test_strays_are_read_listed_and_two_adapters_in_one_file_refused(naval):
    tensors = weights(naval)
    rewrite(naval, {k.replace(".weight", ".default.weight"): v for k, v in tensors.items()})
    with Adapter.open(naval) as adapter:
        assert set(adapter.header) == set(tensors)
        assert len(adapter.strays) == len(tensors)
        key = min(tensors)
        assert np.array_equal(adapter.read(key), tensors[key])
    rewrite(
        naval, tensors | {k.replace(".weight", ".second.weight"): v for k, v in tensors.items()}
    )
    with pytest.raises(BadWeights, match="two tensors mean"):
        Adapter.open(naval)


def test_mixed_dtypes_and_a_full_copy_of_the_embedding_are_read(naval):
    tensors = weights(naval)
    mixed = {
        k: v.astype(ml_dtypes.bfloat16 if "lora_A" in k else np.float16) for k, v in tensors.items()
    }
    mixed["base_model.model.model.embed_tokens.base_layer.weight"] = np.ones((64, 32), np.float32)
    rewrite(naval, mixed)
    check(naval)
    with Adapter.open(naval) as adapter:
        method = PLUGINS.method_for(adapter)
        assert method.extras(adapter) == ("base_model.model.model.embed_tokens.base_layer.weight",)
        assert {info.dtype for info in adapter.header.values()} == {"BF16", "F16", "F32"}


def test_only_what_belongs_to_an_artifact_comes_in(naval):
    for name in (
        "tokenizer.json",
        "chat_template.jinja",
        "optimizer.pt",
        "training_args.bin",
        "notes.txt",
        "README.md",
    ):
        (naval / name).write_text("x")
    (naval / "checkpoint-1").mkdir()
    (naval / "checkpoint-1" / "optimizer.pt").write_text("x")
    kept, skipped = artifact_paths(naval, ["*.txt", "*.bin", "*.pt"])
    assert kept == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "notes.txt",
        "tokenizer.json",
    ]
    assert skipped == ["checkpoint-1/optimizer.pt", "optimizer.pt", "training_args.bin"]


# ---------------------------------------------------------------- other methods


def test_other_peft_types_are_carried_by_the_generic_method(tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(tiny.llama(), config).save_pretrained(tmp_path / "prompt")
    assert check(tmp_path / "prompt").name == "generic"


def test_the_generic_method_knows_every_type_of_this_peft():
    from peft import PeftType

    from adaptkit_plugins.methods.generic import PEFT_TYPES

    assert {kind.value for kind in PeftType} == PEFT_TYPES


def test_dora_is_carried_by_the_lora_method_with_its_rank(tmp_path):
    folder = tiny.make_adapter(
        tiny.llama(), tmp_path / "dora", 1, r=3, use_dora=True, target_modules=["q_proj"]
    )
    method = check(folder)
    with Adapter.open(folder) as adapter:
        assert (method.name, method.rank(adapter)) == ("lora", 3)
    assert json.loads((folder / "adapter_config.json").read_text())["use_dora"] is True


def test_a_file_that_is_replaced_in_its_place_is_read_anew(tmp_path, tiny_llama):
    folder = tiny.save_adapter(tiny_llama, tmp_path / "a", seed=1, r=2, target_modules=["q_proj"])
    file = folder / "adapter_model.safetensors"
    with Adapter.open(folder) as adapter:
        before = set(adapter.header)
    stat, data = file.stat(), file.read_bytes()
    with file.open("r+b") as other:  # the same inode, size and time of writing
        other.write(data.replace(b"q_proj", b"o_proj"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with Adapter.open(folder) as adapter:
        assert set(adapter.header) == {key.replace("q_proj", "o_proj") for key in before}


def test_weights_that_are_a_pipe_or_a_device_are_refused_and_not_waited_for(naval):
    weights = naval / "adapter_model.safetensors"
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        weights.unlink()
        make(weights)
        with pytest.raises(BadAdapter, match="adapter_model.safetensors"):
            Adapter.open(naval)
