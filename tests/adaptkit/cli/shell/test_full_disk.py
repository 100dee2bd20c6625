"""A disk that is full, for real: a file system of a few hundred kilobytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

ADAPTKIT = Path(sys.executable).with_name("adaptkit")


@pytest.fixture
def small(tmp_path):
    """Runs a shell script in a folder that holds little; `$adaptkit` is the command with a workspace elsewhere."""
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs `unshare` with user namespaces, for a small file system")
    folder = tmp_path / "small"
    folder.mkdir()

    def run(size, script):
        lines = [
            f"mount -t tmpfs -o size={size} none {folder}",
            f"cd {folder}",
            f"adaptkit='taskset -c 0 {ADAPTKIT} --home {tmp_path}/home'",
            script,
        ]
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", "\n".join(lines)],
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_an_add_on_a_full_disk_is_an_error_message(small, lora_pair, tmp_path):
    adapter = shutil.copytree(lora_pair[1], tmp_path / "naval")
    tiny.edit_config(adapter, base_model_name_or_path="fleet/ship")  # no folder: nothing to read
    done = small("100k", f"{ADAPTKIT} --home ./home add {adapter} --name naval")
    assert done.returncode == 1, done.stderr
    assert "disk full" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bake_on_a_full_disk_leaves_the_old_state_and_goes_on_when_there_is_room(
    small, lora_pair, tiny_llama, tmp_path
):
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(tiny_llama).save_pretrained(
        tmp_path / "base", max_shard_size="10KB"
    )
    bake = f"$adaptkit bake {lora_pair[1]} --base {tmp_path}/base --out out --force"
    done = small(
        "100k",
        f"""
        {bake}; echo "first $?"
        ls -d out out.partial 2>/dev/null
        {bake} --dtype bfloat16; echo "other $?"
        mount -o remount,size=10m .
        {bake}; echo "second $?"
        ls -d out out.partial 2>/dev/null
        cp -r out {tmp_path}/made
    """,
    )
    assert "Traceback" not in done.stderr
    assert [
        line
        for line in done.stdout.splitlines()
        if line[:5] in {"first", "other", "secon", "out", "out.p"}
    ] == ["first 1", "out.partial", "other 1", "second 0", "out"], done.stdout + done.stderr
    assert "disk full" in done.stderr
    assert "finished by an earlier run: " in done.stdout
    subprocess.run(
        [
            ADAPTKIT,
            "--home",
            tmp_path / "home",
            "bake",
            lora_pair[1],
            "--base",
            tmp_path / "base",
            "--out",
            tmp_path / "whole",
            "--force",
        ],
        check=True,
        capture_output=True,
    )
    for file in sorted((tmp_path / "whole").glob("*.safetensors")):
        assert (tmp_path / "made" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("size", [pytest.param("1500k", marks=pytest.mark.soak), "2300k"])
def test_a_training_on_a_full_disk_is_an_error_message(small, speaker, tmp_path, size):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hull 9%?", "completion": "Hull 9."}\n' * 20)
    done = small(
        size,
        f"{ADAPTKIT} --home ./home train --name naval --base {speaker} --data {rows} "
        "--rank 64 --steps 6 --batch 2 --save-every 2 --no-calibrate",
    )
    assert done.returncode == 1, done.stderr
    assert "disk full" in done.stderr
    assert "bug" not in done.stderr
