"""The `ray` executor on a real cluster of two nodes, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import clusters
import pytest

from adaptkit.errors import ExecutorError
from adaptkit.extend.executor import TaskNeeds
from adaptkit_plugins.executors.ray import Ray

ON_A_CLUSTER = Path(__file__).with_name("ray_cluster.py")


@pytest.mark.soak
def test_everything_that_an_executor_must_do_holds_on_two_nodes():
    pytest.importorskip("ray", reason="pip install 'adaptkit-peft[ray]'")
    if reason := clusters.no_namespace():
        pytest.skip(reason)
    done = clusters.in_a_network_of_its_own(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ON_A_CLUSTER)]
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "16 passed" in done.stdout


def test_a_head_that_is_not_there_is_named():
    pytest.importorskip("ray", reason="pip install 'adaptkit-peft[ray]'")
    port = clusters.free_port()
    with pytest.raises(ExecutorError) as caught:
        Ray.open(f"ray://127.0.0.1:{port}", workers=None, needs=TaskNeeds())
    assert caught.value.what == f"no cluster can be reached at 127.0.0.1:{port}"
    assert caught.value.why == "Connection refused"
    assert "ray start --head" in caught.value.fix


@pytest.mark.parametrize(
    "url", ["ray://", "ray", "ray://host:x", "ray://host/a", "ray://h?nodes=2"]
)
def test_an_address_of_another_form_is_shown_the_form(url):
    with pytest.raises(ExecutorError) as caught:
        Ray.open(url, workers=None, needs=TaskNeeds())
    assert caught.value.what == f"'{url}' is no address of a cluster"
    assert caught.value.why == "it has the form ray://HOST[:PORT][?shared=yes]"


def test_without_the_extra_the_line_that_installs_it_is_shown():
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "from adaptkit.extend.executor import TaskNeeds\n"
        "from adaptkit_plugins.executors.ray import Ray\n"
        "Ray.open('ray://127.0.0.1:1', workers=None, needs=TaskNeeds())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot use a Ray cluster: the optional part 'ray' is not installed" in done.stderr
    assert "pip install 'adaptkit-peft[ray]'" in done.stderr
