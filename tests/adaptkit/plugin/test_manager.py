"""adaptkit.plugin.manager: plugins that were really installed by pip, good and bad; one never takes another with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from functools import cache
from importlib.metadata import entry_points

import click
import pytest
import tiny
from click.testing import CliRunner
from scratch import BROKEN, EVERYTHING

from adaptkit.errors import BadAdapter, BadWeights, NotFound, PluginError
from adaptkit.extend.review import Delete, MoveAlias, Objection, Severity
from adaptkit.plugin.entry_points import EntryPoint
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Event

BUILT_INS = tuple(
    sorted(
        point.name for point in entry_points(group="adaptkit") if point.name.startswith("builtin-")
    )
)


@cache
def listed(env, **how):
    """The records of `adaptkit plugins --json`, by plugin."""
    done = env.adaptkit("plugins", "--json", **how)
    assert done.returncode == 0, done.stderr
    return {record["plugin"]: record for record in json.loads(done.stdout)}


def asked(env, script, **how):
    """What a script prints as JSON when it is run in the environment, with `plugins` at hand."""
    start = "import json, sys\nfrom adaptkit.plugin.manager import Plugins\nplugins = Plugins.from_environment()\n"
    done = env.run("-c", start + textwrap.dedent(script), **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------- really installed


def test_each_broken_plugin_fails_alone_and_says_why(scratch):
    found = listed(scratch)
    failed = {name: record for name, record in found.items() if record["status"] == "failed"}
    assert tuple(failed) == BROKEN
    reasons = {name: record["reason"] for name, record in failed.items()}
    assert reasons["broken"] == "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"
    assert reasons["exiting"] == "SystemExit: 0"
    assert reasons["half"] == "ZeroDivisionError: division by zero"
    assert reasons["misspelt"] == (
        "PluginValidationError: there is no hook 'register_merge_strategie', "
        "nearest is 'register_merge_strategies'"
    )
    assert "'registrar'" in reasons["arguments"]
    assert "register_trainers" in reasons["arguments"]
    assert all(record["registered"] == {} for record in failed.values())
    assert failed["broken"]["distribution"] == "acme-broken"
    assert failed["broken"]["version"] == "2.0"
    assert {name: found[name]["status"] for name in BUILT_INS} == dict.fromkeys(BUILT_INS, "loaded")


def test_a_good_plugin_among_broken_ones_gives_everything_it_has(scratch):
    assert listed(scratch)["good"] == {
        "plugin": "good",
        "distribution": "acme-good",
        "version": "1.2",
        "status": "loaded",
        "registered": {
            "methods": ["good-method"],
            "backends": ["good", "goods"],
            "strategies": ["good-mean"],
            "trainers": ["good-trainer"],
            "engines": ["good-engine"],
            "commands": ["fleet"],
            "hooks": ["review", "on_event"],
        },
        "reason": "",
    }
    script = """
        print(json.dumps([plugins.method("good-method").name, plugins.strategy("good-mean").name,
                          plugins.backend_for("goods://x/y").__name__, plugins.trainer("good-trainer").name,
                          plugins.engine("good-engine").name, plugins.backend_for("file:///x").__name__]))
    """
    assert asked(scratch, script) == [
        "good-method",
        "good-mean",
        "Backend",
        "good-trainer",
        "good-engine",
        "FileBackend",
    ]


def test_a_half_good_plugin_publishes_nothing(scratch):
    script = """
        from adaptkit.errors import NotFound
        try:
            plugins.strategy("half-good")
        except NotFound as error:
            print(json.dumps([str(error), plugins.names("strategies")]))
    """
    message, names = asked(scratch, script, only=("half", "good"))
    assert "half-good" not in names
    assert message.startswith("no strategy called 'half-good': known are ")
    assert message.endswith("the plugins half failed to load: adaptkit plugins doctor")


def test_a_name_that_two_plugins_claim_belongs_to_neither(scratch):
    script = """
        from adaptkit.errors import PluginError
        names = [strategy.name for strategy in plugins.strategies()]
        try:
            print(json.dumps([plugins.strategy("linear2").name, names]))
        except PluginError as error:
            print(json.dumps([str(error), names]))
    """
    message, names = asked(scratch, script)
    assert message.splitlines() == [
        "the strategy 'linear2' is claimed by 2 plugins: first and second",
        "  ADAPTKIT_DISABLE_PLUGINS=second leaves 'first'",
    ]
    assert "linear2" not in names
    assert "linear" in names
    assert asked(scratch, script, only=("first",))[0] == "linear2"
    found = listed(scratch)
    assert "'linear2' is claimed by second too" in found["first"]["reason"]
    assert "'linear2' is claimed by first too" in found["second"]["reason"]


def test_one_entry_point_name_of_two_distributions_loads_both(scratch):
    found = listed(scratch)
    assert found["acme-twin-a:twin"]["registered"] == {"strategies": ["twin-a"]}
    assert found["acme-twin-b:twin"]["registered"] == {"strategies": ["twin-b"]}
    off = listed(scratch, ADAPTKIT_DISABLE_PLUGINS="acme-twin-a:twin")
    assert (off["acme-twin-a:twin"]["status"], off["acme-twin-b:twin"]["status"]) == (
        "disabled",
        "loaded",
    )


@pytest.mark.parametrize("name", BROKEN)
def test_strict_mode_raises_what_breaks_and_names_the_plugin(scratch, name):
    done = scratch.adaptkit("list", only=(name,), ADAPTKIT_STRICT_PLUGINS="1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the plugin '{name}' cannot be loaded: ")
    assert f"ADAPTKIT_DISABLE_PLUGINS={name} goes on without it" in done.stderr


def test_strict_mode_shows_where_and_has_nothing_against_good_plugins(scratch):
    done = scratch.run(
        "-m",
        "adaptkit",
        "plugins",
        only=("broken",),
        ADAPTKIT_STRICT_PLUGINS="1",
        ADAPTKIT_DEBUG="1",
    )
    assert "import a_library_that_is_not_there" in done.stderr  # the line itself, in the traceback
    fine = scratch.adaptkit(
        "plugins", "--json", only=("good", "follower"), ADAPTKIT_STRICT_PLUGINS="1"
    )
    assert fine.returncode == 0


def test_disabled_plugins_are_not_imported_and_are_known(scratch):
    script = "print(json.dumps([plugins.disabled, 'acme_good' in sys.modules, plugins.unmatched]))"
    off, imported, unmatched = asked(
        scratch, script, ADAPTKIT_DISABLE_PLUGINS=" good, builtin-peft,,goood "
    )
    assert (off, imported, unmatched) == (["builtin-peft", "good"], False, ["goood"])
    found = listed(scratch, ADAPTKIT_DISABLE_PLUGINS="good")
    assert (found["good"]["status"], found["good"]["reason"]) == (
        "disabled",
        "in ADAPTKIT_DISABLE_PLUGINS",
    )


def test_disabled_plugins_are_recorded_in_events(scratch, tmp_path, lora_pair):
    home = {"ADAPTKIT_HOME": str(tmp_path / "home"), "GOOD_LOG": str(tmp_path / "log")}
    adapter = shutil.copytree(lora_pair[0], tmp_path / "naval")
    tiny.edit_config(adapter, base_model_name_or_path="fleet/ship")  # no folder: nothing to read
    assert scratch.adaptkit("init", only=("good",), **home).returncode == 0
    done = scratch.adaptkit("add", adapter, "--name", "naval", "--json", only=("good",), **home)
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout)["version"] == 1
    )  # stdout is data, although a plugin prints while it is imported
    assert "a plugin that talks" in done.stderr
    assert (tmp_path / "log").read_text() == "added naval@1\n"
    script = f"""
        from adaptkit import Workspace
        with Workspace.open({str(tmp_path / "home")!r}) as ws:
            seen = []
            ws.plugins.emit = lambda event: seen.append(dict(event.detail)) or ()
            ws.alias("naval", "canary", 1)
        print(json.dumps(seen))
    """
    (detail,) = asked(scratch, script, only=("good", "follower"), **home)
    assert "broken" in detail["plugins_off"]
    assert "good" not in detail["plugins_off"]


def test_a_review_that_raises_refuses_and_names_its_plugin(scratch):
    script = """
        from adaptkit.extend.review import MoveAlias
        found = plugins.review(MoveAlias("naval", "prod", None, 1))
        print(json.dumps([[name, one.text, one.severity] for name, one in found]))
    """
    assert asked(scratch, script, only=("good", "reviewer")) == [
        ["good", "not on a Friday", "refuse"],
        ["good", "so late", "warn"],
        ["reviewer", "its review broke: RuntimeError: no ink", "refuse"],
    ]


def test_an_event_handler_that_raises_becomes_a_warning_and_the_rest_hear_it(scratch, tmp_path):
    script = """
        from adaptkit.types import Event
        print(json.dumps(plugins.emit(Event("merged", "bridge@1"))))
    """
    warned = asked(scratch, script, only=("good", "follower"), GOOD_LOG=str(tmp_path / "log"))
    assert warned == ["the plugin 'follower' broke on the event 'merged': RuntimeError: line busy"]
    assert (tmp_path / "log").read_text() == "merged bridge@1\n"


def test_a_plugins_command_runs_and_never_replaces_one_of_ours(scratch):
    assert scratch.adaptkit("fleet").stdout == "all ships\n"
    assert scratch.adaptkit("muster").stdout == "muster of a plugin\n"
    help_text = scratch.adaptkit("--help").stdout
    assert "Greet the fleet." in help_text
    assert "of a plugin" not in scratch.adaptkit("merge", "--help").stdout
    assert "'merge' exists already" in listed(scratch)["commander"]["reason"]


def test_a_command_that_two_plugins_claim_says_so_when_used(scratch):
    done = scratch.adaptkit("survey", "--deep", "x")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "error: the command 'survey' is claimed by 2 plugins: first and second",
        "  ADAPTKIT_DISABLE_PLUGINS=second leaves 'first'",
    ]
    assert scratch.adaptkit("survey", only=("second",)).stdout == "survey of a plugin\n"


def test_loading_every_built_in_imports_nothing_heavy():
    heavy = (
        "torch",
        "transformers",
        "peft",
        "numpy",
        "sqlalchemy",
        "alembic",
        "rich",
        "matplotlib",
        "click",
        "importlib.metadata",
    )
    script = f"""
import sys
from adaptkit.plugin.catalogue import KINDS
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Event
plugins = Plugins.from_environment()
plugins.emit(Event("added", "a@1"))
print(*(len(plugins.names(kind)) for kind in KINDS))
print(*(name for name in {heavy} if name in sys.modules))
print(*(record.status for record in plugins.records()))
"""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("ADAPTKIT_")
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    offered, imported, statuses = done.stdout.splitlines()
    methods, backends, strategies, *_ = map(int, offered.split())
    assert min(methods, backends, strategies) > 3
    assert imported == ""
    assert set(statuses.split()) == {"loaded"}


def test_the_built_ins_work_among_broken_plugins(scratch, tmp_path, lora_pair):
    calm = tuple(set(EVERYTHING) - {"reviewer"})  # whose broken review refuses every merge
    done = scratch.adaptkit(
        "merge",
        *lora_pair,
        "--out",
        tmp_path / "both",
        "--strategy",
        "linear",
        "--json",
        only=calm,
        ADAPTKIT_HOME=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["strategy"] == "linear"
    assert (tmp_path / "both" / "adapter_model.safetensors").is_file()


def test_a_workspace_works_with_every_plugin_broken(scratch, tmp_path):
    home = {"ADAPTKIT_HOME": str(tmp_path / "home")}
    off = {"ADAPTKIT_DISABLE_PLUGINS": ",".join(BUILT_INS)}
    assert scratch.adaptkit("init", **home, **off).returncode == 0
    done = scratch.adaptkit("list", "--json", **home, **off)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


# ---------------------------------------------------------------- one plugin at a time, in this process


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """`plugin(name, body)`: the entry point of a module with that body."""
    monkeypatch.syspath_prepend(tmp_path)
    imports = (
        "from adaptkit import hookimpl\nfrom adaptkit_plugins.strategies.linear import Linear\n"
        "from adaptkit_plugins.methods.generic import Generic\n"
    )

    def write(name, body):
        module = f"plugin_{name}_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(imports + textwrap.dedent(body))
        return EntryPoint(name, module)

    return write


METHOD = """
class Method(Generic):
    name, generic = {name!r}, {generic}
    def recognises(self, view):
        {body}
@hookimpl
def register_adapter_methods(register): register(Method())
"""


def method(plugin, name, body, *, generic=False, owner=None):
    return plugin(owner or name, METHOD.format(name=name, generic=generic, body=body))


class View:
    label, header, base_shapes = "./naval", {}, None

    def __init__(self, peft_type="IA3"):
        self.config = {"peft_type": peft_type}


def test_the_specific_method_goes_before_the_catch_all(plugin):
    ia3 = method(plugin, "ia3", "return view.config['peft_type'] == 'IA3'")
    anything = method(plugin, "anything", "return True", generic=True)
    plugins = Plugins([anything, ia3])
    assert [one.name for one in plugins.methods()] == ["anything", "ia3"]
    assert plugins.method_for(View()).name == "ia3"
    assert plugins.method_for(View("OFT")).name == "anything"
    with pytest.raises(NotFound, match="no method for peft_type called 'OFT': known is ia3"):
        Plugins([ia3]).method_for(View("OFT"))


def test_two_methods_that_recognise_one_adapter_are_named(plugin):
    plugins = Plugins(
        [
            method(plugin, "one", "return True"),
            method(plugin, "two", "return True"),
            method(plugin, "any", "return True", generic=True),
        ]
    )
    with pytest.raises(PluginError) as raised:
        plugins.method_for(View())
    assert str(raised.value).splitlines() == [
        "2 methods claim ./naval: 'one' of one and 'two' of two",
        "  ADAPTKIT_DISABLE_PLUGINS=two leaves 'one'",
    ]


def test_a_method_whose_name_is_claimed_twice_recognises_nothing(plugin):
    yes = method(plugin, "ia3", "return True", owner="yes")
    no = method(plugin, "ia3", "return False", owner="no")
    with pytest.raises(PluginError, match="'ia3' is claimed by 2 plugins: no and yes"):
        Plugins([yes, no]).method_for(View())


@pytest.mark.parametrize(
    "broken",
    [
        "1 / 0",
        "raise SystemExit(1)",
        "from adaptkit.errors import PluginError; raise PluginError('x')",
    ],
)
def test_a_method_that_breaks_while_recognising_is_named(plugin, broken):
    with pytest.raises(
        PluginError, match=r"the plugin 'bad' broke on \./naval: .*\n  ADAPTKIT_DISABLE_PLUGINS=bad"
    ):
        Plugins([method(plugin, "bad", broken)]).method_for(View())


def test_an_unreadable_adapter_is_not_the_plugins_fault(plugin):
    reading = method(
        plugin, "reader", "from adaptkit.errors import BadWeights; raise BadWeights('cut short')"
    )
    with pytest.raises(BadAdapter, match=r"^cut short$") as raised:
        Plugins([reading]).method_for(View())
    assert type(raised.value) is BadWeights


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("return None", []),
        ("return ()", []),
        ("yield Objection('no')", [Objection("no", Severity.REFUSE)]),
        (
            "return 'no'",
            [
                Objection(
                    "its review broke: TypeError: it returned 'no', not an adaptkit.extend.review.Objection (or a list of them)"
                )
            ],
        ),
        (
            "return Objection('no')",
            [Objection("no")],
        ),
        ("raise SystemExit(0)", [Objection("its review broke: SystemExit: 0")]),
        ("yield Objection('no'); raise OSError", [Objection("its review broke: OSError")]),
    ],
)
def test_a_review_passes_only_when_it_returns_no_objection(plugin, answer, expected):
    body = f"from adaptkit.extend.review import Objection\n@hookimpl\ndef review(action):\n    {answer}\n"
    found = Plugins([plugin("judge", body)]).review(Delete(()))
    assert found == tuple(("judge", objection) for objection in expected)


def test_a_review_is_called_what_its_plugin_says_else_as_its_plugin(plugin):
    hook = "@hookimpl\ndef review(action): return None\n"
    plugins = Plugins(
        [
            plugin("acme-size", f"REVIEW = 'size'\n{hook}"),
            plugin("colour", hook),
            plugin("quiet", "@hookimpl\ndef on_event(event): pass\n"),
        ]
    )
    assert plugins.review_names() == ("acme-size", "colour", "size")


SPEECHLESS = "class Odd(Exception):\n    def __str__(self): raise SystemExit(5)\n"


def test_an_error_that_cannot_be_printed_is_named_all_the_same(plugin):
    both = "@hookimpl\ndef review(action): raise Odd\n@hookimpl\ndef on_event(event): raise Odd\n"
    plugins = Plugins(
        [plugin("bad", f"{SPEECHLESS}raise Odd\n"), plugin("mute", SPEECHLESS + both)]
    )
    assert [(record.status, record.reason) for record in plugins.records()] == [
        ("failed", "Odd"),
        ("loaded", ""),
    ]
    assert plugins.review(Delete(())) == (("mute", Objection("its review broke: Odd")),)
    assert plugins.emit(Event("added", "a@1")) == (
        "the plugin 'mute' broke on the event 'added': Odd",
    )


def test_what_a_plugin_prints_never_stands_among_the_data(plugin, capsys):
    body = """
        print("loaded")
        @hookimpl
        def review(action):
            print("reviewed")
            yield from ()
        @hookimpl
        def on_event(event): print("followed")
    """
    plugins = Plugins([plugin("talker", body)])
    plugins.review(Delete(()))
    plugins.emit(Event("added", "a@1"))
    assert capsys.readouterr() == ("", "loaded\nreviewed\nfollowed\n")


def test_a_hook_marked_optional_is_not_the_misspelt_one(plugin):
    body = "@hookimpl(optionalhook=True)\ndef another_tools_hook(x): pass\n@hookimpl\ndef reviw(action): pass\n"
    (record,) = Plugins([plugin("bad", body)]).records()
    assert record.reason == "PluginValidationError: there is no hook 'reviw', nearest is 'review'"


USES = (
    ("review(action)", lambda p: p.review(MoveAlias("a", "b", None, 1))),
    ("on_event(event)", lambda p: p.emit(Event("added", "a@1"))),
)


def test_ctrl_c_is_never_swallowed(plugin):
    pressed = "import os, signal\n{head}os.kill(os.getpid(), signal.SIGINT)\n"
    for hook, use in USES:
        body = pressed.format(head=f"@hookimpl\ndef {hook}: ")
        with pytest.raises(KeyboardInterrupt):
            use(Plugins([plugin(hook[:2], body)]))
    with pytest.raises(KeyboardInterrupt):
        Plugins([plugin("early", pressed.format(head=""))]).records()


def test_an_interrupt_that_a_plugin_raises_by_itself_is_a_failure_of_that_plugin(plugin):
    body = "@hookimpl\ndef {hook}: raise KeyboardInterrupt\n"
    (_, objection), *_ = USES[0][1](Plugins([plugin("odd", body.format(hook=USES[0][0]))]))
    assert objection.text == "its review broke: KeyboardInterrupt"
    (warning,) = USES[1][1](Plugins([plugin("odder", body.format(hook=USES[1][0]))]))
    assert warning.endswith("broke on the event 'added': KeyboardInterrupt")
    (record,) = Plugins([plugin("early", "raise KeyboardInterrupt")]).records()
    assert (record.status, record.reason) == ("failed", "KeyboardInterrupt")


def test_a_plugin_sees_only_its_own_hooks(plugin):
    """A wrapper of one plugin does not change what another returns."""
    strong = plugin(
        "strong",
        "@hookimpl(wrapper=True, tryfirst=True)\ndef review(action):\n    yield\n    return []\n",
    )
    plain = plugin(
        "plain",
        "from adaptkit.extend.review import Objection\n@hookimpl\ndef review(action): return [Objection('no')]\n",
    )
    assert Plugins([strong, plain]).review(Delete(())) == (("plain", Objection("no")),)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "@hookimpl\ndef register_merge_strategies(register): register(Linear)\n",
            "PluginError: register_merge_strategies was handed",
        ),
        (
            "@hookimpl\ndef register_commands(cli):\n    cli.command('x')(print)\n    raise SystemExit\n",
            "SystemExit",
        ),
        ("def __getattr__(name): raise RuntimeError('odd')\nassert 0", "AssertionError"),
    ],
)
def test_whatever_breaks_while_loading_leaves_nothing_behind(plugin, body, reason):
    good = plugin(
        "zeta", "@hookimpl\ndef register_merge_strategies(register): register(Linear())\n"
    )
    plugins = Plugins([plugin("bad", body), good])
    bad, fine = plugins.records()
    assert (bad.status, dict(bad.registered), fine.status) == ("failed", {}, "loaded")
    assert bad.reason.startswith(reason)
    assert plugins.names("commands") == ()
    assert plugins.strategy("linear").name == "linear"


def test_an_object_that_pluggy_cannot_keep_fails_alone(plugin):
    body = "class Plugin:\n    __hash__ = None\nit = Plugin()\n"
    entry = plugin("unhashable", body)
    good = plugin(
        "zeta", "@hookimpl\ndef register_merge_strategies(register): register(Linear())\n"
    )
    first, second = Plugins([EntryPoint("unhashable", f"{entry.value}:it"), good]).records()
    assert (first.reason, second.status) == ("TypeError: unhashable type: 'Plugin'", "loaded")


def test_a_plugin_without_a_hook_is_told_how_to_mark_them(plugin):
    (record,) = Plugins(
        [plugin("bare", "def register_merge_strategies(register): register(Linear())\n")]
    ).records()
    assert (record.status, record.reason) == (
        "loaded",
        "it implements no hook: mark its functions with adaptkit.hookimpl",
    )


def test_commands_are_added_to_a_group_and_those_there_already_stay(plugin):
    body = "@hookimpl\ndef register_commands(cli):\n    cli.command('a')(lambda: print('theirs'))\n    cli.command('b')(lambda: print('b'))\n"
    plugins = Plugins([plugin("commands", body)])
    cli = click.Group(commands={"a": click.Command("a", callback=lambda: print("ours"))})
    for _ in range(2):
        plugins.add_commands(cli)
    runner = CliRunner()
    assert (runner.invoke(cli, ["a"]).output, runner.invoke(cli, ["b"]).output) == ("ours\n", "b\n")
    assert (
        plugins.records()[0].reason == "the command 'a' exists already, so its own was left out"
    )  # b is well


MARK = "import builtins\nbuiltins.{name}_was_loaded = True\n"


def test_a_plugin_that_declares_what_it_offers_is_loaded_when_that_is_asked_for(plugin):
    import builtins
    from dataclasses import replace

    body = "@hookimpl\ndef register_merge_strategies(register): register(Linear())\n"
    entry = replace(
        plugin("lazy", MARK.format(name="lazy") + body), declared=frozenset({"strategies"})
    )
    silent = plugin("silent", MARK.format(name="silent") + "@hookimpl\ndef review(action): pass\n")
    plugins = Plugins([entry, silent])
    assert plugins.names("commands") == ()
    assert (hasattr(builtins, "lazy_was_loaded"), builtins.silent_was_loaded) == (False, True)
    assert plugins.strategy("linear").name == "linear"
    assert builtins.lazy_was_loaded
    assert [(record.status, record.reason) for record in plugins.records()] == [("loaded", "")] * 2
    del builtins.lazy_was_loaded, builtins.silent_was_loaded


def test_a_plugin_that_offers_more_than_it_declares_is_named(plugin):
    from dataclasses import replace

    body = "@hookimpl\ndef register_commands(cli): cli.command('fleet')(print)\n@hookimpl\ndef review(action): pass\n"
    entry = replace(plugin("more", body), declared=frozenset({"strategies"}))
    plugins = Plugins([entry])
    assert plugins.names("commands") == ()  # it was not loaded for them
    (record,) = plugins.records()
    assert record.reason == (
        "it offers commands and review, which its entry points do not declare: "
        "list it under [adaptkit.commands] too"
    )


def test_every_built_in_declares_what_it_offers():
    from adaptkit.plugin.entry_points import installed

    declared = {point.name: point.declared for point in installed("adaptkit")}
    for record in Plugins.from_environment({}).records():
        if record.plugin in BUILT_INS:
            kinds = {kind for kind in record.registered if kind != "hooks"}
            assert declared[record.plugin] == kinds | set(record.registered.get("hooks", ()))


def test_help_loads_no_built_in():
    script = """
import sys
from adaptkit.cli import main
main(["--help"])
print(*(name for name in sys.modules if name.startswith("adaptkit_plugins.") or name == "pluggy"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ""


def test_the_environment_is_read_at_the_edge(monkeypatch):
    monkeypatch.setenv("ADAPTKIT_DISABLE_PLUGINS", "builtin-lora")
    assert Plugins.from_environment({}).disabled == ()
    assert Plugins.from_environment({"ADAPTKIT_DISABLE_PLUGINS": "builtin-peft"}).disabled == (
        "builtin-peft",
    )
