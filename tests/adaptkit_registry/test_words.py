"""adaptkit_registry.versions.words: what `list WORD` finds, with the index of texts and without, is the same."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest
from artifacts import manifest
from sqlalchemy import Engine, event

from adaptkit.errors import RegistryError
from adaptkit_registry import Registry
from adaptkit_registry.versions import words

TEXTS = (
    "warm start",
    "ÄRGER in Köln",
    "ΟΔΟΣ",
    "100 % of_it",
    'a "quote" AND b',
    "İzmir",
    "5 \u212a",
)
ASKED = (
    *("war", "WARM S", "ärg", "RGER", "οδος", "100 % o", "0 % of_", "%", "_", "of-it", '"quote"'),
    *("a", "ab", "AND", "zmir", "i̇zm", "5 k", "", "fleet/", "old-nam", "sea", "no such", "a\0b"),
)


@pytest.fixture
def registry(database):
    with Registry.open(database) as opened:
        yield opened


def _found(registry, **filters):
    return [v.ref for v in registry.versions(**filters)], [
        v.ref for v in registry.latest_versions(**filters)
    ]


def _agrees(registry, monkeypatch, asked=ASKED):
    """Each word, and pairs of them, find with the index what they find without."""
    pairs = list(zip(asked, (*asked[3:], *asked[:3]), strict=True))
    for some in [*((word,) for word in asked), *pairs]:
        with monkeypatch.context() as patch:
            patch.setattr(words, "_MOST", -1)  # rows: never few enough
            expected = _found(registry, words=some)
        assert _found(registry, words=some) == expected, some


@pytest.mark.parametrize(
    ("asked", "every"),
    [
        (["warm"], ["naval@1"]),
        (["WARM", "start"], ["naval@1"]),
        (["arm st"], ["naval@1"]),
        (["warm", "boat"], []),
        (["nav"], ["naval@1", "naval@2"]),
        (["nav", "boat"], ["naval@2"]),
        (["former"], ["naval@1", "naval@2"]),
        (["for", "ships"], ["naval@1", "naval@2"]),
        (["sea-trial"], ["medic@1"]),
        (["a_trial"], []),
        (["al"], ["medic@1", "naval@1", "naval@2"]),
    ],
)
def test_a_word_is_found_in_names_descriptions_messages_and_tags(registry, asked, every):
    registry.add_version("former-name", manifest(1), message="a warm start")
    registry.rename("former-name", "naval")
    registry.add_version("naval", manifest(2), message="of the Boat")
    registry.annotate("naval", 2, description="for ships")
    registry.add_version("medic", manifest(3))
    registry.annotate("medic", 1, tags=["Sea-Trial"])
    assert _found(registry, words=asked)[0] == every


def test_after_any_change_the_index_finds_what_comparing_all_texts_finds(tmp_path, monkeypatch):
    chance, path = random.Random(1), tmp_path / "registry.db"
    with Registry.open(path) as registry:
        for step in range(60):
            name = f"fleet/a{chance.randrange(5)}"
            number = registry.next_number(name) - 1
            live = {v.number for v in registry.versions(name=name)}
            match chance.randrange(6) if number in live else 0:
                case 0 | 1:
                    registry.add_version(name, manifest(step), message=chance.choice(TEXTS))
                case 2:
                    registry.annotate(name, number, message=chance.choice(TEXTS), tags=["sea"])
                case 3:
                    registry.annotate(name, number, description=chance.choice(TEXTS))
                case 4 if "sea" in registry.version(name, number=number).tags:
                    registry.annotate(name, number, without_tags=["sea"])
                case 5:
                    registry.delete(name, number)
        registry.rename("fleet/a1", "old-name")
        registry.rename("old-name", "fleet/b1")
        _agrees(registry, monkeypatch)
        assert registry.problems() == []
        registry.purge("9")
        _agrees(registry, monkeypatch)
        assert registry.problems() == []
        lines = list(registry.export_lines())
    with Registry.open(tmp_path / "other.db") as other:
        other.import_lines(lines)
        _agrees(other, monkeypatch)
        assert other.problems() == []


def test_a_word_that_more_rows_hold_than_the_index_is_asked_for_finds_all(registry, monkeypatch):
    monkeypatch.setattr(words, "_MOST", 4)
    for number in range(6):
        registry.add_version(f"a{number}", manifest(number), message=f"run {number}")
    registry.add_version("a0", manifest("seven"), message="another")
    every, latest = _found(registry, words=["run"])
    assert every == [f"a{number}@1" for number in range(6)]
    assert latest == every[1:]
    assert _found(registry, words=["run 0"]) == (["a0@1"], [])
    assert _found(registry, words=["run", "run 3"]) == (["a3@1"], ["a3@1"])


def test_a_stale_index_is_reported_and_built_again(tmp_path):
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.add_version("naval", manifest(1), message="a warm start")
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(
                "INSERT INTO version_words(version_words, rowid, text) VALUES ('delete', 1, 'a warm start')"
            )
        assert registry.versions(words=["warm"]) == []
        (problem,) = registry.problems()
        assert problem.startswith("the index 'version_words' does not hold what its table says")
        assert "adaptkit fsck --repair" in problem
        assert registry.rebuild_indexes() == ["version_words"]
        assert registry.rebuild_indexes() == registry.problems() == []
        assert [v.ref for v in registry.versions(words=["warm"])] == ["naval@1"]


def test_what_another_program_writes_is_found_too(tmp_path):
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.add_version("naval", manifest(1))
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE versions SET message = 'a warm start'")
        assert [v.ref for v in registry.versions(words=["WARM"])] == ["naval@1"]
        assert registry.problems() == []


def test_a_python_whose_sqlite_has_no_full_text_index_is_told_what_to_use(tmp_path):
    path = tmp_path / "registry.db"
    Registry.open(path).close()
    with closing(sqlite3.connect(path)) as other, other:  # as such a SQLite reads it
        other.execute("PRAGMA writable_schema = ON")
        other.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'trigram', 'fourgram') WHERE name = 'version_words'"
        )
    with Registry.open(path) as registry, pytest.raises(RegistryError) as caught:
        registry.add_version("naval", manifest(1))
    assert caught.value.what == f"the registry {path} needs a newer SQLite than this Python has"
    assert "no such tokenizer: fourgram" in caught.value.why
    assert "3.34" in caught.value.fix


def test_a_sqlite_that_trusts_no_schema_keeps_its_indexes_too(tmp_path):
    def distrust(connection, _record):
        connection.execute("PRAGMA trusted_schema=OFF").close()

    event.listen(Engine, "connect", distrust)  # as when built with SQLITE_TRUSTED_SCHEMA=0
    try:
        with Registry.open(tmp_path / "registry.db") as registry:
            registry.add_version("naval", manifest(1), message="ÄRGER")
            assert _found(registry, words=["ärg"]) == (["naval@1"], ["naval@1"])
    finally:
        event.remove(Engine, "connect", distrust)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM version_words_data WHERE id > 10",
        "DELETE FROM version_words_data",
        "UPDATE version_words_data SET block = x'00'",
        "DROP TABLE version_words_idx",
        "DROP TABLE version_words",
        "DROP TRIGGER tags_after_insert",
        "DROP VIEW version_texts",
    ],
)
def test_whatever_is_damaged_of_an_index_lists_go_on_and_repair_makes_it_anew(tmp_path, damage):
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.add_version("naval", manifest(1), message="a warm start")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with Registry.open(path) as registry:
        assert _found(registry, words=["nav"])[0] == ["naval@1"]
        assert ["'version_words'" in text for text in registry.problems()] == [True]
        assert registry.rebuild_indexes() == ["version_words"]
        registry.annotate("naval", 1, tags=["sea-trial"])
        assert registry.problems() == []
        for word in ("warm", "sea-trial"):
            assert _found(registry, words=[word])[0] == ["naval@1"]


def test_a_write_that_meets_a_damaged_index_names_the_repair(tmp_path):
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.add_version("naval", manifest(1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE version_words")
    with Registry.open(path) as registry:
        with pytest.raises(RegistryError, match="has a damaged index of words") as caught:
            registry.add_version("naval", manifest(2))
        assert "adaptkit fsck --repair" in str(caught.value)
        registry.rebuild_indexes()
        registry.add_version("naval", manifest(2))
        assert registry.version("naval").number == 2
