"""Adapters side by side: every figure against updates written out in float64."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny

from adaptkit.errors import BadRecipe, NotFound, Refused, Unmergeable
from adaptkit.merge.comparing.plots import draw


@pytest.fixture
def filled(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    workspace.add(lora_pair[1], "medic")
    return workspace


def written_out(folder):
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.algebra.lowrank import matrix
    from adaptkit.plugin.manager import Plugins

    with Adapter.open(folder) as adapter:
        method = Plugins.from_environment().method_for(adapter)
        return {m.key: matrix(method.delta(adapter, m)) for m in method.modules(adapter)}


def test_cosines_norms_and_signs_are_those_of_the_updates_written_out(filled, lora_pair):
    found = filled.diff(["naval", "medic"])
    one, two = map(written_out, lora_pair)
    norms = [np.sqrt(sum((d**2).sum() for d in deltas.values())) for deltas in (one, two)]
    assert [a.norm for a in found.adapters] == pytest.approx(norms, rel=1e-10)
    pair = found.pairs[0]
    assert pair.shared_modules == len(one.keys() & two.keys()) == 4
    inner = sum((one[k] * two[k]).sum() for k in one.keys() & two.keys())
    assert pair.cosine == pytest.approx(inner / norms[0] / norms[1], rel=1e-9)
    for key, cosine in pair.cosines.items():
        assert cosine == pytest.approx(
            (one[key] * two[key]).sum() / np.linalg.norm(one[key]) / np.linalg.norm(two[key]),
            rel=1e-9,
        )
        assert pair.same_signs[key] == np.mean(
            np.sign(one[key]) == np.sign(two[key])
        )  # small enough to be whole


def test_overlaps_are_those_of_the_spaces_of_rows_and_columns(filled, lora_pair):
    pair = filled.diff(["naval", "medic"]).pairs[0]
    one, two = map(written_out, lora_pair)
    rows, columns = [], []
    for key in one.keys() & two.keys():
        (U, _, Vt), (X, _, Yt) = (np.linalg.svd(d) for d in (one[key], two[key]))
        rows.append(np.sum((Vt[:4] @ Yt[:8].T) ** 2) / 4)
        columns.append(np.sum((U[:, :4].T @ X[:, :8]) ** 2) / 4)
    assert pair.row_overlap == pytest.approx(np.mean(rows), rel=1e-8)
    assert pair.column_overlap == pytest.approx(np.mean(columns), rel=1e-8)
    inputs = [d.shape[1] for key, d in one.items() if key in two]
    assert pair.row_overlap_by_chance == pytest.approx(np.mean([8 / n for n in inputs]))


def test_adapters_that_read_the_same_inputs_and_differ_are_warned_of(
    workspace, tiny_llama, tmp_path
):
    from safetensors.numpy import load_file, save_file

    how = {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    for seed, name in enumerate(("naval", "medic", "pilot")):
        tiny.save_adapter(tiny_llama, tmp_path / name, seed=seed, **how)
    first, second = (tmp_path / name / "adapter_model.safetensors" for name in ("naval", "medic"))
    same = {key: value for key, value in load_file(first).items() if "lora_A" in key}
    save_file(load_file(second) | same, second, {"format": "pt"})
    found = workspace.diff([str(tmp_path / name) for name in ("naval", "medic", "pilot")])
    assert [round(pair.row_overlap, 6) for pair in found.pairs][:1] == [1.0]
    (warning,) = found.warnings
    assert "naval and " in warning
    assert "read the same inputs (row overlap 1.00, by chance 0.12)" in warning
    assert "--strategy regmean, then distil" in warning


def test_what_a_rank_would_lose_is_what_the_merge_then_loses(filled, tmp_path):
    found = filled.diff(["naval=0.7", "medic=0.3"])
    for rank in (2, 8):
        made = filled.merge(["naval=0.7", "medic=0.3"], out=tmp_path / str(rank), rank=rank)
        assert found.truncation[rank] == pytest.approx(made.report.error.total, rel=1e-4)
    assert found.truncation[found.whole_rank] < 1e-12


def test_advice_follows_from_what_was_found(filled, lora_pair, tmp_path):
    opposite = tmp_path / "opposite"
    shutil.copytree(lora_pair[1], opposite)
    tiny.edit_config(opposite, lora_alpha=-4.0)
    same = tmp_path / "same"
    shutil.copytree(lora_pair[1], same)
    tiny.edit_config(same, lora_alpha=5)
    assert filled.diff(["naval", "medic"]).advice.startswith("--strategy linear")
    assert "--normalize" in filled.diff(["medic", str(same)]).advice
    assert "one adapter alone" in filled.diff(["medic"]).reason


def test_what_needs_its_base_says_to_convert_first(filled, tmp_path):
    folder = tiny.make_adapter(
        tiny.llama(), tmp_path / "dora", 1, r=2, use_dora=True, target_modules=["q_proj"]
    )
    with pytest.raises(Unmergeable, match="convert it first"):
        filled.diff(["naval", str(folder)])


def test_resizing_is_the_best_approximation_and_converting_changes_nothing(
    filled, tmp_path, tiny_llama
):
    import trained_adapters

    made = filled.resize("medic", rank=3, name="medic-small")
    assert (made.report.rank, made.version.number) == (3, 1)
    assert made.report.error.total == pytest.approx(filled.diff(["medic"]).truncation[4], rel=0.5)
    with pytest.raises(BadRecipe, match="neither a rank nor a share is given"):
        filled.resize("medic", name="x")
    loha = trained_adapters.save(tiny_llama, tmp_path / "loha", "LOHA", r=2)
    converted = filled.convert(str(loha), out=tmp_path / "lora")
    assert converted.manifest.method == "lora"
    assert converted.report.error.total < 1e-6
    one, two = (
        trained_adapters.merged_by_peft(tiny_llama, loha),
        trained_adapters.merged_by_peft(tiny_llama, tmp_path / "lora"),
    )
    assert all(np.abs(one[key] - two[key]).max() < 1e-6 for key in one)
    ia3 = trained_adapters.save(tiny_llama, tmp_path / "ia3", "IA3")
    converted = filled.convert(str(ia3), out=tmp_path / "ia3-lora", base=tiny_llama, rank=32)
    assert converted.manifest.method == "lora"
    one, two = (
        trained_adapters.merged_by_peft(tiny_llama, ia3),
        trained_adapters.merged_by_peft(tiny_llama, tmp_path / "ia3-lora"),
    )
    assert all(np.abs(one[key] - two[key]).max() < 1e-5 for key in one)


@pytest.mark.parametrize("kind", ["similarity", "spectrum", "conflict"])
def test_pictures_are_drawn(kind, filled, tmp_path):
    found = filled.diff(["naval", "medic"])
    draw(kind, found.adapters, found.pairs, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused(filled, tmp_path):
    alone = filled.diff(["naval"])
    with pytest.raises(Refused, match="cannot draw 'conflict' of one adapter"):
        draw("conflict", alone.adapters, alone.pairs, tmp_path / "out.png")
    with pytest.raises(NotFound, match="no plot called 'pie'"):
        draw("pie", alone.adapters, alone.pairs, tmp_path / "out.png")
