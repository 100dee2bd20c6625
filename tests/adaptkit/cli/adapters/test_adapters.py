"""adaptkit.cli.adapters.adapters: what `show` prints of facts that came from elsewhere."""

from __future__ import annotations

import pytest
from artifacts import manifest
from click.testing import CliRunner

from adaptkit.cli.app import app
from adaptkit.workspace import Workspace


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        ({"error": 0.0123, "from_sum": None, "dropped": []}, "0.012 of the update"),
        ({"error": None}, ""),
        ({"error": "much"}, ""),
        ("much", ""),
        ([], ""),
    ],
)
def test_show_prints_a_loss_that_is_a_number_and_passes_over_any_other(
    loss, line, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTKIT_HOME", str(tmp_path / "home"))
    with Workspace.open() as workspace:
        workspace.registry.add_version("naval", manifest("n", facts={"loss": loss}))
    done = CliRunner().invoke(app, ["show", "naval"], catch_exceptions=False)
    assert done.exit_code == 0
    shown = [text.strip() for text in done.output.splitlines() if text.startswith("  loss")]
    assert shown == ([f"loss      {line}"] if line else [])
