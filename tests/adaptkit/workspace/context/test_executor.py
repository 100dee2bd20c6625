"""Where tasks run is checked where it is read: by every operation that takes `on`, and by `config set`."""

from __future__ import annotations

import pytest

from adaptkit.errors import ExecutorError, NotFound

FORMS = r"local, dask://HOST\[:PORT\], ray://HOST\[:PORT\]"
OPERATIONS = {
    "add_all": lambda w, on: w.add_all(["missing"], on=on),
    "bake": lambda w, on: w.bake("missing", "missing", "out", on=on),
    "bake_plan": lambda w, on: w.bake_plan("missing", "missing", on=on),
    "evaluate": lambda w, on: w.evaluate(["missing"], ["missing"], base="missing", on=on),
    "fsck": lambda w, on: w.fsck(on=on),
    "merge": lambda w, on: w.merge(["missing"], name="m", on=on),
    "merge_cost": lambda w, on: w.merge_cost(["missing"], on=on),
    "search": lambda w, on: w.search(["missing"], ["missing"], base="missing", name="m", on=on),
    "sweep": lambda w, on: w.sweep("missing.yaml", on=on),
    "verify": lambda w, on: w.verify(on=on),
    "verify of one": lambda w, on: w.verify("missing", on=on),
}


@pytest.fixture(params=OPERATIONS)
def operation(request, workspace):
    return lambda on: OPERATIONS[request.param](workspace, on)


def test_every_operation_refuses_an_unknown_executor_first_and_shows_the_known_ones(operation):
    with pytest.raises(NotFound, match=f"^no executor called 'locl': known are {FORMS}$"):
        operation("locl")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("local://10.0.0.1", "local://10.0.0.1 has an address: local is this machine"),
        ("ray", r"'ray' is no address of a cluster: it has the form ray://HOST\[:PORT\]"),
        ("dask://10.0.0.1:port", "'dask://10.0.0.1:port' is no address of a cluster"),
        ("dask://10.0.0.1/path", "'dask://10.0.0.1/path' is no address of a cluster"),
    ],
)
def test_every_operation_refuses_a_malformed_address_first(operation, url, message):
    with pytest.raises(ExecutorError, match=message):
        operation(url)


def test_the_nearest_executor_is_named_first(workspace):
    with pytest.raises(NotFound, match=r"no executor called 'rai': known are ray://HOST\[:PORT\]"):
        workspace.verify(on="rai://10.0.0.1")
    with pytest.raises(NotFound, match=r"called 'ray:10.0.0.1': known are ray://HOST"):
        workspace.verify(on="ray:10.0.0.1")


def test_the_environment_is_named_where_it_says_so(workspace, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_EXECUTOR", "locl")
    vars(workspace).pop("config", None)
    with pytest.raises(
        NotFound, match=r"^no executor \(as ADAPTKIT_EXECUTOR says\) called 'locl': known are local"
    ):
        workspace.verify()
    assert workspace.verify(on="local").sound == ()


def test_the_file_and_the_line_are_named_where_they_say_so(workspace):
    file = workspace.home.config_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('author = "ada"\nexecutor = "dask://"\n')
    vars(workspace).pop("config", None)
    with pytest.raises(
        ExecutorError,
        match=rf"'dask://' is no address of a cluster \(as {file}, line 2, says\): it has the form",
    ):
        workspace.verify()


def test_a_setting_that_no_operation_could_use_is_not_written(workspace):
    workspace.set_config("executor", ["dask://10.0.0.1"])
    with pytest.raises(NotFound, match=f"no executor called 'locl': known are {FORMS}"):
        workspace.set_config("executor", ["locl"])
    with pytest.raises(ExecutorError, match="'ray:///x' is no address of a cluster"):
        workspace.set_config("executor", ["ray:///x"])
    assert workspace.get_config("executor") == "dask://10.0.0.1"
    workspace.set_config("executor", [])
    assert workspace.get_config("executor") == ""
