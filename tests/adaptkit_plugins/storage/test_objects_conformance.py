"""adaptkit_plugins.storage.objects holds to what every place must, on six servers."""

from __future__ import annotations

import pytest

from adaptkit.testing import StorageConformance
from adaptkit_plugins.storage.objects import ObjectBackend


class BucketBehind:
    """What is stored in a bucket, read past the backend."""

    def __init__(self, place):
        self._place = place

    def write(self, path, data):
        import obstore

        obstore.put(self._place.address.store(3), self._place.address.key(path), data)

    def paths(self):
        import obstore

        root = self._place.address.prefix
        listed = obstore.list(self._place.address.store(3), root).collect()
        return {meta["path"].removeprefix(f"{root}/") for meta in listed}


@pytest.mark.parametrize("server", ["moto", "ministack", "rclone", "google", "azure", "azurite"])
class TestObjects(StorageConformance):
    @pytest.fixture
    def place(self, server, request, use):
        running = request.getfixturevalue(server)
        return ObjectBackend.open(f"{running.scheme}://{use(running)}/naval")

    @pytest.fixture
    def behind(self, place):
        return BucketBehind(place)
