"""The house as pyproject.toml draws it is the house as it stands."""

from __future__ import annotations

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}
PACKAGES = {
    f"adaptkit.{path.stem}"
    for path in (ROOT / "adaptkit").iterdir()
    if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
}
PUBLIC = {f"adaptkit.{name}" for name in "algebra errors extend hookspecs io types".split()}
SOURCES = [
    path
    for root in ("adaptkit", "plugins", "registry_db")
    for path in sorted((ROOT / root).rglob("*.py"))
]


def core(names):
    return {name for name in names if name.startswith("adaptkit.")}


def test_plugins_may_import_the_public_packages_and_nothing_else():
    assert core(CONTRACTS["public-names"]["forbidden_modules"]) == PACKAGES - PUBLIC


def test_the_registry_may_import_types_and_errors_and_nothing_else():
    allowed = {"adaptkit.types", "adaptkit.errors"}
    assert core(CONTRACTS["registry-knows-little"]["forbidden_modules"]) == PACKAGES - allowed


def test_every_package_but_the_workspace_is_kept_from_the_registry():
    assert core(CONTRACTS["registry-behind-workspace"]["source_modules"]) == PACKAGES - {
        "adaptkit.workspace"
    }


def test_there_are_at_most_eleven_layers_and_every_package_has_one():
    layers = CONTRACTS["layers"]["layers"]
    assert len(layers) <= 11
    named = {f"adaptkit.{name}" for layer in layers for name in re.split(r"\s*[|:]\s*", layer)}
    assert named == PACKAGES


def test_every_package_has_a_folder_of_tests():
    folders = {path.name for path in (ROOT / "tests" / "adaptkit").iterdir() if path.is_dir()}
    packages = {
        path.name for path in (ROOT / "adaptkit").iterdir() if (path / "__init__.py").is_file()
    }
    assert packages <= folders


def test_no_module_imports_a_private_name_of_another():
    private = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {alias.name} from {node.module}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptkit")
        for alias in node.names
        if re.match(r"_[a-z]", alias.name)
    ]
    assert private == []


def module_of(path):
    """The dotted name that a file is imported by."""
    inside = path.relative_to(ROOT).with_suffix("")
    parts = inside.parts if inside.parts[0] == "adaptkit" else inside.parts[1:]
    return ".".join(parts).removesuffix(".__init__")


def imported(path, modules):
    """The modules of the house that a file imports, within functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if (found := whole if whole in modules else node.module) in modules:
                    yield found


def test_no_files_import_each_other_in_a_circle():
    """But for `Workspace`, which names all operations, and which some of them name as a type."""
    modules = {module_of(path): path for path in SOURCES}
    del modules["adaptkit.workspace"]
    order = graphlib.TopologicalSorter(
        {name: set(imported(path, modules)) for name, path in modules.items()}
    )
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_formatter_is_never_switched_off():
    here = Path(__file__).resolve()
    tracked = (
        path
        for folder in ROOT.iterdir()
        if folder.is_dir() and folder.name[0] != "."
        for path in folder.rglob("*.py")
    )
    assert [
        str(path) for path in tracked if path.resolve() != here and "# fmt:" in path.read_text()
    ] == []


def test_every_benchmark_explains_itself_instead_of_running_when_asked_for_help():
    started = [
        path
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        if '__name__ == "__main__"' in path.read_text() and path.stem != "llama"  # run by others
    ]
    assert len(started) > 15
    silent = [
        path.name
        for path in started
        if "ArgumentParser(description=__doc__" not in path.read_text()
    ]
    assert silent == []
