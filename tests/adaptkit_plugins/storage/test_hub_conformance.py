"""adaptkit_plugins.storage.hub holds to what every place holds to, with Xet on and off."""

from __future__ import annotations

import pytest
from hubs import hub
from loopback_hub import HubBehind

from adaptkit.testing import StorageConformance
from adaptkit_plugins.storage.hub import HubBackend

__all__ = ["hub"]


class TestHub(StorageConformance):
    repairs = False  # a commit never changes

    @pytest.fixture
    def place(self, hub):
        hub.create("fleet/naval")
        return HubBackend.open("hf://fleet/naval")

    @pytest.fixture
    def behind(self, hub):
        return HubBehind(hub.repos["fleet/naval"])


class TestWithoutXet(TestHub):
    @pytest.fixture(autouse=True)
    def off(self, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
