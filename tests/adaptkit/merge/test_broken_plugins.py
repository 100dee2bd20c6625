"""What a plugin raises in a merge is an error that names it, the adapter and the module."""

from __future__ import annotations

import json
import shutil

import pytest

from adaptkit import Workspace
from adaptkit.errors import PluginError
from adaptkit.plugin.entry_points import GROUP, EntryPoint, installed
from adaptkit.plugin.manager import Plugins
from adaptkit.workspace.context.home import Home

PLUGIN = """
from adaptkit import hookimpl
from adaptkit.extend import AdapterMethod, MergeStrategy, Module

class Leaky(MergeStrategy):
    name, formula, reference = "leaky", "D = D/0", "https://example.org"
    def merge(self, tensors, weights, params, rngs):
        raise ZeroDivisionError("the hull is open")

class Hollow(AdapterMethod):
    name = "hollow"
    def recognises(self, view):
        return view.config.get("peft_type") == "HOLLOW"
    def modules(self, view):
        return (Module("model.layers.0.mlp.up_proj", "linear", (48, 32), 2, (48, 32)),)
    def delta(self, view, module):
        return {}["lora_A"]

@hookimpl
def register_merge_strategies(register): register(Leaky())
@hookimpl
def register_adapter_methods(register): register(Hollow())
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "leaking_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins([*installed(GROUP), EntryPoint("leaking", "leaking_plugin")])
    with Workspace(Home.find(tmp_path / "home"), plugins, notify=lambda _: None) as opened:
        yield opened


def test_a_strategy_that_raises_is_named_with_adapters_and_module(workspace, lora_pair, tmp_path):
    with pytest.raises(
        PluginError,
        match=r"the strategy 'leaky' \(leaking_plugin\) broke on .*one and .*two, module 'model\..*': "
        r"ZeroDivisionError: the hull is open",
    ) as caught:
        workspace.merge([str(path) for path in lora_pair], out=tmp_path / "out", strategy="leaky")
    assert "adaptkit plugins doctor" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_method_that_raises_is_named_with_adapter_and_module(workspace, lora_pair, tmp_path):
    hollow = shutil.copytree(lora_pair[0], tmp_path / "hollow")
    config = json.loads((hollow / "adapter_config.json").read_text())
    (hollow / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "HOLLOW"}))
    with pytest.raises(
        PluginError,
        match=r"the method 'hollow' \(leaking_plugin\) broke on .*hollow, "
        r"module 'model\.layers\.0\.mlp\.up_proj': KeyError: 'lora_A'",
    ):
        workspace.merge([str(hollow)], out=tmp_path / "out")
