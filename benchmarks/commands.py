"""How long a person waits for a command: starting, completing, listing, adding many."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from timing import Row, command, faster, within

PYTHON = sys.executable
ADAPTKIT = str(Path(PYTHON).parent / "adaptkit")
MANY = 40


def startup(folder: Path) -> list[Row]:
    """How long a person waits before anything happens."""
    home = str(folder / "home")
    command(ADAPTKIT, "--home", home, "add", str(folder / "one"), "--name", "one")()
    listing = command(ADAPTKIT, "--home", home, "list")
    return [
        within(
            "`adaptkit --help`",
            '`python -c "import click"`',
            command(ADAPTKIT, "--help"),
            command(PYTHON, "-c", "import click"),
            2.5,
            21,
        ),
        within(
            "`adaptkit list`",
            '`python -c "import sqlalchemy"`',
            listing,
            command(PYTHON, "-c", "import sqlalchemy"),
            1.2,
            15,
        ),
        within(
            "`adaptkit show NAME`",
            '`python -c "import sqlalchemy"`',
            command(ADAPTKIT, "--home", home, "show", "one"),
            command(PYTHON, "-c", "import sqlalchemy"),
            1.2,
            15,
        ),
        within(
            "completing a name (Tab)",
            '`python -c "import click"`',
            command("env", *tab(home), ADAPTKIT),
            command(PYTHON, "-c", "import click"),
            2.5,
            15,
        ),
        *listing_2000(),
    ]


def tab(home: str) -> list[str]:
    """The environment in which bash asks for what follows `adaptkit show o`."""
    return [
        "_ADAPTKIT_COMPLETE=bash_complete",
        "COMP_LINE=adaptkit show o",
        "COMP_POINT=15",
        f"ADAPTKIT_HOME={home}",
    ]


def listing_2000() -> list[Row]:
    """The table of 2,000 versions against the same as JSON, without the registry that both read."""
    import json

    from adaptkit.cli.output import times
    from adaptkit.cli.output.table import Table
    from adaptkit.types import BaseIdentity, Version

    created = "2026-11-25T09:12:13.123456+00:00"
    base = BaseIdentity("ship")
    versions = [
        Version(f"team/a{n}", 3, f"sha256:{n:064x}", "lora", 8, base, created, "ada", "terse")
        for n in range(2000)
    ]

    def table() -> None:
        rows = tuple(
            (v.ref, v.method, str(v.rank), times.cell(v.created), v.message) for v in versions
        )
        Table(("VERSION", "METHOD", "RANK", "CREATED", "MESSAGE"), rows).fitted(80)

    def as_json() -> None:
        json.dumps([version.to_json() for version in versions], indent=2)

    return [within("`list` of 2,000: the table", "its `--json`", table, as_json, 1.3, 7)]


def bulk(folder: Path) -> list[Row]:
    """Many adapter folders added by one command, and by a shell loop of one command each."""
    many, home = folder / "many", folder / "bulk-home"
    config = (folder / "one" / "adapter_config.json").read_bytes()
    for number in range(MANY):
        made = many / f"run-{number:04}"
        made.mkdir(parents=True)
        (made / "adapter_config.json").write_bytes(config)
        (made / "adapter_model.safetensors").write_bytes(_weights(number))
    each = (
        f'for d in {many}/*; do {ADAPTKIT} --home {home} add "$d" --name "$(basename "$d")"; done'
    )

    def fresh(*line: str) -> None:
        """In a new home, which knows the base's class: to ask it once has a row of its own."""
        for path in home.iterdir():
            if path.name != "cache":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        subprocess.run(line, check=True, capture_output=True)

    subprocess.run(
        [ADAPTKIT, "--home", home, "add", many, "--recursive"], check=True, capture_output=True
    )
    return [
        faster(
            f"`adaptkit add` of {MANY} folders",
            "a shell loop of `adaptkit add`",
            lambda: fresh(ADAPTKIT, "--home", str(home), "add", str(many), "--recursive"),
            lambda: fresh("sh", "-c", each),
            13,
            3,
        )
    ]


def _weights(seed: int) -> bytes:
    """A small LoRA of one module, another for each seed."""
    import numpy as np
    from safetensors.numpy import save

    chance = np.random.default_rng(seed)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    shapes = {"A": (16, 2048), "B": (2048, 16)}
    return save(
        {
            key.format(k): chance.standard_normal(shape, dtype=np.float32)
            for k, shape in shapes.items()
        }
    )
