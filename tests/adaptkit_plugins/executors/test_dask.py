"""The `dask` executor on a real cluster of two workers on 127.0.0.1."""

from __future__ import annotations

import subprocess
import sys
import time

import clusters
import pytest

from adaptkit.errors import ExecutorError
from adaptkit.extend.executor import TaskNeeds
from adaptkit.testing import ExecutorConformance
from adaptkit_plugins.executors.dask import Dask

pytest.importorskip("distributed", reason="pip install 'adaptkit-peft[dask]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # tornado's and distributed's own
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with clusters.dask(tmp_path_factory.mktemp("dask")) as url:
        yield url


class TestDask(ExecutorConformance):
    @pytest.fixture
    def opened(self, cluster):
        return lambda: Dask.open(cluster, workers=None, needs=TaskNeeds())


def test_two_workers_of_one_machine_share_its_files(cluster):
    clusters.wait_for_workers(cluster, 2)  # a test before may have killed one
    with Dask.open(cluster, workers=None, needs=TaskNeeds()) as executor:
        assert executor.capabilities.workers == 2
        assert executor.capabilities.shared_files
        assert executor.capabilities.gpus == 0


def test_a_result_that_takes_longer_than_a_connection_is_waited_for(cluster, monkeypatch):
    monkeypatch.setattr("adaptkit_plugins.executors.dask.WAIT", 1.0)
    with Dask.open(cluster, workers=None, needs=TaskNeeds()) as executor:
        late = executor._client.submit(time.sleep, 1.2, pure=False)
        assert executor._result(late) is None
        assert late.status == "finished"


def test_the_user_may_say_that_files_are_not_shared(cluster):
    with Dask.open(f"{cluster}?shared=no", workers=None, needs=TaskNeeds()) as executor:
        assert not executor.capabilities.shared_files


def test_gpus_that_no_worker_has_are_refused(cluster):
    with pytest.raises(ExecutorError) as caught:
        Dask.open(cluster, workers=None, needs=TaskNeeds(gpus=1))
    assert "has no worker for this" in caught.value.what
    assert "1 GPUs" in caught.value.why
    assert "dask worker" in caught.value.fix


def test_a_scheduler_that_is_not_there_is_named():
    port = clusters.free_port()
    with pytest.raises(ExecutorError) as caught:
        Dask.open(f"dask://127.0.0.1:{port}", workers=None, needs=TaskNeeds())
    assert caught.value.what == f"no cluster can be reached at 127.0.0.1:{port}"
    assert caught.value.why == "Connection refused"
    assert "dask scheduler" in caught.value.fix


def test_without_the_extra_the_line_that_installs_it_is_shown():
    code = (
        "import sys\n"
        "sys.modules['distributed'] = None\n"
        "from adaptkit.extend.executor import TaskNeeds\n"
        "from adaptkit_plugins.executors.dask import Dask\n"
        "Dask.open('dask://127.0.0.1:1', workers=None, needs=TaskNeeds())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot use a Dask cluster: the optional part 'dask' is not installed" in done.stderr
    assert "pip install 'adaptkit-peft[dask]'" in done.stderr


def test_a_cluster_that_goes_away_is_an_error_and_no_hang(tmp_path):
    never = str(tmp_path / "never")
    from adaptkit.testing.executors import wait_for

    with clusters.dask(tmp_path, workers=1, nanny=False) as url:
        executor = Dask.open(url, workers=None, needs=TaskNeeds())
        future = executor.submit(wait_for, never)
    with pytest.raises(ExecutorError, match="cannot be used"):
        future.result(60)
    executor.shutdown(cancel_futures=True)
