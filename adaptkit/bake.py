"""An adapter into full weights: one tensor at a time, a block of rows at a time, whole or not at all.

Notable choices:
- every shard is written once: bytes that do not change go from file to file, rows that do are widened,
  updated and rounded once (float32 for 16-bit weights, float64 for 32-bit ones)
- a shard whose tensors keep their names, shapes and dtypes keeps its header byte for byte
- work lies in `OUT.partial/` with a journal of finished shards until one rename: OUT never exists half made,
  and the same bake again goes on where it stopped
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from adaptkit.adapter import artifact_paths
from adaptkit.errors import BakeError, MergeError, NotFound, Refused, Unmergeable
from adaptkit.files import atomic_write, explained, fsync_directory
from adaptkit.folders import empty_target, rename_into
from adaptkit.identity.layout import INDEX, declared_quantisation
from adaptkit.recipe import DTYPES
from adaptkit.tensor_writer import TensorWriter
from adaptkit.tensors import numpy_dtype, size_of
from adaptkit.types import digest_of
from adaptkit.weights import BaseWeights, as_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from adaptkit.extend import Array, Module
    from adaptkit.identity.layout import Place
    from adaptkit.outcome import Source

JOURNAL = "adaptkit-bake.json"
_BLOCK = 1 << 18  # elements of a weight worked on at once: what a core keeps in its cache
_COPY = 8 << 20  # bytes copied at once
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".ckpt", ".index.json")


@dataclass(frozen=True, slots=True)
class BakeReport:
    """What was baked: tensors that changed, files written, and what had to be said."""

    out: Path
    changed: tuple[str, ...]
    files: tuple[str, ...]
    nbytes: int
    dtype: str
    resumed: int
    remarks: tuple[str, ...]


@dataclass(slots=True)
class _Tensor:
    """One tensor of the result: where it comes from and what happens to it."""

    source: str
    shape: tuple[int, ...]
    dtype: str
    modules: list[Module] = field(default_factory=list)
    biases: list[Module] = field(default_factory=list)
    replaced_by: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.modules or self.biases or self.replaced_by)


def run(
    source: Source,
    base: Path,
    out: Path,
    *,
    dtype: str | None = None,
    clean: bool = False,
    workers: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> BakeReport:
    """Write the base with one adapter in it into `out`; `done` is told the bytes of each finished tensor."""
    target = empty_target(out)
    with BaseWeights.open(base) as weights:
        source.adapter.base_shapes = weights.shapes
        plan, changes, remarks = _plan(source, weights, dtype)
        work = target.with_name(target.name + ".partial")
        shards = _shards(plan, weights)
        key = digest_of({"adapter": source.digest, "base": [[f.name, f.stat().st_size, f.stat().st_mtime_ns]
                                                            for f in weights.layout.files], "dtype": dtype})  # fmt: skip
        finished = _open_work(work, key, clean=clean)
        resumed = len(finished)
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            for file, names in shards.items():
                if file.name in finished:
                    done(sum(size_of(plan[n].dtype, plan[n].shape) for n in names))
                    continue
                _write_shard(source, weights, file, {n: plan[n] for n in names}, work, pool, done)
                finished.append(file.name)
                atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": finished}).encode())
        _carry_along(source, weights, plan, shards, work, dtype, changes)
        _check(weights, plan, work)
    (work / JOURNAL).unlink()
    with explained("write", target):
        if target.is_dir():
            target.rmdir()
    rename_into(work, target)
    changed = tuple(sorted(name for name, tensor in plan.items() if tensor.changed))
    nbytes = sum(size_of(t.dtype, t.shape) for t in plan.values())
    return BakeReport(target, changed, tuple(file.name for file in shards), nbytes, dtype or "as the base", resumed,
                      tuple(remarks))  # fmt: skip


# ---------------------------------------------------------------- what is to be done


def _plan(
    source: Source, weights: BaseWeights, dtype: str | None
) -> tuple[dict[str, _Tensor], dict[str, Any], list[str]]:
    """Every tensor of the result, what changes in config.json, and what must be said. All refusals are made here."""
    view, method, label = source.adapter, source.method, source.label
    where = weights.layout.directory
    if quantised := declared_quantisation(weights.layout.config):
        raise BakeError(f"cannot bake into {where}", why=f"its weights are quantised ({quantised.method})",
                        fix="bake into the full-precision model it was made from")  # fmt: skip
    if reason := method.unbakeable(view):
        raise Unmergeable(f"cannot bake {label}", why=reason)
    if dtype is not None and dtype not in DTYPES:
        raise NotFound("dtype", dtype, DTYPES)
    plan = {name: _Tensor(name, place.entry.shape, _cast_to(place.entry.dtype, dtype))
            for name, place in (weights.layout.tensors or {}).items()}  # fmt: skip
    changes: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    remarks: list[str] = []
    missing: list[str] = []
    for name, key in sorted(method.replacements(view).items()):
        found = _target(name, plan, weights, changes, remarks)
        if found is None:
            missing.append(name)
            continue
        shape = view.header[key].shape
        if shape != plan[found].shape:
            if shape[1:] != plan[found].shape[1:] or len(shape) != 2:
                raise BakeError(f"cannot bake {label}", why=f"it brings '{name}' as {list(shape)}, the base has {list(plan[found].shape)}",
                                fix="give the base it was trained on")  # fmt: skip
            changes["vocab_size"] = shape[0]
            remarks.append(f"'{found}' has {shape[0]} rows instead of {plan[found].shape[0]}")
        plan[found].shape, plan[found].replaced_by = shape, key
    for module in method.modules(view):
        found = _target(f"{module.name}.weight", plan, weights, changes, remarks)
        if found is None:
            missing.append(f"{module.name}.weight")
            continue
        if plan[found].shape != module.stored:
            raise BakeError(f"cannot bake {label}", why=f"'{module.name}' is {list(module.stored)} in it and "
                            f"{list(plan[found].shape)} in the base", fix="give the base it was trained on")  # fmt: skip
        plan[found].modules.append(module)
        bias = weights.name_of(f"{module.name}.bias")
        if bias is None and method.needs_bias(view, module):
            raise BakeError(f"cannot bake {label}", why=f"it adds a bias to '{module.name}', a layer that has none "
                            "in this architecture", fix="keep it as an adapter, or train without lora_bias")  # fmt: skip
        if bias is not None and method.bias_applier(view, module) is not None:
            plan[bias].biases.append(module)
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise BakeError(f"{label} does not fit the base {where}", why=f"the base has no {shown}",
                        fix="give the base it was trained on")  # fmt: skip
    if not any(tensor.changed for tensor in plan.values()):
        raise BakeError(f"cannot bake {label}", why="it would change nothing in the base", fix="look at adaptkit show")
    return plan, changes, remarks


def _target(wanted: str, plan: dict[str, _Tensor], weights: BaseWeights, changes: dict[str, Any],
            remarks: list[str]) -> str | None:  # fmt: skip
    """The tensor of the result that a name means. A change to one of two tied tensors makes two of them."""
    found = weights.name_of(wanted) or (wanted if wanted in plan else None)
    config = weights.layout.config
    if config.get("tie_word_embeddings") is not True:
        return found
    embedding = next((n for n in plan if f".{n}".endswith((".embed_tokens.weight", ".wte.weight"))), None)
    head = "lm_head.weight"
    if embedding is None or found not in {None, embedding, head} or wanted.rpartition(".")[0].rpartition(".")[2] not in \
            {"embed_tokens", "wte", "lm_head"}:  # fmt: skip
        return found
    if head not in plan:
        tied = plan[embedding]
        plan[head] = _Tensor(embedding, tied.shape, tied.dtype)
    if "tie_word_embeddings" not in changes:
        changes["tie_word_embeddings"] = False
        remarks.append(
            f"'{embedding}' and '{head}' were tied; the adapter changes one of them, so they are two tensors now"
        )
    return found or head


def _cast_to(dtype: str, wanted: str | None) -> str:
    return DTYPES[wanted] if wanted is not None and dtype in set(DTYPES.values()) else dtype


def _shards(plan: Mapping[str, _Tensor], weights: BaseWeights) -> dict[Path, list[str]]:
    """Which file of the base each tensor's result goes to, under the same name."""
    assert weights.layout.tensors is not None
    files: dict[Path, list[str]] = {file: [] for file in weights.layout.files}
    for name, tensor in plan.items():
        files[weights.layout.tensors[tensor.source].file].append(name)
    return files


# ---------------------------------------------------------------- doing it


def _open_work(work: Path, key: str, *, clean: bool) -> list[str]:
    """The folder of a bake, and the shards in it that are finished already."""
    with explained("write", work):
        if clean:
            shutil.rmtree(work, ignore_errors=True)
        if work.exists():
            try:
                journal = json.loads((work / JOURNAL).read_bytes())
                known = journal["key"] == key
            except (OSError, ValueError, KeyError, TypeError):
                journal, known = {}, not any(work.iterdir())
            if not known:
                raise Refused(f"{work} is left of another bake", why="the adapter, the base or the dtype was another",
                              fix="--clean drops it and begins anew")  # fmt: skip
            return [str(name) for name in journal.get("finished", ())]
        work.mkdir(parents=True)
        atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": []}).encode())
    return []


def _write_shard(source: Source, weights: BaseWeights, file: Path, plan: Mapping[str, _Tensor], work: Path,
                 pool: ThreadPoolExecutor, done: Callable[[int], None]) -> None:  # fmt: skip
    assert weights.layout.tensors is not None
    before = {name: place.entry for name, place in weights.layout.tensors.items() if place.file == file}
    same = before.keys() == plan.keys() and all(
        (e.dtype, e.shape) == (plan[n].dtype, plan[n].shape) for n, e in before.items()
    )
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in plan.items()}
    with TensorWriter(work / file.name, layout, like=file if same else None) as writer:

        def make(name: str) -> int:
            tensor = plan[name]
            with writer.pieces(name) as put:
                if not tensor.changed and tensor.dtype == _entry(weights, tensor.source).entry.dtype:
                    raw = weights.raw(tensor.source)
                    for at in range(0, len(raw), _COPY):
                        put(raw[at : at + _COPY])
                else:
                    for block in _updated(source, weights, name, tensor):
                        put(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            weights.forget(tensor.source)
            return size_of(tensor.dtype, tensor.shape)

        order = sorted(plan, key=lambda n: -size_of(plan[n].dtype, plan[n].shape))
        for count in pool.map(make, order):
            done(count)
        writer.commit()


def _entry(weights: BaseWeights, name: str) -> Place:
    assert weights.layout.tensors is not None
    return weights.layout.tensors[name]


def _updated(source: Source, weights: BaseWeights, name: str, tensor: _Tensor) -> Iterator[Array]:
    """The new values of one tensor in the order they lie in the file, block after block, rounded once."""
    view, method = source.adapter, source.method
    stored = view.read(tensor.replaced_by) if tensor.replaced_by else weights.read(tensor.source)
    target = numpy_dtype(tensor.dtype)
    if stored.dtype.kind in "iub":
        yield stored
        return
    working = np.dtype(np.float64 if target.itemsize >= 4 else np.float32)
    if tensor.biases:
        total = stored.astype(working)
        for module in tensor.biases:
            apply_bias = method.bias_applier(view, module)
            assert apply_bias is not None
            rows = slice(module.part * module.shape[0], (module.part + 1) * module.shape[0])
            total[rows] = apply_bias(total[rows])
        yield _rounded(total, target, name)
        return
    if not tensor.modules:
        flat = stored.reshape(-1)
        for at in range(0, flat.size, _BLOCK):
            yield _rounded(flat[at : at + _BLOCK].astype(working), target, name)
        return
    for module in sorted(tensor.modules, key=lambda m: m.part):
        matrix = as_matrix(stored, module)
        apply = method.applier(view, module)
        if module.kind == "conv1d" or not method.by_rows(view):  # its rows do not lie one behind the other
            whole = _rounded(apply(matrix.astype(working), slice(0, matrix.shape[0])), target, name)
            yield whole.T if module.kind == "conv1d" else whole
            continue
        step = max(1, _BLOCK // matrix.shape[1])
        for at in range(0, matrix.shape[0], step):
            rows_here = slice(at, min(at + step, matrix.shape[0]))
            yield _rounded(apply(matrix[rows_here].astype(working), rows_here), target, name)


def _rounded(block: Array, target: np.dtype[Any], name: str) -> Array:
    with np.errstate(over="ignore"):
        rounded = block.astype(target)
        sound = bool(np.isfinite(rounded).all()) if target == np.float16 else bool(np.isfinite(block.sum()))
    if not sound:
        raise MergeError(f"the tensor '{name}' came out as NaN or Inf", why=f"its values do not fit {target.name}",
                         fix="--dtype bfloat16 or float32")  # fmt: skip
    return rounded


def _carry_along(source: Source, weights: BaseWeights, plan: Mapping[str, _Tensor], shards: Mapping[Path, list[str]],
                 work: Path, dtype: str | None, changes: Mapping[str, Any]) -> None:  # fmt: skip
    """config.json with what changed, the index, and every other file of the base; the adapter's tokenizer wins."""
    base = weights.layout.directory
    for file in sorted(base.iterdir()):
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(_WEIGHTS):
            with explained("write", work / file.name):
                shutil.copyfile(file, work / file.name)
    for name in artifact_paths(source.adapter.path)[0]:
        if not name.startswith("adapter_"):
            with explained("write", work / name):
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.adapter.path / name, work / name)
    if changes:
        config = dict(weights.layout.config)
        told = dict(changes)
        if dtype is not None:
            config.pop("torch_dtype", None)
        atomic_write(work / "config.json", (json.dumps(config | told, indent=2) + "\n").encode())
    if (base / INDEX).is_file():
        same = all(t.source == n and t.dtype == _entry(weights, t.source).entry.dtype and t.shape == _entry(weights, t.source).entry.shape
                   for n, t in plan.items())  # fmt: skip
        if same:
            shutil.copyfile(base / INDEX, work / INDEX)
        else:
            table = {"metadata": {"total_size": sum(size_of(t.dtype, t.shape) for t in plan.values())},
                     "weight_map": {name: file.name for file, names in shards.items() for name in sorted(names)}}  # fmt: skip
            atomic_write(work / INDEX, (json.dumps(table, indent=2, sort_keys=True) + "\n").encode())
    fsync_directory(work)


def _check(weights: BaseWeights, plan: Mapping[str, _Tensor], work: Path) -> None:
    """Read what was written: headers, names, and every tensor that should not have changed, byte for byte."""
    with BaseWeights.open(work) as written:
        found = {name: (place.entry.dtype, place.entry.shape) for name, place in (written.layout.tensors or {}).items()}
        wrong = defaultdict(list)
        if found != {name: (tensor.dtype, tensor.shape) for name, tensor in plan.items()}:
            wrong["names, shapes or dtypes"] = sorted(found.keys() ^ plan.keys()) or ["some tensor"]
        for name, tensor in plan.items():
            if not tensor.changed and tensor.dtype == _entry(weights, tensor.source).entry.dtype and \
                    written.raw(name) != weights.raw(tensor.source):  # fmt: skip
                wrong["untouched tensors"].append(name)
            written.forget(name)
            weights.forget(tensor.source)
    if wrong:
        raise BakeError(f"what was written to {work} is not what was meant", why=str(dict(wrong)),
                        fix="check the disk, then bake again with --clean")  # fmt: skip
