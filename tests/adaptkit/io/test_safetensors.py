"""adaptkit.io.safetensors.reader: strict where the library is lax, and its own bytes when it writes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptkit.errors import BadWeights, NotFound, StoreError
from adaptkit.io.safetensors.reader import (
    DTYPES,
    TensorFile,
    dtype_name,
    numpy_dtype,
    parse_header,
    read_header,
    same_bytes,
    size_of,
)
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.types import TensorInfo

READABLE = [name for name, (_, known) in DTYPES.items() if known]
LIBRARY = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
]


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Bits of every kind, so that a byte in the wrong place shows."""
    kind = numpy_dtype(dtype)
    rng = np.random.default_rng(len(dtype) + sum(shape))
    if dtype == "BOOL":
        return rng.integers(0, 2, size=shape).astype(bool)
    raw = rng.integers(0, 256, size=(int(np.prod(shape)) * kind.itemsize,), dtype=np.uint8)
    return raw.view(kind).reshape(shape)


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def save(path, arrays, metadata=None, order=None):
    plan = {key: (dtype_name(array.dtype), array.shape) for key, array in arrays.items()}
    with TensorWriter(path, plan, **({} if metadata is None else {"metadata": metadata})) as writer:
        for key in order or arrays:
            writer.write(key, arrays[key])
        writer.commit()
    return path


def safetensors_file(path, table, data=b"", *, length=None):
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


MIXED = {
    "b": values("F32", (3, 2)),
    "a": values("F16", (5,)),
    "z": values("BOOL", (3,)),
    "scalar": values("I64", ()),
    "empty": values("F64", (0, 3)),
    "w": values("BF16", (4, 1)),
    "u": values("U16", (3,)),
}


def test_importing_loads_no_numpy():
    script = "import sys, adaptkit.io.safetensors.reader; print(sorted({'numpy', 'ml_dtypes', 'torch'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


# ---------------------------------------------------------------- writing


def test_the_bytes_are_those_of_the_library(tmp_path):
    safetensors.numpy.save_file(MIXED, tmp_path / "theirs", metadata={"format": "pt"})
    assert save(tmp_path / "ours", MIXED).read_bytes() == (tmp_path / "theirs").read_bytes()


def test_the_bytes_never_change(tmp_path):
    arrays = {"b": np.array([1, 2], np.float32), "a": np.array([[True]])}
    assert save(tmp_path / "golden", arrays).read_bytes() == (
        b"\x90\0\0\0\0\0\0\0"
        b'{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"BOOL","shape":[1,1],"data_offsets":[8,9]}}   '
        b"\0\0\x80?\0\0\0@\x01"
    )


@pytest.mark.parametrize("dtype", LIBRARY)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 4)])
def test_the_library_loads_every_dtype_and_shape_bit_for_bit(tmp_path, dtype, shape):
    array = values(dtype, shape)
    save(tmp_path / "w", {"t": array})
    ((name, loaded),) = safetensors.deserialize((tmp_path / "w").read_bytes())
    assert (name, loaded["dtype"], tuple(loaded["shape"]), bytes(loaded["data"])) == (
        "t",
        dtype,
        shape,
        bits(array),
    )


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F16"])
def test_torch_sees_the_same_numbers(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="pip install 'adaptkit-peft[torch]'")
    from safetensors.torch import load_file

    array = np.array([[0.5, -2.0, 3.0]]).astype(numpy_dtype(dtype))
    loaded = load_file(save(tmp_path / "w", {"t": array}))["t"]
    assert loaded.to(torch.float64).tolist() == [[0.5, -2.0, 3.0]]


@pytest.mark.parametrize("dtype", READABLE)
def test_dtype_names_go_both_ways(dtype):
    assert dtype_name(numpy_dtype(dtype)) == dtype
    assert size_of(dtype, (3,)) == 3 * numpy_dtype(dtype).itemsize


def test_the_order_of_writing_and_the_number_of_threads_change_nothing(tmp_path):
    arrays = {f"layer.{i}": values("F32", (64, i + 1)) for i in range(40)}
    one = save(tmp_path / "one", arrays)
    other = save(tmp_path / "other", arrays, order=sorted(arrays, reverse=True))
    plan = {key: ("F32", arrays[key].shape) for key in reversed(arrays)}
    with TensorWriter(tmp_path / "third", plan) as writer, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: writer.write(key, arrays[key]), arrays))
        writer.commit()
    assert one.read_bytes() == other.read_bytes() == (tmp_path / "third").read_bytes()


def test_arrays_that_are_not_contiguous_are_written_right(tmp_path):
    array = values("F32", (4, 6)).T[::2]
    with TensorFile(save(tmp_path / "w", {"t": array})) as file:
        assert bits(file.read("t")) == bits(array)


def test_every_tensor_is_aligned_to_its_item(tmp_path):
    header = read_header(save(tmp_path / "w", MIXED))
    for placed in header.tensors.values():
        assert placed.begin % numpy_dtype(placed.dtype).itemsize == 0


def test_metadata_comes_back(tmp_path):
    save(tmp_path / "w", MIXED, metadata={"b": "ü\n", "a": "1"})
    assert read_header(tmp_path / "w").metadata == {"a": "1", "b": "ü\n"}
    with safetensors.safe_open(tmp_path / "w", "numpy") as theirs:
        assert theirs.metadata() == {"a": "1", "b": "ü\n"}


def test_an_empty_plan_is_a_file_the_library_opens(tmp_path):
    save(tmp_path / "w", {})
    assert safetensors.numpy.load_file(tmp_path / "w") == {}
    assert read_header(tmp_path / "w").tensors == {}


def test_nothing_shows_before_commit_and_nothing_stays_after_an_error(tmp_path):
    (tmp_path / "w").write_bytes(b"old")

    def interrupted():
        with TensorWriter(tmp_path / "w", {"t": ("F32", (2,))}) as writer:
            writer.write("t", np.ones(2, np.float32))
            assert (tmp_path / "w").read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["w"]
    assert (tmp_path / "w").read_bytes() == b"old"


def test_leaving_without_commit_leaves_nothing(tmp_path):
    with TensorWriter(tmp_path / "w", {"t": ("F32", (2,))}) as writer:
        writer.write("t", np.ones(2, np.float32))
    assert os.listdir(tmp_path) == []


def test_commit_names_what_is_missing(tmp_path):
    with TensorWriter(tmp_path / "w", dict.fromkeys("abc", ("F32", (2,)))) as writer:
        writer.write("a", np.ones(2, np.float32))
        with pytest.raises(StoreError, match="2 tensors are not written: b, c"):
            writer.commit()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones((2, 1), np.float32), r"planned is F32 \[2\], given is F32 \[2, 1\]"),
        (np.ones(2, np.float64), r"given is F64 \[2\]"),
        (np.ones(2, "M8[s]"), "safetensors does not know it"),
    ],
)
def test_a_tensor_that_was_not_planned_so_is_refused(tmp_path, array, why):
    with TensorWriter(tmp_path / "w", {"t": ("F32", (2,))}) as writer:
        with pytest.raises(StoreError, match=why):
            writer.write("t", array)
        with pytest.raises(NotFound, match=r"no planned tensor of .* called 'other'"):
            writer.write("other", array)
        writer.write("t", np.ones(2, np.float32))
        with pytest.raises(StoreError, match="written twice"):
            writer.write("t", np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("../a", "F32"),
        ("", "F32"),
        ("a\0", "F32"),
        ("a", "F128"),
        ("__metadata__", "F32"),
        ("a", "F4"),
    ],
)
def test_a_plan_that_could_not_be_read_back_is_refused(tmp_path, name, dtype):
    with pytest.raises(StoreError, match="cannot write"):
        TensorWriter(tmp_path / "w", {name: (dtype, (1,))})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["F4", "F6_E2M3", "F128"])
def test_a_dtype_numpy_does_not_have_is_named(name):
    with pytest.raises(BadWeights, match=name):
        numpy_dtype(name)


# ---------------------------------------------------------------- reading


def test_reading_gives_back_what_the_library_wrote(tmp_path):
    safetensors.numpy.save_file(MIXED, tmp_path / "w", metadata={"format": "pt"})
    with TensorFile(tmp_path / "w") as file:
        assert sorted(MIXED) == list(file.header.tensors)
        for key, array in MIXED.items():
            got = file.read(key)
            assert (got.dtype, got.shape, bits(got)) == (array.dtype, array.shape, bits(array))
            assert file.info(key) == TensorInfo(dtype_name(array.dtype), array.shape, array.nbytes)
            assert bytes(file.raw(key)) == bits(array)
        with pytest.raises(NotFound, match="called 'lora'"):
            file.read("lora")


def test_a_tensor_outlives_its_file(tmp_path):
    file = TensorFile(save(tmp_path / "w", {"t": np.arange(3, dtype=np.float32)}))
    array, raw = file.read("t"), file.raw("t")
    file.close()
    (tmp_path / "w").unlink()
    array += 1
    assert array.tolist() == [1, 2, 3]
    assert bytes(raw) == np.arange(3, dtype=np.float32).tobytes()


def test_bf16_and_fp8_come_as_ml_dtypes(tmp_path):
    save(tmp_path / "w", {"b": values("BF16", (2,)), "f": values("F8_E4M3", (2,))})
    with TensorFile(tmp_path / "w") as file:
        assert file.read("b").dtype == ml_dtypes.bfloat16
        assert file.read("f").dtype == ml_dtypes.float8_e4m3fn


A = entry()
BROKEN = {
    "no object": ([1], b"", "does not start with '{'"),
    "empty": (b"", b"", "does not start with '{'"),
    "blanks first": (b'  {"a":1}', b"", "does not start with '{'"),
    "no JSON": (b"{]", b"", "broken safetensors header"),
    "not UTF-8": (b'{"\xff":1}', b"", "not UTF-8"),
    "NaN": (b'{"a": NaN}', b"", "NaN is not a value"),
    "deep": (b'{"a":' + b"[" * 100_000, b"", "recursion"),
    "twice": (
        b'{"a":%s,"a":%s}' % ((json.dumps(A).encode(),) * 2),
        bytes(4),
        "'a' occurs twice",
    ),
    "twice inside": (
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
        "'dtype' occurs",
    ),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "table of strings"),
    "metadata list": ({"__metadata__": []}, b"", "table of strings"),
    "entry": ({"a": 3}, b"", "not described"),
    "entry lacks": ({"a": {"dtype": "F32", "shape": [1]}}, b"", "not described"),
    "entry more": ({"a": A | {"x": 1}}, bytes(4), "not described"),
    "dtype": ({"a": entry("F31")}, bytes(4), "unknown dtype 'F31'"),
    "dtype list": ({"a": entry(["F32"])}, bytes(4), "unknown dtype"),
    "shape": ({"a": entry(shape=[-1])}, bytes(4), "impossible shape"),
    "shape true": ({"a": entry(shape=[True])}, bytes(4), "impossible shape"),
    "shape float": ({"a": entry(shape=[1.0])}, bytes(4), "impossible shape"),
    "shape huge": ({"a": entry(shape=[0, 2**62], offsets=[0, 0])}, b"", "impossible shape"),
    "shape deep": ({"a": entry(shape=[1] * 65)}, bytes(4), "impossible shape"),
    "size": ({"a": entry(shape=[2])}, bytes(4), "needs 8 bytes, but 4"),
    "half byte": ({"a": entry("F4", [1], [0, 1])}, bytes(1), "whole byte"),
    "offsets": ({"a": entry(offsets=[4, 0])}, bytes(4), "impossible data_offsets"),
    "negative": ({"a": entry(offsets=[-4, 0])}, bytes(4), "impossible data_offsets"),
    "one offset": ({"a": entry(offsets=[0])}, bytes(4), "impossible data_offsets"),
    "overlap": ({"a": A, "b": A}, bytes(4), "overlap"),
    "gap": ({"a": A, "b": entry(offsets=[5, 9])}, bytes(9), "1 bytes before the tensor 'b'"),
    "gap first": ({"a": entry(offsets=[1, 5])}, bytes(5), "1 bytes before"),
    "more": ({"a": A}, bytes(5), "1 bytes after the last tensor"),
    "less": ({"a": A}, bytes(3), "is truncated"),
    "up": ({"../a": A}, bytes(4), "leads out of its folder"),
    "up inside": ({"a/../b": A}, bytes(4), "leads out of its folder"),
    "up windows": ({"a\\..\\b": A}, bytes(4), "leads out of its folder"),
    "root": ({"/a": A}, bytes(4), "leads out of its folder"),
    "drive": ({"C:\\a": A}, bytes(4), "leads out of its folder"),
    "NUL": ({"a\0": A}, bytes(4), "control character"),
    "newline": ({"a\n": A}, bytes(4), "control character"),
    "surrogate": (b'{"\\ud800":%s}' % json.dumps(A).encode(), bytes(4), "control character"),
    "no name": ({"": A}, bytes(4), "empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_header_is_an_error_with_the_file_and_the_reason(tmp_path, case):
    table, data, why = BROKEN[case]
    path = safetensors_file(tmp_path / "adapter.safetensors", table, data)
    for read in (read_header, TensorFile):
        with pytest.raises(BadWeights, match=why) as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("case", ["twice", "up", "NUL", "newline", "root"])
def test_the_library_does_accept_what_is_refused_here(tmp_path, case):
    table, data, _ = BROKEN[case]
    path = safetensors_file(tmp_path / "w", table, data)
    with safetensors.safe_open(path, "numpy") as file:
        assert len(list(file.keys())) == 1


@pytest.mark.parametrize("name", ["base_model.model.lora_A.weight", "a..b", "h/0/w", "ключ", "a b"])
def test_ordinary_names_pass(tmp_path, name):
    assert list(read_header(safetensors_file(tmp_path / "w", {name: A}, bytes(4))).tensors) == [
        name
    ]


def test_a_git_lfs_pointer_is_told_from_weights(tmp_path):
    path = tmp_path / "adapter_model.safetensors"
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    )
    with pytest.raises(BadWeights, match="is a Git LFS pointer") as caught:
        read_header(path)
    assert "run git lfs pull" in str(caught.value)


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = save(tmp_path / "w", {"a": values("F32", (3,)), "b": values("U8", (2,))}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(BadWeights, match="truncated"):
            read_header(tmp_path / "cut")


def test_a_header_longer_than_the_file_or_than_allowed_is_refused_unread(tmp_path):
    with pytest.raises(BadWeights, match="truncated, or no safetensors file"):
        read_header(safetensors_file(tmp_path / "a", {"a": A}, bytes(4), length=2**63))
    padded = safetensors_file(tmp_path / "b", json.dumps({"a": A}).encode() + b" " * 1000, bytes(4))
    assert list(read_header(padded).tensors) == ["a"]
    with pytest.raises(BadWeights, match=r"header of .* bytes: more than 1,000"):
        read_header(padded, largest=1000)
    with (tmp_path / "c").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(100_000_100)
    with pytest.raises(BadWeights, match="more than 26,214,400"):
        read_header(tmp_path / "c")
    with pytest.raises(BadWeights, match="more than 100,000,000"):
        read_header(tmp_path / "c", largest=1 << 40)


def test_a_path_that_is_not_a_file_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        for read in (read_header, TensorFile):
            with pytest.raises(BadWeights, match="cannot read"):
                read(path)


@given(st.binary(max_size=200), st.integers(0, 2**64))
def test_random_bytes_raise_nothing_but_bad_weights(raw, size):
    for text in (raw, b"{" + raw):
        with suppress(BadWeights):
            parse_header(text, size, "w")


@st.composite
def mutations(draw):
    """A sound file with a few bytes or numbers changed: close enough to sound to get far into the checks."""
    names = draw(
        st.lists(
            st.sampled_from(["a", "b.weight", "../c", "ü", "__metadata__"]), unique=True, max_size=3
        )
    )
    table, at = {}, 0
    for name in names:
        dtype = draw(st.sampled_from(["F32", "BF16", "BOOL", "F4", "F8_E8M0", "X"]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = int(np.prod(shape, dtype=int)) * {"F32": 4, "BF16": 2}.get(dtype, 1) + draw(
            st.sampled_from([0] * 9 + [1])
        )
        begin = at + draw(st.sampled_from([0] * 9 + [-1, 1]))
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size]}
        at += size
    raw = bytearray(json.dumps(table).encode())
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw), bytes(max(0, at + draw(st.sampled_from([0] * 9 + [-1, 1]))))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(mutations())
def test_what_is_accepted_here_the_library_accepts_too(tmp_path, mutated):
    path = safetensors_file(tmp_path / "w", *mutated)
    try:
        header = read_header(path)
    except BadWeights:
        return
    with safetensors.safe_open(path, "numpy") as theirs:
        assert sorted(theirs.keys()) == list(header.tensors)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 5])
def test_bytes_are_the_same_when_each_of_them_is(size):
    one = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    assert same_bytes(memoryview(one), memoryview(bytes(bytearray(one))))
    assert not same_bytes(memoryview(one), memoryview(one + b"x"))
    for at in {0, size // 2, size - 1} if size else ():
        other = bytearray(one)
        other[at] ^= 1
        assert not same_bytes(memoryview(one), memoryview(other))
