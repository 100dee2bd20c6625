"""adaptkit.bases: what a base is made of, and whether two bases are one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3

from adaptkit.bases.compare import admits, compare
from adaptkit.bases.files import hashing
from adaptkit.bases.files.checkpoint import weight_files
from adaptkit.bases.identity import base_shapes, measure, tensor_hashes
from adaptkit.errors import BadBase, NotFound
from adaptkit.io.safetensors.reader import dtype_name
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.types import Level, Quantisation, Sameness

TENSORS = {
    "model.embed_tokens.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
    "model.layers.0.q_proj.weight": np.ones((3, 3), np.float16),
    "model.layers.0.q_proj.bias": np.array([1, 2, 3], np.float32),
    "model.norm.weight": np.zeros(3, np.float32),
    "lm_head.weight": np.full((4, 3), 0.5, np.float32),
}


def base(folder, tensors=None, shards=1, config=None, *, settle=True):
    """A base model's folder, written by the safetensors library, in one file or several with an index."""
    tensors = TENSORS if tensors is None else tensors
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"tie_word_embeddings": False} if config is None else config)
    )
    if shards == 1:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    else:
        names = {
            key: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
            for i, key in enumerate(tensors)
        }
        for name in sorted(set(names.values())):
            safetensors.numpy.save_file(
                {k: tensors[k] for k in tensors if names[k] == name}, folder / name
            )
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": names})
        )
    if settle:
        for path in folder.iterdir():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def value(identity, kind):
    level = identity.level(kind)
    return level and level.value


def values(identity):
    return {level.kind: level.value for level in identity.levels}


def counted(folder, **more):
    """The levels, and how many bytes were really read."""
    read = []
    return values(measure(folder, progress=read.append, **more)), sum(read)


# ---------------------------------------------------------------- levels


def test_the_values_never_change(tmp_path):
    """Golden: these are stored in registries; a change here makes every base in the world another one."""
    plan = {name: (dtype_name(array.dtype), array.shape) for name, array in TENSORS.items()}
    with TensorWriter(tmp_path / "model.safetensors", plan) as writer:
        for name, array in TENSORS.items():
            writer.write(name, array)
        writer.commit()
    assert values(measure(tmp_path)) == {
        "as1": "as1:b4807554e569f517f16c37ce4f09eaf56ed86e97a0afa96b434d3b31fd4e4d53",
        "fs1": "fs1:c2acd7a75add003fe22bfa7e853eadf1e9fffbe0af39bdfab087dbe702bbf788",
        "tm1": "tm1:3689ddee5101f94617c891b6c7c141810eaed59e6ce8128b7df332eb8e79dc5b",
    }


def test_the_levels_are_what_their_definition_says(tmp_path):
    folder = base(tmp_path / "b")
    found = values(measure(folder))
    names = sorted(TENSORS)
    dtypes = {"float32": "F32", "float16": "F16"}
    rows = [[n, dtypes[TENSORS[n].dtype.name], list(TENSORS[n].shape)] for n in names]

    def spelt(row):
        return json.dumps(row, separators=(",", ":")).encode()

    def node(left, right):
        return blake3(b"\x01" + left + right).digest()

    a, b, c, d, e = (
        blake3(b"\0" + spelt([*r, blake3(TENSORS[r[0]].tobytes()).hexdigest()])).digest()
        for r in rows
    )
    whole = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found == {
        "as1": "as1:" + hashlib.sha256(spelt(rows)).hexdigest(),
        "fs1": "fs1:" + hashlib.sha256(spelt([whole])).hexdigest(),
        "tm1": "tm1:" + node(node(node(a, b), node(c, d)), e).hex(),
    }
    assert all(level.measured for level in measure(folder).levels)
    assert measure(folder).status == "measured"


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_resharding_changes_the_files_and_nothing_else(tmp_path, shards):
    one, many = measure(base(tmp_path / "one")), measure(base(tmp_path / "many", shards=shards))
    assert value(one, "tm1") == value(many, "tm1")
    assert value(one, "as1") == value(many, "as1")
    assert value(one, "fs1") != value(many, "fs1")
    assert compare(one, many).sameness is Sameness.SAME


def test_one_flipped_byte_changes_the_bytes_and_not_the_architecture(tmp_path):
    before = measure(base(tmp_path / "a"))
    folder = base(tmp_path / "b")
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(raw)
    after = measure(folder)
    assert value(before, "as1") == value(after, "as1")
    assert value(before, "fs1") != value(after, "fs1")
    assert value(before, "tm1") != value(after, "tm1")
    leaves = tensor_hashes(tmp_path / "a"), tensor_hashes(folder)
    verdict = compare(before, after, tensors=leaves)
    assert (verdict.sameness, len(verdict.tensors)) == (Sameness.DIFFERENT, 1)
    assert verdict.tensors[0] in verdict.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"model.norm.weight": np.zeros((3, 1), np.float32)},
        lambda t: t | {"model.norm.weight": np.zeros(3, np.int32)},  # the same bytes
        lambda t: {k.replace("norm", "ln_f"): v for k, v in t.items()},
        lambda t: {k: v for k, v in t.items() if "norm" not in k},
    ],
    ids=["shape", "dtype", "name", "fewer"],
)
def test_name_dtype_and_shape_are_part_of_every_level(tmp_path, change):
    before, after = (
        values(measure(base(tmp_path / "a"))),
        values(measure(base(tmp_path / "b", change(TENSORS)))),
    )
    assert not set(before.values()) & set(after.values())


def test_only_the_levels_asked_for_are_measured_and_headers_cost_no_bytes(tmp_path):
    folder = base(tmp_path / "b", shards=2)
    assert counted(folder, levels=("as1",)) == ({"as1": values(measure(folder))["as1"]}, 0)
    found, read = counted(folder, levels=("tm1",))
    assert list(found) == ["tm1"]
    assert read == sum(array.nbytes for array in TENSORS.values())
    with pytest.raises(NotFound, match="no identity level called 'tm2'"):
        measure(folder, levels=("tm2",))


def test_a_large_tensor_hashes_the_same_in_slices_and_threads(tmp_path):
    large = {"w": np.arange(20_000_000, dtype=np.int32)}  # 80 MB: more than a slice
    found = value(measure(base(tmp_path / "b", large), levels=("tm1",)), "tm1")
    row = json.dumps(
        ["w", "I32", [20_000_000], blake3(large["w"].tobytes()).hexdigest()], separators=(",", ":")
    )
    assert found == "tm1:" + blake3(b"\0" + row.encode()).hexdigest()


UNEVEN = {  # no tensor begins or ends where a block does
    "a": np.arange(1_300_001, dtype=np.int32),
    "b": np.zeros((0, 4), np.float32),
    "c": np.arange(5, dtype=np.uint8),
    "d": np.arange(2_000_003, dtype=np.int16),
    "e": np.array(2.5, np.float32),
    "f": np.arange(9_000_001, dtype=np.uint8),
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("cores", [1, 8])
def test_files_and_tensors_are_hashed_in_one_read_of_the_bytes(
    tmp_path, monkeypatch, shards, cores
):
    monkeypatch.setattr(hashing, "cores", lambda: cores)
    folder = base(tmp_path / "b", UNEVEN, shards=shards)
    found, read = counted(folder)
    files = sorted(folder.glob("*.safetensors"))
    assert read == sum(file.stat().st_size for file in files)
    shas = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    spelt = json.dumps(shas, separators=(",", ":")).encode()
    assert found["fs1"] == "fs1:" + hashlib.sha256(spelt).hexdigest()
    kinds = {"int32": "I32", "float32": "F32", "uint8": "U8", "int16": "I16"}
    for name, leaf in tensor_hashes(folder).items():
        tensor = UNEVEN[name]
        row = [name, kinds[tensor.dtype.name], list(tensor.shape)]
        row.append(blake3(tensor.tobytes()).hexdigest())
        spelt = json.dumps(row, separators=(",", ":")).encode()
        assert leaf == blake3(b"\0" + spelt).hexdigest()
    assert found["tm1"] == counted(folder, levels=("tm1",))[0]["tm1"]


def test_what_one_level_needed_is_not_hashed_again_for_the_others(tmp_path):
    folder, cache = base(tmp_path / "b", UNEVEN), tmp_path / "cache"
    size = (folder / "model.safetensors").stat().st_size
    tensors = sum(tensor.nbytes for tensor in UNEVEN.values())
    assert counted(folder, levels=("tm1",), cache=cache)[1] == tensors
    assert counted(folder, cache=cache) == (values(measure(folder)), size)
    assert counted(folder, cache=cache) == (values(measure(folder)), 0)
    again = tmp_path / "again"
    assert counted(folder, levels=("fs1",), cache=again)[1] == size
    assert counted(folder, cache=again) == (values(measure(folder)), tensors)


def test_a_pickle_set_has_files_only(tmp_path):
    folder = base(tmp_path / "b")
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    (found,) = measure(folder).levels
    whole = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    assert found == Level(
        "fs1:" + hashlib.sha256(json.dumps([whole]).encode()).hexdigest(), measured=True
    )
    for call in (tensor_hashes, base_shapes):
        with pytest.raises(BadBase, match="convert the model to safetensors"):
            call(folder)


def test_a_pickle_set_with_an_index_counts_all_its_files(tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    shas = []
    for n in (1, 2):
        (folder / f"pytorch_model-{n}.bin").write_bytes(b"x" * n)
        shas.append(hashlib.sha256(b"x" * n).hexdigest())
    rows = json.dumps(sorted(shas), separators=(",", ":"))
    assert values(measure(folder)) == {"fs1": "fs1:" + hashlib.sha256(rows.encode()).hexdigest()}


def test_shapes_come_from_headers(tmp_path):
    assert base_shapes(base(tmp_path / "b", shards=2)) == {
        name: array.shape for name, array in TENSORS.items()
    }


def test_weight_files_are_those_the_index_names(tmp_path):
    folder = base(tmp_path / "b", shards=2)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "consolidated.safetensors")
    assert [path.name for path in weight_files(folder)] == [
        f"model-0000{n}-of-00002.safetensors" for n in (1, 2)
    ]


def test_a_real_model_saved_by_transformers_in_two_ways_is_one_base(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'adaptkit-peft[torch]'")
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="10KB")
    assert len(weight_files(tmp_path / "many")) > 1
    one, many = measure(tmp_path / "one"), measure(tmp_path / "many")
    assert compare(one, many).sameness is Sameness.SAME
    assert base_shapes(tmp_path / "one") == {
        k: tuple(v.shape) for k, v in model.state_dict().items()
    }


# ---------------------------------------------------------------- tied tensors

EMBEDDING = TENSORS["model.embed_tokens.weight"]
TIED = {
    "llama": ({"model.embed_tokens.weight": EMBEDDING}, ["lm_head.weight"]),
    "multimodal": ({"model.language_model.embed_tokens.weight": EMBEDDING}, ["lm_head.weight"]),
    "gpt2": ({"transformer.wte.weight": EMBEDDING}, ["lm_head.weight"]),
    "bloom": ({"transformer.word_embeddings.weight": EMBEDDING}, ["lm_head.weight"]),
    "neox": ({"gpt_neox.embed_in.weight": EMBEDDING}, ["embed_out.weight"]),
    "bert": (
        {
            "bert.embeddings.word_embeddings.weight": EMBEDDING,
            "cls.predictions.bias": np.ones(4, np.float32),
        },
        ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"],
    ),
    "whisper": ({"model.decoder.embed_tokens.weight": EMBEDDING}, ["proj_out.weight"]),
    "t5": (
        {"shared.weight": EMBEDDING},
        ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"],
    ),
    "bart": (
        {"model.shared.weight": EMBEDDING},
        [
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
            "lm_head.weight",
        ],
    ),
    "no shared": ({"encoder.embed_tokens.weight": EMBEDDING}, ["decoder.embed_tokens.weight"]),
}


def with_ties(kept, tied, change=0):
    bias = next((array for array in kept.values() if array.ndim == 1), None)
    return kept | {
        name: (bias if name.endswith("bias") else EMBEDDING) + np.float32(change) for name in tied
    }


@pytest.mark.parametrize("case", TIED)
def test_a_tied_copy_changes_neither_as1_nor_tm1(tmp_path, case):
    kept, tied = TIED[case]
    kept = kept | {"other": np.ones(2, np.float32)}
    config = {"tie_word_embeddings": True}
    without = measure(base(tmp_path / "without", kept, config=config))
    both = measure(base(tmp_path / "both", with_ties(kept, tied), config=config))
    assert (value(both, "as1"), value(both, "tm1")) == (
        value(without, "as1"),
        value(without, "tm1"),
    )
    assert value(both, "fs1") != value(without, "fs1")
    assert sorted(tensor_hashes(tmp_path / "both")) == sorted(kept)
    assert value(measure(tmp_path / "both", levels=("as1",)), "as1") == value(both, "as1")


@pytest.mark.parametrize("case", TIED)
def test_declared_tied_but_of_other_bytes_counts(tmp_path, case):
    kept, tied = TIED[case]
    config = {"tie_word_embeddings": True}
    without = measure(base(tmp_path / "without", kept, config=config))
    both = measure(base(tmp_path / "both", with_ties(kept, tied, change=1), config=config))
    assert value(both, "as1") != value(without, "as1")
    assert value(both, "tm1") != value(without, "tm1")


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ({"tie_word_embeddings": False}, True),
        ({"text_config": {"tie_word_embeddings": False}}, True),
        ({"text_config": {"tie_word_embeddings": True}}, False),
        ({"model_type": "gemma"}, False),
        ({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, False),
    ],
)
def test_only_what_the_config_declares_tied_is_left_out(tmp_path, config, counts):
    """transformers 4 left `tie_word_embeddings` out of config.json where it was true, as Gemma's is."""
    kept, tied = TIED["llama"]
    names = tensor_hashes(base(tmp_path / "b", with_ties(kept, tied), config=config))
    assert ("lm_head.weight" in names) is counts


def test_t5_shares_its_embeddings_even_with_a_head_of_its_own(tmp_path):
    kept, tied = TIED["t5"]
    config = {"tie_word_embeddings": False, "is_encoder_decoder": True}
    names = tensor_hashes(base(tmp_path / "b", with_ties(kept, tied), config=config))
    assert sorted(names) == ["lm_head.weight", "shared.weight"]


def test_a_tied_model_of_transformers_has_one_identity_with_and_without_its_head(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'adaptkit-peft[torch]'")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64)
    )
    model.save_pretrained(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "both")
    tensors = safetensors.numpy.load_file(tmp_path / "one" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    safetensors.numpy.save_file(tensors, tmp_path / "both" / "model.safetensors")
    assert compare(measure(tmp_path / "one"), measure(tmp_path / "both")).sameness is Sameness.SAME


# ---------------------------------------------------------------- the cache


def test_what_was_hashed_is_not_read_again_until_the_file_is_touched(tmp_path):
    folder, cache = base(tmp_path / "b", shards=2), tmp_path / "cache"
    total = sum(path.stat().st_size for path in weight_files(folder))
    first = counted(folder, cache=cache)
    assert first == (counted(folder)[0], total)
    assert counted(folder, cache=cache) == (first[0], 0)
    read = []
    tensor_hashes(folder, cache, read.append)
    assert read == []
    shard = weight_files(folder)[0]
    os.utime(shard, (1_600_000_000, 1_600_000_000))
    again, count = counted(folder, cache=cache)
    assert again == first[0]
    assert count == shard.stat().st_size
    assert counted(folder, cache=cache)[1] == 0


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    folder, cache = base(tmp_path / "b"), tmp_path / "cache"
    before = counted(folder, cache=cache)[0]
    other = base(tmp_path / "other", TENSORS | {"lm_head.weight": np.zeros((4, 3), np.float32)})
    (other / "model.safetensors").replace(
        folder / "model.safetensors"
    )  # same size, same mtime, another inode
    after, count = counted(folder, cache=cache)
    assert count > 0
    assert after["tm1"] != before["tm1"]


def test_a_file_that_may_still_change_unseen_is_not_remembered(tmp_path):
    """File times move in steps of up to 10 ms: a second change within one step would keep the time."""
    folder, cache = base(tmp_path / "b"), tmp_path / "cache"
    soon = time.time_ns() + 3600 * 10**9  # the clock has not passed it, however slow this test runs
    os.utime(folder / "model.safetensors", ns=(soon, soon))
    assert counted(folder, cache=cache) == counted(folder, cache=cache)
    assert not cache.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"key": 1}',
        '{"key": KEY, "sha256": 3, "tensors": {"lm_head.weight": 7}}',
        '{"key": KEY}',
        '{"key": KEY, "sha256": null, "tensors": []}',
    ],
)
def test_a_broken_cache_is_ignored(tmp_path, text):
    folder, cache = base(tmp_path / "b"), tmp_path / "cache"
    first = counted(folder, cache=cache)
    (note,) = cache.iterdir()
    note.write_text(text.replace("KEY", json.dumps(json.loads(note.read_text())["key"])))
    assert counted(folder, cache=cache) == first


def test_a_cache_that_cannot_be_written_harms_nothing(tmp_path):
    (tmp_path / "cache").write_text("a file")
    folder = base(tmp_path / "b")
    assert counted(folder, cache=tmp_path / "cache") == counted(folder)


def test_two_levels_share_what_they_hash(tmp_path):
    folder, cache = base(tmp_path / "b"), tmp_path / "cache"
    tensors = sum(a.nbytes for a in TENSORS.values())
    assert counted(folder, levels=("tm1",), cache=cache)[1] == tensors
    assert counted(folder, cache=cache)[1] == (folder / "model.safetensors").stat().st_size


# ---------------------------------------------------------------- names and quantisation


def test_the_name_is_a_hub_id_or_the_folders(tmp_path):
    def name(folder, declared):
        return measure(base(folder, config={"_name_or_path": declared}), levels=("as1",)).name

    assert name(tmp_path / "a", "meta-llama/Llama-3.2-1B") == "meta-llama/Llama-3.2-1B"
    for number, declared in enumerate(
        ["/home/me/base", "./out/base", "../x/y", "C:\\x", "~/x", "", None, 3, "a/b/c", "gpt2"]
    ):
        assert name(tmp_path / f"ship-{number}", declared) == f"ship-{number}"


def test_the_name_of_a_folder_in_the_hub_cache_is_the_repository(tmp_path):
    folder = base(tmp_path / "models--fleet--ship-base" / "snapshots" / ("0" * 40))
    assert measure(folder, levels=("as1",)).name == "fleet/ship-base"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            ("bitsandbytes", 4, "nf4"),
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bitsandbytes", 8, "")),
        ({"quant_method": "gptq", "bits": 4}, ("gptq", 4, "")),
        ({"quant_method": "awq", "w_bit": 4}, ("awq", 4, "")),
        ({"quant_method": "fp8", "fmt": "e4m3"}, ("fp8", 8, "e4m3")),
        ({"quant_method": "mxfp4"}, ("mxfp4", 4, "")),
        ({}, ("unknown", 0, "")),
    ],
)
def test_files_that_are_quantised_say_so(tmp_path, declared, expected):
    assert measure(
        base(tmp_path / "b", config={"quantization_config": declared})
    ).quantised == Quantisation(*expected)
    assert measure(base(tmp_path / "c")).quantised is None


# ---------------------------------------------------------------- bad input


def broken_bases(folder):
    def gone():
        return folder / "gone"

    def a_file():
        folder.write_text("x")
        return folder

    def empty():
        folder.mkdir()
        return folder

    def edited(**files):
        base(folder, shards=2)
        for name, content in files.items():
            path = folder / {"index": "model.safetensors.index.json", "config": "config.json"}.get(
                name, name
            )
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_text(content)
        return folder

    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    right = {key: (first, second)[i % 2] for i, key in enumerate(TENSORS)}

    def mapped(**change):
        return json.dumps({"weight_map": right | change})

    def copied():
        edited()
        shutil.copy(folder / first, folder / second)
        return folder

    return {
        "gone": (gone, "the path does not exist"),
        "a file": (a_file, "is a file: a base model is a folder"),
        "no weights": (empty, "holds no base model: neither model.safetensors.index.json"),
        "missing shard": (
            lambda: edited(**{first: None}),
            f"is incomplete: .* names {first}, which is missing",
        ),
        "index empty": (lambda: edited(index=""), "cannot read .*index.json"),
        "index list": (lambda: edited(index="[]"), "holds a list"),
        "index without map": (lambda: edited(index="{}"), "weight_map is not a table"),
        "index map empty": (
            lambda: edited(index='{"weight_map": {}}'),
            "weight_map is not a table",
        ),
        "index map of numbers": (
            lambda: edited(index='{"weight_map": {"a": 1}}'),
            "weight_map is not a table",
        ),
        "index leads out": (
            lambda: edited(index=mapped(a="../x.safetensors")),
            r"names the file '\.\./x\.safetensors'",
        ),
        "index promises": (
            lambda: edited(index=mapped(more=first)),
            f"puts 'more' into {first}, where it is not",
        ),
        "index swaps": (
            lambda: edited(index=mapped(**{"lm_head.weight": second})),
            "puts 'lm_head.weight' into",
        ),
        "twice": (copied, "is stored both in"),
        "pointer": (
            lambda: edited(**{first: "version https://git-lfs.github.com/spec/v1\n"}),
            "Git LFS pointer",
        ),
        "truncated": (lambda: edited(**{first: "xx"}), "is truncated"),
        "config broken": (lambda: edited(config="{"), "cannot read .*config.json"),
        "config list": (lambda: edited(config="[]"), "config.json holds a list"),
    }


@pytest.mark.parametrize("case", broken_bases(None))
def test_a_broken_base_is_a_sentence(tmp_path, case):
    make, why = broken_bases(tmp_path / "ship")[case]
    folder = make()
    for call in (measure, tensor_hashes, base_shapes):
        with pytest.raises(BadBase, match=why) as caught:
            call(folder)
        assert "ship" in str(caught.value)


def test_a_base_without_tensors_is_refused(tmp_path):
    with pytest.raises(BadBase, match="its weights hold no tensor"):
        measure(base(tmp_path / "b", {}))


def test_a_base_that_changes_while_it_is_read_is_refused(tmp_path):
    folder = base(tmp_path / "b")

    def write(_count):
        os.utime(folder / "model.safetensors")

    with pytest.raises(BadBase, match="changed while it was read"):
        measure(folder, progress=write, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_importing_loads_neither_numpy_nor_blake3():
    script = "import sys, adaptkit.bases.compare, adaptkit.bases.files.checkpoint; print(sorted({'numpy', 'blake3', 'torch'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


# ---------------------------------------------------------------- comparing


def test_an_adapter_of_another_base_of_the_same_shape_is_told_apart(tmp_path):
    one = base(tmp_path / "ship")
    other = base(tmp_path / "tug", TENSORS | {"model.norm.weight": np.ones(3, np.float32)})
    a, b = measure(one), measure(other)
    verdict = compare(a, b, tensors=(tensor_hashes(one), tensor_hashes(other)))
    assert verdict.tensors == ("model.norm.weight",)
    ruling = admits(verdict, a, b, "merge")
    assert SimpleNamespace(
        allowed=False, reason="'ship' and 'tug' hold different tensors (tm1): model.norm.weight"
    ) == (SimpleNamespace(allowed=ruling.allowed, reason=ruling.reason))
