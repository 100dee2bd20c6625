"""What `test_ray` runs in a network namespace: the conformance class on two nodes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import clusters
import pytest

from adaptkit.errors import ExecutorError
from adaptkit.extend.executor import TaskNeeds
from adaptkit.testing import ExecutorConformance
from adaptkit_plugins.executors.ray import Ray

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # its sockets need a short path
    try:
        with clusters.ray(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class TestRay(ExecutorConformance):
    @pytest.fixture(scope="class")
    def opened(self, cluster):
        return lambda: Ray.open(cluster, workers=None, needs=TaskNeeds())

    @pytest.fixture(scope="class")
    def executor(self, opened):  # a connection starts a process on the head: several seconds
        with opened() as executor:
            yield executor


def test_two_nodes_of_one_machine_share_its_files(cluster):
    with Ray.open(cluster, workers=None, needs=TaskNeeds()) as executor:
        assert executor.capabilities.workers == 2
        assert executor.capabilities.shared_files


def test_gpus_that_no_node_has_are_refused(cluster):
    with pytest.raises(ExecutorError) as caught:
        Ray.open(cluster, workers=None, needs=TaskNeeds(gpus=1))
    assert "has no node for this" in caught.value.what
    assert "1 GPUs" in caught.value.why
    assert "ray start --address=" in caught.value.fix
