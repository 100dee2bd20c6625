"""The public surface is what `__all__` says and what plugins may import; all of it is documented and cheap."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import adaptkit

PUBLIC = [
    "adaptkit.algebra.lowrank",
    "adaptkit.errors",
    "adaptkit.extend",
    "adaptkit.extend.artifact_files",
    "adaptkit.extend.attachments",
    "adaptkit.extend.commands",
    "adaptkit.extend.method",
    "adaptkit.extend.module_names",
    "adaptkit.extend.review",
    "adaptkit.extend.storage",
    "adaptkit.extend.strategy",
    "adaptkit.extend.versioned_storage",
    "adaptkit.hookspecs",
    "adaptkit.io.files",
    "adaptkit.io.safe_paths",
    "adaptkit.merge.recipe",
    "adaptkit.refs",
    "adaptkit.testing",
    "adaptkit.types",
    "adaptkit.workspace",
    "adaptkit.workspace.results",
]


def test_the_names_of_the_package_are_exactly_these():
    assert sorted(adaptkit.__all__) == [
        "AdapterMethod",
        "AdaptkitError",
        "Engine",
        "MergeStrategy",
        "StorageBackend",
        "Trainer",
        "Workspace",
        "__version__",
        "hookimpl",
    ]
    assert dir(adaptkit) == sorted(adaptkit.__all__)
    for name in adaptkit.__all__:
        assert getattr(adaptkit, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'merge_all'"):
        adaptkit.merge_all  # noqa: B018


def test_importing_adaptkit_loads_nothing_heavy():
    heavy = {
        "numpy",
        "torch",
        "sqlalchemy",
        "alembic",
        "click",
        "pluggy",
        "peft",
        "transformers",
        "rich",
    }
    code = f"import sys, adaptkit; print(*(m for m in sys.modules if m.split('.')[0] in {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", PUBLIC)
def test_everything_public_says_what_it_is_for(module):
    found = importlib.import_module(module)
    assert found.__doc__
    bare = []
    for name, value in vars(found).items():
        if name.startswith("_") or getattr(value, "__module__", module) != module:
            continue
        if inspect.isclass(value):
            bare += [
                f"{name}.{member}"
                for member, method in vars(value).items()
                if inspect.isfunction(method)
                and not member.startswith("_")
                and not _documented(value, member)
            ]
        if (inspect.isclass(value) or inspect.isfunction(value)) and not value.__doc__:
            bare.append(name)
    assert not bare


def _documented(cls, member):
    """By itself, by what it overrides, or by being one of the names that mean the same everywhere."""
    if member in {"close", "to_json", "from_json"} or getattr(cls, "_is_protocol", False):
        return True
    return any(getattr(vars(parent).get(member), "__doc__", None) for parent in cls.__mro__)


def test_errors_are_one_tree_drawn_in_its_docstring():
    from adaptkit import errors

    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert issubclass(value, adaptkit.AdaptkitError)
            assert name in errors.__doc__
