"""A scratch virtual environment into which pip really installs small plugin distributions, good and bad.

Most are wheels written here, which pip installs in a second; one is built from source by setuptools and
one is installed with `--editable`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import site
import subprocess
import sys
import textwrap
import venv
import zipfile
from typing import TYPE_CHECKING

import pytest
from once import once

if TYPE_CHECKING:
    from pathlib import Path

PREAMBLE = """
from adaptkit import hookimpl
from adaptkit.extend import AdapterMethod, Engine, MergeStrategy, StorageBackend, Trainer

class Mean(MergeStrategy):
    formula, reference = "D = mean Dᵢ", "https://example.org"
    def __init__(self, name):
        self.name = name
    def merge(self, tensors, weights, params, rngs):
        return sum(tensors[1:], start=tensors[0]) / len(tensors)
"""

GOOD = """
print("a plugin that talks while it is imported")
import os
import click
from adaptkit.extend.review import Objection

class Method(AdapterMethod):
    name, summary = "good-method", "reads nothing"
    def recognises(self, view):
        return view.config.get("peft_type") == "GOOD"

class Backend(StorageBackend):
    schemes = ("good", "goods")
    def list(self): return ()
    def push(self, bundle, expected, progress=None): raise NotImplementedError
    def pull(self, version, files, into, progress=None): raise NotImplementedError
    def probe(self): raise NotImplementedError

class Train(Trainer):
    name = "good-trainer"

    def train(self, job, report):
        raise NotImplementedError

class Serve(Engine):
    name = "good-engine"

@hookimpl
def register_adapter_methods(register): register(Method())
@hookimpl
def register_storage_backends(register): register(Backend)
@hookimpl
def register_merge_strategies(register): register(Mean("good-mean"))
@hookimpl
def register_trainers(register): register(Train())
@hookimpl
def register_engines(register): register(Serve())
@hookimpl
def register_commands(cli):
    @cli.command()
    def fleet():
        "Greet the fleet."
        click.echo("all ships")
@hookimpl
def review(action):
    if getattr(action, "alias", "") == "prod":
        return [Objection("not on a Friday"), Objection("so late", "warn")]
@hookimpl
def on_event(event):
    if "GOOD_LOG" in os.environ:
        with open(os.environ["GOOD_LOG"], "a") as log:
            log.write(f"{event.verb} {event.subject}\\n")
"""


def _registers(name: str) -> str:
    return f"@hookimpl\ndef register_merge_strategies(register): register(Mean({name!r}))\n"


def _commands(*names: str) -> str:
    body = "".join(
        f"    @cli.command({name!r})\n    def _(): print('{name} of a plugin')\n" for name in names
    )
    return f"@hookimpl\ndef register_commands(cli):\n{body}"


# distribution -> (version, entry point, what stands in its one module)
WHEELS = {
    "acme-good": ("1.2", "good", GOOD),
    "acme-broken": ("2.0", "broken", "import a_library_that_is_not_there\n"),
    "acme-first": ("0.1", "first", _registers("linear2") + _commands("survey")),
    "acme-second": ("0.2", "second", _registers("linear2") + _commands("survey")),
    "acme-misspelt": ("3", "misspelt", "@hookimpl\ndef register_merge_strategie(register): pass\n"),
    "acme-arguments": ("3", "arguments", "@hookimpl\ndef register_trainers(registrar): pass\n"),
    "acme-half": (
        "4",
        "half",
        _registers("half-good") + "@hookimpl\ndef register_engines(register): 1 / 0\n",
    ),
    "acme-exit": ("5", "exiting", "import sys\nsys.exit(0)\n"),
    "acme-review": (
        "6",
        "reviewer",
        "@hookimpl\ndef review(action): raise RuntimeError('no ink')\n",
    ),
    "acme-event": (
        "7",
        "follower",
        "@hookimpl\ndef on_event(event): raise RuntimeError('line busy')\n",
    ),
    "acme-command": ("8", "commander", _commands("merge", "muster")),
    "acme-twin-a": ("9", "twin", _registers("twin-a")),
    "acme-twin-b": ("9", "twin", _registers("twin-b")),
}
BROKEN = ("arguments", "broken", "exiting", "half", "misspelt")
EVERYTHING = (*(entry for _, entry, _ in WHEELS.values()), "source", "editable")


class Scratch:
    """The environment; `python` is its interpreter."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.site = next((folder / "lib").glob("python*/site-packages"))

    def run(self, *arguments: object, only: tuple[str, ...] | None = None, **environment: str):
        """Run its Python; with `only`, every other plugin of this page is switched off."""
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("ADAPTKIT_", "PYTHONPATH"))
        }
        if only is not None:
            environment["ADAPTKIT_DISABLE_PLUGINS"] = ",".join(sorted(set(EVERYTHING) - set(only)))
        return subprocess.run(
            [self.python, *map(str, arguments)],
            env=clean | environment,
            cwd=self.python.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def adaptkit(self, *arguments: object, only: tuple[str, ...] | None = None, **environment: str):
        """Run adaptkit there; whatever a plugin does, no traceback."""
        done = self.run("-m", "adaptkit", *arguments, only=only, **environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """The environment with everything above in it, made once for all test modules."""
    return Scratch(once(tmp_path_factory, "scratch", _make) / "env")


def _make(folder: Path) -> None:
    venv.create(folder / "env", with_pip=False, symlinks=True)
    env = Scratch(folder / "env")
    (env.site / "ours.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    )
    wheels = [_wheel(folder, name, *parts) for name, parts in WHEELS.items()]
    sources = [
        _source(folder, "acme-source", "source"),
        "--editable",
        _source(folder, "acme-editable", "editable"),
    ]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        env.python,
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*pip, *wheels, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _wheel(folder: Path, name: str, version: str, entry: str, body: str) -> Path:
    """A wheel of one module, as the format asks (https://packaging.python.org/specifications/binary-distribution-format/)."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": PREAMBLE + textwrap.dedent(body),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: adaptkit tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[adaptkit]\n{entry} = {module}\n",
    }
    record = "".join(
        f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items()
    )
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_, text in (*files.items(), (f"{info}/RECORD", f"{record}{info}/RECORD,,\n")):
            wheel.writestr(name_, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _source(folder: Path, name: str, entry: str) -> Path:
    module = name.replace("-", "_")
    source = folder / name
    source.mkdir()
    (source / f"{module}.py").write_text(PREAMBLE + _registers(entry))
    (source / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f'[project.entry-points.adaptkit]\n{entry} = "{module}"\n'
        f'[tool.setuptools]\npy-modules = ["{module}"]\n'
    )
    return source
