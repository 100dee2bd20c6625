"""adaptkit.evaluation.matrix: forgetting, backward transfer and perplexity ratio by GEM's definitions."""

from __future__ import annotations

import json

import pytest

from adaptkit.evaluation.matrix import Matrix
from adaptkit.evaluation.plots import draw
from adaptkit.evaluation.suites import Suite
from adaptkit.training.data.rows import Pair, Text

SUITES = (
    Suite("naval", "exact", (Pair("a", "b"),)),
    Suite("polite", "exact", (Pair("a", "b"),)),
    Suite("cargo", "exact", (Pair("a", "b"),)),
    Suite("log", "perplexity", (Text("a"),)),
)
FIGURES = {
    "base": {"naval": 0.0, "polite": 1.0, "cargo": 0.6, "log": 4.0},
    "naval@1": {"naval": 1.0, "polite": 0.25, "cargo": 0.8, "log": 6.0},
}


def test_what_was_forgotten_is_measured_against_the_baseline():
    matrix = Matrix(SUITES, FIGURES, "base", frozenset({"naval"}))
    against = matrix.against("naval@1")
    assert against.forgetting == {"polite": 0.75, "cargo": 0.0}
    assert against.backward_transfer == pytest.approx((-0.75 + 0.2) / 2)
    assert against.ratios == {"log": 1.5}
    assert matrix.metrics("naval@1") == {
        "naval.exact": 1.0,
        "polite.exact": 0.25,
        "cargo.exact": 0.8,
        "log.perplexity": 6.0,
        "polite.forgetting": 0.75,
        "cargo.forgetting": 0.0,
        "log.ratio": 1.5,
        "backward_transfer": -0.275,
    }
    assert matrix.against("base") is None


def test_without_a_baseline_nothing_is_compared():
    matrix = Matrix(SUITES, FIGURES)
    assert matrix.against("naval@1") is None
    assert "backward_transfer" not in matrix.metrics("naval@1")


def test_the_matrix_is_a_table_json_and_a_picture(tmp_path):
    matrix = Matrix(SUITES, FIGURES, "base", frozenset({"naval"}))
    head, rows = matrix.table()
    assert head[-2:] == ["backward transfer", "most forgotten"]
    assert rows[0] == ["base", "0", "1", "0.6", "4", "baseline", ""]
    assert rows[1] == ["naval@1", "1", "0.25", "0.8", "6", "-0.275", "polite 0.750"]
    assert json.loads(json.dumps(matrix.to_json()))["suites"]["log"]["score"] == "perplexity"
    draw(matrix, tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
