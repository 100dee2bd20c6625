"""adaptkit.types.checks.convert: several threads may be the first to read a manifest."""

from __future__ import annotations

import json
import subprocess
import sys

from artifacts import manifest

from adaptkit.types import PlacedVersion

THREADS = """
import json, sys, threading
from adaptkit.types import PlacedVersion
data = json.loads(sys.argv[1])
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)

def read():
    together.wait()
    assert PlacedVersion.from_json(data).number == 1

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_are_the_first_to_read_a_manifest_do_not_crash():
    text = json.dumps(PlacedVersion(1, manifest(1), "naval", "m", "ada").to_json())
    for _ in range(12):
        done = subprocess.run(
            [sys.executable, "-c", THREADS, text], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
