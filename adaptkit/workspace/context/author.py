"""Who does what is recorded, where neither the environment nor `config.toml` says it."""

from __future__ import annotations

import subprocess
from functools import cache


@cache
def git_author() -> str:
    """The name that git signs commits with here; empty without git or without a name."""
    try:
        done = subprocess.run(
            ["git", "config", "--get", "user.name"],
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace").strip()[:200]
