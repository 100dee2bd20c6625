"""What it costs that a base's own class is asked: `add` with the base at hand, beside building the empty model."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING

from commands import ADAPTKIT, PYTHON
from timing import Row, command, faster, within

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = """import sys, torch, transformers
config = transformers.AutoConfig.from_pretrained(sys.argv[1])
with torch.device("meta"):
    transformers.AutoModelForCausalLM.from_config(config)
"""


def asked(folder: Path) -> list[Row]:
    """`add` where the class was never asked, where its answer is remembered, and without a base."""
    home, adapter = folder / "asked-home", folder / "on-base"
    shutil.copytree(folder / "one", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "some/base"
    (adapter / "adapter_config.json").write_text(json.dumps(config))

    def add(*more: str) -> None:
        command(ADAPTKIT, "--home", str(home), "add", str(adapter), "--name", "x", *more)()

    def fresh() -> None:
        shutil.rmtree(home / "store", ignore_errors=True)
        (home / "registry.db").unlink(missing_ok=True)

    def with_base() -> None:
        fresh()
        add("--base", str(folder / "base"))

    def never_asked() -> None:
        for file in (home / "cache").glob("architecture-*"):
            file.unlink()
        with_base()

    def without_base() -> None:
        fresh()
        add()

    build = command(PYTHON, "-c", EMPTY, str(folder / "base"))

    def build_and_add() -> None:
        build()
        without_base()

    with_base()  # the base is hashed once; what is measured here is the class
    return [
        within(
            "`adaptkit add --base DIR`, its class not asked before",
            "transformers building the empty model, and `adaptkit add` without a base",
            never_asked,
            build_and_add,
            1.1,
            7,
        ),
        within(
            "`adaptkit add --base DIR`, its class asked before",
            "`adaptkit add` without a base",
            with_base,
            without_base,
            1.5,
            7,
        ),
        faster(
            "`adaptkit add --base DIR`, its class asked before",
            "not asked before",
            with_base,
            never_asked,
            math.inf,
            3,
        ),
    ]
