"""adaptkit_plugins.storage.oci holds to what every place must, on Debian's registry."""

from __future__ import annotations

import secrets

import pytest

from adaptkit.testing import StorageConformance
from adaptkit_plugins.storage.oci import OciBackend


class TestOci(StorageConformance):
    @pytest.fixture
    def place(self, registry):
        return OciBackend.open(f"oci://{registry.host}/team-{secrets.token_hex(4)}/naval")
