"""vLLM's workers get verified folders of fixed versions, or nothing."""

from __future__ import annotations

import ast
import asyncio
import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import tiny

from adaptkit.errors import Refused
from adaptkit.plugin.manager import Plugins
from adaptkit_plugins.engines import vllm

TWIN = Path(__file__).with_name("vllm_twin.py")


@pytest.fixture(params=["twin", "wheel"])
def interface(request, monkeypatch):
    """vLLM's modules as the resolver imports them: the twin, or the real ones without what needs a GPU."""
    if request.param == "wheel":
        package = unpacked_wheel() / "vllm"
        for name in ("vllm", "vllm.lora"):
            module = ModuleType(name)
            module.__path__ = [str(package.joinpath(*name.split(".")[1:]))]
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("vllm.lora.request", "vllm.lora.resolver"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        yield import_module("vllm.lora.resolver")
        for name in [name for name in sys.modules if name.startswith("vllm.")]:
            del sys.modules[name]
        return
    spec = spec_from_file_location("vllm_twin", TWIN)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm_twin", module)
    spec.loader.exec_module(module)
    for name in ("vllm", "vllm.lora"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ("vllm.lora.request", "vllm.lora.resolver"):
        monkeypatch.setitem(sys.modules, name, module)
    yield module


def unpacked_wheel():
    wheel = os.environ.get("ADAPTKIT_VLLM_WHEEL")
    if not wheel:
        pytest.skip(
            "pip download vllm --no-deps, unzip it, and set ADAPTKIT_VLLM_WHEEL to the folder"
        )
    return Path(wheel)


@pytest.fixture
def fleet_home(workspace, tiny_llama, lora_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_HOME", str(workspace.home.path))
    workspace.add(lora_pair[0], "naval", base=str(tiny_llama), alias="prod")
    dora = {"r": 2, "use_dora": True, "target_modules": ["q_proj"]}
    workspace.add(
        tiny.save_adapter(tiny_llama, tmp_path / "d", 3, **dora), "dora", base=str(tiny_llama)
    )
    return workspace


def resolve(base, name):
    return asyncio.run(vllm.make_resolver().resolve_lora(str(base), name))


def test_a_version_is_resolved_to_its_verified_folder(interface, fleet_home, tiny_llama):
    request = resolve(tiny_llama, "naval@1")
    assert request.lora_path == str(fleet_home.store.tree(fleet_home.version("naval@1").digest))
    assert request.lora_name == "naval@1"
    again = resolve(tiny_llama, "naval@1")
    assert request.lora_int_id == again.lora_int_id > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("naval", "an alias would never move"),
        ("naval@prod", "an alias would never move"),
        ("../naval@1", "cannot hand '../naval@1' to vLLM"),
        ("a/../../b@1", "cannot hand"),
        ("nvaal@1", "no adapter called 'nvaal'"),
        ("dora@1", "vllm 0.33 does not apply all of it: use_dora"),
    ],
)
def test_what_vllm_must_not_load_is_no_request_and_the_log_says_why(
    interface, fleet_home, tiny_llama, caplog, name, reason
):
    assert resolve(tiny_llama, name) is None
    assert reason in caplog.text


def test_an_adapter_of_another_base_is_no_request(interface, fleet_home, tmp_path, caplog):
    assert resolve(tiny.save_llama(tmp_path / "other", seed=8), "naval@1") is None
    assert "cannot serve naval@1 on this base" in caplog.text


def test_a_rank_above_vllms_is_no_request(interface, fleet_home, tiny_llama, monkeypatch, caplog):
    monkeypatch.setenv(vllm.RANK_LIMIT, "1")
    assert resolve(tiny_llama, "naval@1") is None
    assert "--max-lora-rank 8" in caplog.text


def test_registering_twice_registers_once(interface):
    vllm.register_resolver()
    vllm.register_resolver()
    assert list(interface.LoRAResolverRegistry.resolvers) == ["adaptkit"]


def test_vllm_finds_the_entry_point():
    (found,) = entry_points(group="vllm.general_plugins", name="adaptkit")
    assert found.load() is vllm.register_resolver


def test_the_engine_starts_vllm_with_the_flags_of_the_resolver():
    engine = Plugins.from_environment().engine("vllm")
    command = engine.command("/models/ship", host="127.0.0.1", port=9, slots=4, rank_limit=32)
    assert command[:3] == ("vllm", "serve", "/models/ship")
    assert command[command.index("--served-model-name") + 1] == "base"
    assert engine.gateway
    assert command[-4:] == ("--max-loras", "4", "--max-lora-rank", "32")
    assert engine.environment(32)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_a_name_that_may_move_is_refused_with_what_to_ask_for():
    with pytest.raises(Refused, match=r"keeps what a name meant first(?s:.*)such as naval@3"):
        vllm.check_fixed("naval")


def test_the_twin_has_the_signatures_of_the_real_interface():
    wheel = unpacked_wheel()
    real = signatures(wheel / "vllm" / "lora" / "resolver.py")
    ours = signatures(TWIN)
    for name in ("resolve_lora", "get_supported_resolvers", "register_resolver"):
        assert ours[name] == real[name]
    fields = (wheel / "vllm" / "lora" / "request.py").read_text()
    assert all(f"{name}:" in fields for name in ("lora_name", "lora_int_id", "lora_path"))


def signatures(path):
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
