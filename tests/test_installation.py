"""What a plain install holds, what the extras add, and the line that each missing library is named with."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from functools import cache
from importlib.metadata import distribution as metadata_of
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import adaptkit
from adaptkit.errors import MissingExtra, distribution, install_line, requires_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = [
    path.relative_to(ROOT)
    for root in ("adaptkit", "plugins", "registry_db")
    for path in sorted((ROOT / root).rglob("*.py"))
]
# Libraries that come with one that is asked for by name.
COMES_WITH = {"httpx2": "huggingface-hub", "cryptography": "model-signing", "grpc": "grpcio"}
# Modules whose functions are reached only through another, which asks for the library first (or through
# their own property that does).
REACHED_THROUGH = {
    "plugins/adaptkit_plugins/storage/objects/bucket.py": "plugins/adaptkit_plugins/storage/objects/address.py",
    "plugins/adaptkit_plugins/storage/objects/retries.py": "plugins/adaptkit_plugins/storage/objects/address.py",
    "plugins/adaptkit_plugins/storage/oci/blobs.py": "plugins/adaptkit_plugins/storage/oci/client.py",
    "plugins/adaptkit_plugins/storage/oci/client.py": "plugins/adaptkit_plugins/storage/oci/client.py",
    "plugins/adaptkit_plugins/storage/oci/errors.py": "plugins/adaptkit_plugins/storage/oci/client.py",
    "plugins/adaptkit_plugins/storage/oci/retries.py": "plugins/adaptkit_plugins/storage/oci/client.py",
}
# Packages that an operation of the workspace reaches, and the extras that hold what they import.
ROOMS = {
    "adaptkit/training": ("train", "torch", "plot"),
    "adaptkit/evaluation": ("train", "torch", "plot", "lm-eval"),
    "adaptkit/search": ("search", "plot"),
    "adaptkit/serving": ("serve", "torch"),
    "adaptkit/workspace/train/generate.py": ("torch",),
    "adaptkit/workspace/lookup/live.py": ("torch",),
    "adaptkit/workspace/train/train.py": ("train", "torch"),
    "plugins/adaptkit_plugins/executors": ("ray", "dask"),
    "plugins/adaptkit_plugins/storage/objects": ("s3", "aws"),
    "plugins/adaptkit_plugins/trainers": ("train", "torch", "qlora"),
}
# Modules that catch ImportError: they go on without the library and say what is then unknown, or (no extra holds
# diffusers) refuse.
WITHOUT = {
    "adaptkit/bake/check_pipeline.py",
    "adaptkit/bases/classes/diffusers_classes.py",
    "adaptkit/bases/classes/layers.py",
    "adaptkit/bases/classes/peft_names.py",
    "adaptkit/bases/classes/timm_classes.py",
    "adaptkit/bases/classes/transformers_classes.py",
    "adaptkit/bases/classes/uses.py",  # is given a model of torch's
    "plugins/adaptkit_plugins/engines/vllm.py",
    "plugins/adaptkit_plugins/methods/lora/oracle.py",
    "plugins/adaptkit_plugins/methods/lora/originals.py",
    "plugins/adaptkit_plugins/trainers/unsloth/worker.py",  # runs in an environment of its own
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def requirements(extra=None):
    """The distributions of an extra (None: of a plain install), with those of the extras it names."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = set()
    for line in lines:
        name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?.*", line).groups()
        if name == PROJECT["name"]:
            found |= set().union(*map(requirements, extras.split(",")))
        else:
            found.add(normal(name))
    return found


PLAIN = requirements()


@cache
def distributions():
    """Which distributions hold a module."""
    return packages_distributions()


def providers(module):
    """The distributions that an import of a module may need; empty for Python's own and for ours."""
    if module in sys.stdlib_module_names or module.startswith("adaptkit"):
        return set()
    if module in COMES_WITH:
        return {COMES_WITH[module]}
    return {normal(name) for name in distributions().get(module, [module])}


@cache
def imports(path):
    """(module, line, enclosing functions, extras asked for around it), type checking left out."""

    def visit(node, functions, extras):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions = (*functions, node.name)
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            extras = (
                *extras,
                *(
                    call.args[0].value
                    for call in calls
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "requires_extra"
                ),
            )
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno, functions, extras
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0], node.lineno, functions, extras
        for child in ast.iter_child_nodes(node):
            yield from visit(child, functions, extras)

    return list(visit(ast.parse((ROOT / path).read_text()), (), ()))


def asked_for(path):
    """The distributions that a module asks for by `requires_extra`."""
    return {
        one
        for module, _, _, extras in imports(path)
        for one in providers(module)
        if any(one in requirements(extra) for extra in extras)
    }


def test_every_optional_library_is_imported_through_requires_extra():
    assert [line for path in SOURCES for line in wrong_imports(path)] == []


def wrong_imports(path):
    """A line for each import of an optional library that no `requires_extra` stands before."""
    own, gate = asked_for(path), REACHED_THROUGH.get(path.as_posix())
    behind = asked_for(gate) if gate else set()
    if path.as_posix() in WITHOUT:
        return
    for room, allowed in ROOMS.items():
        if path.is_relative_to(room):
            behind = behind.union(*map(requirements, allowed))
    for module, line, functions, extras in imports(path):
        if module == "pytest" and path.is_relative_to("adaptkit/testing"):
            continue  # the conformance kit runs inside pytest
        needed = providers(module)
        if not needed or needed & PLAIN or needed & behind:
            continue
        private = any(name.startswith("_") and not name.endswith("__") for name in functions)
        if private and needed & own:
            continue  # a private function, reached from the public ones of its module
        if not functions:
            yield f"{path}:{line}: {module} is optional and imported with the module"
        elif not any(needed & requirements(extra) for extra in extras):
            yield f"{path}:{line}: {module} is imported outside of requires_extra(…)"


def test_the_modules_reached_through_another_exist():
    named = {Path(path) for pair in REACHED_THROUGH.items() for path in pair} | set(
        map(Path, WITHOUT)
    )
    assert named <= set(SOURCES)
    assert all(Path(ROOT, room).exists() for room in ROOMS)


def test_the_metadata_knows_the_name_and_version():
    assert distribution() == (PROJECT["name"], PROJECT["version"])
    assert adaptkit.__version__ == PROJECT["version"]


def test_install_lines_name_this_project_and_no_strangers():
    assert install_line() == "pip install adaptkit-peft"
    assert install_line("torch") == "pip install 'adaptkit-peft[torch]'"
    assert install_line(at_least="7.2.0") == "pip install 'adaptkit-peft>=7.2.0'"
    assert install_line(upgrade=True) == "pip install --upgrade adaptkit-peft"


def test_a_missing_library_is_an_error_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as caught, requires_extra("plot", "cannot draw 'spectrum'"):
        import matplotlib as mpl  # noqa: F401
    assert str(caught.value) == (
        "cannot draw 'spectrum': the optional part 'plot' is not installed\n"
        "  pip install 'adaptkit-peft[plot]'"
    )


def test_a_library_that_is_installed_and_broken_has_its_own_words_in_the_error():
    with pytest.raises(MissingExtra) as caught, requires_extra("torch", "cannot load 'naval'"):
        raise ImportError("libcudart.so.12: cannot open shared object file")
    assert caught.value.why == (
        "a library of the optional part 'torch' is broken: "
        "libcudart.so.12: cannot open shared object file"
    )


def test_every_extra_is_in_all():
    extras = set(PROJECT["optional-dependencies"]) - {"all", "test", "lint"}
    assert set().union(*map(requirements, extras)) == requirements("all")


def test_no_page_and_no_message_installs_the_project_of_a_stranger():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in (*pages, *(ROOT / source for source in SOURCES)):
        text = path.read_text()
        assert not re.findall(r"pip install[^\n`]*\badaptkit(?!-peft|[_\w])", text), path
        assert 'dependencies = ["adaptkit"' not in text, path


@pytest.fixture
def fresh(tmp_path):
    """A copy of the sources, and a new environment: its Python comes first, and it has our dependencies but not us."""
    clone, environment = tmp_path / "clone", tmp_path / "env"
    for name in ("adaptkit", "plugins", "registry_db"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    venv.create(environment, with_pip=False, symlinks=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    folders = {str(metadata_of(name).locate_file("")) for name in ("pip", "pluggy", "setuptools")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(folders)))
    variables = os.environ | {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the other way round
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "ADAPTKIT_HOME": str(tmp_path / "home"),
    }

    def bash(script):
        done = subprocess.run(
            ["bash", "-euc", script],
            env=variables,
            cwd=clone,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return bash, clone, site_packages


def test_the_readme_installs_the_command_every_plugin_and_the_migrations(fresh):
    bash, clone, site_packages = fresh
    (script,) = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert bash(script).splitlines()[-1] == f"adaptkit, version {PROJECT['version']}"
    (wheel,) = (clone / "dist").iterdir()
    assert wheel.name == f"adaptkit_peft-{PROJECT['version']}-py3-none-any.whl"
    records = json.loads(bash("cd / && adaptkit plugins --json"))
    assert {record["plugin"] for record in records} == set(PROJECT["entry-points"]["adaptkit"])
    assert {(record["distribution"], record["status"]) for record in records} == {
        ("adaptkit-peft", "loaded")
    }
    assert (site_packages / "adaptkit_registry" / "migrations" / "script.py.mako").is_file()


def test_the_quickstart_installs_as_the_readme_does():
    (script,) = re.findall(
        r"```bash\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(), re.DOTALL
    )
    assert script.strip() in (ROOT / "README.md").read_text()
