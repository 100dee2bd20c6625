"""A Hub on loopback for a test, and an environment in which everything goes to it and nobody waits."""

from __future__ import annotations

import pytest
from loopback_hub import LoopbackHub

from adaptkit.io.http import client as http


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The real huggingface_hub drives it, over real HTTP; pauses are counted in `hub.pauses` instead of slept."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="pip install 'adaptkit-peft'"
    )
    from huggingface_hub.utils import _http

    with LoopbackHub() as made:
        made.pauses = []
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_TOKEN", "hf_write")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
        monkeypatch.setattr(http, "pause", made.pauses.append)
        monkeypatch.setattr(_http.time, "sleep", made.pauses.append)
        yield made
        _http.close_session()
