"""What `test_bake_on` runs in a network namespace: a bake on a Ray cluster of two nodes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import clusters
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


@pytest.fixture
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # its sockets need a short path
    try:
        with clusters.ray(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("naval")
def test_a_bake_on_ray_has_the_bytes_of_one_in_this_process(workspace, shards, tmp_path, cluster):
    here = workspace.bake("naval", shards, tmp_path / "here", force=True).report
    workspace.noticed.clear()
    there = workspace.bake("naval", shards, tmp_path / "there", force=True, on=cluster).report
    assert [text for text in workspace.noticed if "stays in this process" in text] == []
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert there.files == here.files
    assert there.rounding == pytest.approx(here.rounding)
    assert not (tmp_path / "there.partial").exists()
