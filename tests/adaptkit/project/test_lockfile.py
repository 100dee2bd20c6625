"""`adaptkit.lock`: the same entries are the same bytes, and every change by hand is detected."""

from __future__ import annotations

import re

import pytest
import tomlkit
from concurrency import killed
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.errors import BadProject
from adaptkit.project.lockfile import Locked, lock_bytes, read_lock, write_lock
from adaptkit.types import BaseIdentity, Level, digest_of
from adaptkit.types.limits import LARGEST_NUMBER

GOLDEN = """\
# Written by `adaptkit lock` from adaptkit.toml. Keep it in version control; do not edit it.
format = 1

[adapters."fleet/medic"]
asked = "fleet/medic@>=1"
adapter = "fleet/medic"
digest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
place = ""
number = 2
method = "lora"
base = {}
check = "sha256:d71b4bffe0c16e1adf3d64b83961fe368a03e03c24fcb9ad580e4c5125acb614"

[adapters.naval]
asked = "team:naval@prod"
adapter = "naval"
digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
place = "s3://adapters/naval"
number = 3
method = "lora"
base = {name = "fleet/ship", as1 = "as1:ab", tm1 = "tm1:cd"}
check = "sha256:4c1c4562c46cf9a1bd60f02ff44b98c5121476f92355519f02b238088008019b"
"""
NAVAL = Locked(
    "naval",
    "team:naval@prod",
    "naval",
    "sha256:" + "1" * 64,
    "lora",
    BaseIdentity("fleet/ship", (Level("tm1:cd", True), Level("as1:ab", True))),
    "s3://adapters/naval",
    3,
)
MEDIC = Locked(
    "fleet/medic", "fleet/medic@>=1", "fleet/medic", "sha256:" + "2" * 64, "lora", number=2
)


def test_the_bytes_are_these_whatever_the_order():
    entries = {one.name: one for one in (NAVAL, MEDIC)}
    assert lock_bytes(entries) == lock_bytes(dict(reversed(entries.items())))
    assert lock_bytes(entries).decode() == GOLDEN


@given(
    st.dictionaries(
        st.sampled_from(["a", "b-c", "x.y", "team/z"]),
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
            st.integers(0, LARGEST_NUMBER),
        ),
    )
)
def test_what_was_written_is_read_back(tmp_path_factory, contents):
    file = tmp_path_factory.mktemp("lock") / "adaptkit.lock"
    entries = {
        name: Locked(name, text, name, "sha256:1", "lora", BaseIdentity(text or None), text, number)
        for name, (text, number) in contents.items()
    }
    write_lock(file, entries)
    assert read_lock(file) == entries
    assert write_lock(file, read_lock(file)) is False


def test_any_edit_is_seen_and_its_line_is_told(tmp_path):
    file = tmp_path / "adaptkit.lock"
    write_lock(file, {one.name: one for one in (NAVAL, MEDIC)})
    good = file.read_text()
    lines = good.split("\n")
    for number, line in enumerate(lines[:-1]):
        file.write_text(
            "\n".join([*lines[:number], line + (" " if line else "#"), *lines[number + 1 :]])
        )
        with pytest.raises(BadProject, match=rf"adaptkit.lock, line {number + 1}:"):
            read_lock(file)
    for number, line in enumerate(lines[:-1]):
        if found := re.search(r"\d(?=\D*$)", line):
            place = found.start()
            changed = line[:place] + str((int(line[place]) + 1) % 10) + line[place + 1 :]
            file.write_text("\n".join([*lines[:number], changed, *lines[number + 1 :]]))
            with pytest.raises(BadProject) as error:
                read_lock(file)
            named = int(re.search(r"line (\d+)", error.value.what)[1])
            assert named == (
                number + 1
                if line.startswith("format")
                else 1
                + max(at for at, head in enumerate(lines[: number + 1]) if head.startswith("["))
            )


def test_what_a_newer_adaptkit_wrote_is_told_so(tmp_path):
    file = tmp_path / "adaptkit.lock"
    file.write_text(GOLDEN.replace("format = 1", "format = 2"))
    with pytest.raises(BadProject) as error:
        read_lock(file)
    assert str(error.value) == (
        "adaptkit.lock, line 2: its format is 2, and this adaptkit reads 1\n"
        "  pip install --upgrade adaptkit-peft"
    )


def test_git_on_windows_may_change_the_line_ends(tmp_path):
    file = tmp_path / "adaptkit.lock"
    write_lock(file, {"naval": NAVAL})
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_lock(file)["naval"].digest == NAVAL.digest


def test_a_killed_writer_leaves_the_old_lock_or_the_new_one(tmp_path):
    file = tmp_path / "adaptkit.lock"
    old, new = {"naval": NAVAL}, {"naval": NAVAL, "fleet/medic": MEDIC}
    write_lock(file, old)

    def work():
        while True:
            write_lock(file, new)
            write_lock(file, old)

    for delay in (0.01, 0.02, 0.05):
        assert killed(work, delay)
        assert file.read_bytes() in {lock_bytes(old), lock_bytes(new)}


@pytest.mark.parametrize("value", ["1e999", "nan", "2026-11-30", "12:00:00", "[1979-05-27]"])
def test_a_value_that_no_json_holds_does_not_fit_the_checksum(tmp_path, value):
    file = tmp_path / "adaptkit.lock"
    write_lock(file, {"naval": NAVAL})
    file.write_text(file.read_text().replace('method = "lora"', f"method = {value}"))
    with pytest.raises(BadProject, match="line 4: .*its checksum does not fit"):
        read_lock(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("asked", ["naval"]),
        ("adapter", 1),
        ("digest", "sha256:UPPER"),
        ("place", True),
        ("number", 3.5),
        ("number", -1),
        ("method", {"name": "lora"}),
        ("base", "fleet/ship"),
        ("base", {"tm1": 5}),
    ],
)
def test_a_field_of_another_type_is_named_though_its_checksum_fits(tmp_path, key, value):
    fields = NAVAL.to_json() | {key: value}
    entry = {"check": digest_of(["naval", fields])} | fields
    file = tmp_path / "adaptkit.lock"
    file.write_text(tomlkit.dumps({"format": 1, "adapters": {"naval": entry}}))
    with pytest.raises(BadProject, match=f"'naval' cannot be read: in '{key}"):
        read_lock(file)
