"""Who does what is recorded, where neither the environment nor `config.toml` says it."""

from __future__ import annotations

import subprocess
from functools import cache


@cache
def git_author() -> str:
    """The name that git signs commits with here; empty without git or without a name."""
    try:
        done = subprocess.run(
            # a folder of a clone may look like a bare repository, and its configuration is not the user's
            ["git", "-c", "safe.bareRepository=explicit", "config", "--get", "user.name"],
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace").strip()[:200]
