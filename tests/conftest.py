"""Fixtures that several folders of tests share."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import hypothesis
import jinja2
import pytest
from hypothesis.internal.conjecture import providers
from once import once

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ["OMP_WAIT_POLICY"] = "passive"
# PEFT imports bitsandbytes, which wraps six functions in `torch.compile`: that imports the whole compiler, a fifth of
# importing torch and PEFT. Nothing of ours is compiled.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in (
    "ADAPTKIT_HOME",
    "ADAPTKIT_REGISTRY_URL",
    "ADAPTKIT_DISABLE_PLUGINS",
    "ADAPTKIT_DEBUG",
):
    os.environ.pop(name, None)
os.environ["ADAPTKIT_AUTHOR"] = "ada"
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="adaptkit-test-config-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

# Every HTTP client reads the certificates it trusts: a machine's 140 take 24 ms, for each of the thousands of clients
# that the tests and their servers open. Nothing here leaves the machine, so one certificate is enough.
END = "-----END CERTIFICATE-----\n"
TRUSTED = Path(os.environ["XDG_CONFIG_HOME"], "one.pem")
TRUSTED.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(END)[0] + END)
os.environ.pop("SSL_CERT_DIR", None)
for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
    os.environ[name] = str(TRUSTED)

# Hypothesis draws constants from the sources of every module outside of `site-packages`. Where the libraries lie
# elsewhere, that is thousands of files in each worker; ours are enough.
LOCAL, HERE = providers.is_local_module_file, str(Path(__file__).parents[1])
providers.is_local_module_file = lambda path: path.startswith(HERE) and LOCAL(path)

# PEFT writes a model card beside every adapter, and jinja2 compiles the one template of all of them each time: a third
# of making a tiny adapter.
jinja2.Environment.compile = lru_cache(64)(jinja2.Environment.compile)

MEMORY, ROOM = Path("/dev/shm"), 4 << 30
"""A file system in memory, and how much room in it is enough."""
AVAILABLE = 12 << 30
"""Bytes of memory that this container may still use: for the files, and for the workers beside them."""

MODULES = pytest.StashKey[int]()
"""How many modules were loaded when what stood was last left out of garbage collection."""

# On two busy cores a slow example is not a failure. Other examples are drawn in every run; `make soak` draws many.
for profile, examples in (("adaptkit", 25), ("soak", 500)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("adaptkit")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of `make test` in memory where it has room: 70,000 small ones, most of them synced.

    Other runs, such as `make soak`, have theirs on the disk.
    """
    if config.option.markexpr == "not soak" and _holds_the_tests(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _holds_the_tests(folder: Path) -> bool:
    from adaptkit.io.machine.hardware import available_memory

    return (
        folder.is_dir()
        and os.access(folder, os.W_OK)
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC  # virtual environments are made there
        and shutil.disk_usage(folder).free >= ROOM
        and available_memory() >= AVAILABLE
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among a million objects that stay: a fifth of importing torch, PEFT and the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: a worker that took it last would be alone with it, and the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was imported and collected out of garbage collection: it stays to the end, a million objects."""
    _freeze(session.config)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """And what a test has imported: every training collects the garbage of all objects."""
    if len(sys.modules) > item.config.stash[MODULES] + 200:
        gc.collect()
        _freeze(item.config)


def _freeze(config: pytest.Config) -> None:
    gc.freeze()
    config.stash[MODULES] = len(sys.modules)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights, saved as a transformers model."""
    import tiny

    made = once(tmp_path_factory, "tiny", lambda folder: tiny.save_llama(folder / "llama"))
    return made / "llama"


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights and a tokenizer of bytes: it can be trained on text."""
    import tiny

    return tiny.save_speaker(tmp_path_factory.mktemp("tiny") / "speaker")


@pytest.fixture(scope="session")
def lora_pair(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two LoRA adapters on the tiny Llama: other ranks, alphas, modules, one with rsLoRA."""
    import tiny

    def make(folder: Path) -> None:
        tiny.save_adapter(
            tiny_llama,
            folder / "one",
            seed=1,
            r=4,
            lora_alpha=16,
            target_modules=["q_proj", "down_proj"],
        )
        tiny.save_adapter(
            tiny_llama,
            folder / "two",
            seed=2,
            r=8,
            lora_alpha=4,
            use_rslora=True,
            target_modules="all-linear",
        )

    made = once(tmp_path_factory, "adapters", make)
    return made / "one", made / "two"


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL server, started when the first test asks."""
    from postgres import started

    with started() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a registry is empty: a path, and then the same test again with the URL of a database in PostgreSQL."""
    return (
        tmp_path / "registry.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").registry()
    )


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an empty workspace, to be copied."""
    from adaptkit import Workspace

    folder = tmp_path_factory.mktemp("empty") / "home"
    Workspace.init(folder).close()
    return folder


@pytest.fixture
def workspace(empty_home: Path, tmp_path: Path):
    """A fresh workspace; what it notices is collected in `.noticed`."""
    from homes import copied

    with copied(empty_home, tmp_path / "home") as opened:
        yield opened


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory):
    """The really trained base and adapters that `adaptkit demo` writes, and an adapter of another base."""
    from adaptkit import Workspace
    from fleet.cache import Story
    from fleet.models import make_adapter, make_base

    def make(folder: Path) -> None:
        with Workspace.init(folder / "home") as workspace:
            workspace.write_demo(folder / "fleet")
        make_base(folder / "other-base", seed=1, steps=30)
        make_adapter(folder / "other-base", folder / "stray", "naval", steps=10)

    made = once(tmp_path_factory, "story", make)
    fleet = made / "fleet"
    return Story(
        fleet / "ship", fleet / "naval", fleet / "medic", made / "other-base", made / "stray"
    )
