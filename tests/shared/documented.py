"""The forms of what commands print with `--json`, as docs/output.schema.json has them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "output.schema.json").read_text("utf-8"))


def check(command: str, value: Any) -> Any:
    """Refuse what has not the documented form of the command's output; a test of the page checks the schema itself."""
    _form(command).validate(value)
    return value


@cache
def _form(command: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMA["commands"][command] | {"$defs": SCHEMA["$defs"]})
