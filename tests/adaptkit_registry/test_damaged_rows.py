"""What SQLite gives back is checked where it is read: whatever a column holds, the error says which and what to do."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from itertools import cycle, islice

import pytest
from artifacts import manifest
from damaged_rows import WRONG, columns_of, loosen, put

from adaptkit.errors import AdaptkitError, RegistryError
from adaptkit.types import BaseIdentity, Level, Parent, Placement, Quantisation
from adaptkit_registry import Registry
from adaptkit_registry.database.schema import metadata

LEVELS = (Level("as1:" + "a" * 64, True), Level("tm1:" + "b" * 64, True))
BASE = BaseIdentity("fleet/ship", LEVELS, Quantisation("nf4", 4), "fleet/source")


def fill(registry):
    """Rows in every table; the digests of an artifact and of one that was made from it."""
    first = manifest(1, base=BASE)
    registry.add_version("naval", first, message="hello", author="ada", alias="prod")
    made = manifest(2, base=BASE, parents=(Parent(first.digest, 0.5, "merged", "naval@1"),))
    registry.add_version("naval", made, author="ada")
    registry.add_version("old", manifest(3))
    registry.delete("old", 1)
    registry.annotate("naval", 1, tags=["best"], metrics={"accuracy": 0.9}, author="ada")
    registry.move_alias("naval", "prod", 2, author="ada")
    registry.rename("naval", "navy")
    registry.name_base("ship", BASE, author="ada")
    registry.record_pair("fs1:" + "c" * 64, "tm1:" + "b" * 64, author="ada")
    registry.record_placement(Placement("file:///team/navy", 1, first.digest, "2026-01-01"))
    return first.digest, made.digest


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A full registry, whose columns take anything."""
    database = tmp_path_factory.mktemp("full") / "registry.db"
    with Registry.open(database) as registry:
        digests = fill(registry)
    loosen(database)
    return database, *digests


READS = {
    "list": lambda registry, *_: registry.versions(),
    "latest": lambda registry, *_: registry.latest_versions(words=["navy"]),
    "one": lambda registry, *_: registry.version("naval", alias="prod"),
    "log": lambda registry, *_: registry.alias_history("navy"),
    "former": lambda registry, *_: registry.former_names("navy"),
    "events": lambda registry, *_: registry.events(),
    "lineage": lambda registry, _, made: registry.lineage(made),
    "parents": lambda registry, _, made: registry.parents(made),
    "manifest": lambda registry, first, _: registry.manifest(first),
    "bases": lambda registry, *_: registry.bases(),
    "base names": lambda registry, *_: registry.base_names(),
    "pairs": lambda registry, *_: registry.pairs(),
    "placements": lambda registry, *_: registry.all_placements(),
    "trash": lambda registry, *_: registry.trash(),
    "sizes": lambda registry, *_: registry.sizes(),
    "counts": lambda registry, *_: registry.counts(),
    "fsck": lambda registry, *_: registry.problems(),
    "gc": lambda registry, *_: registry.kept(),
    "manifests": lambda registry, *_: list(registry.manifests()),
    "export": lambda registry, *_: list(registry.export_lines()),
}
FEW = ("bytes",)


@pytest.mark.parametrize(
    "values", [FEW, pytest.param(tuple(WRONG), marks=pytest.mark.soak)], ids=["few", "all"]
)
def test_whatever_a_row_holds_reading_it_is_right_or_an_error_of_the_registry(
    values, full, tmp_path
):
    database, first, made = full
    refused, read = set(), 0
    for table, column in columns_of(database):
        for kind in values:
            damaged = tmp_path / "registry.db"
            shutil.copy(database, damaged)
            put(damaged, table, column, WRONG[kind])
            try:
                with Registry.open(damaged) as registry:
                    for what, ask in READS.items():
                        if what == "fsck" and values is FEW:  # threads, and locks
                            continue
                        try:
                            ask(registry, first, made)
                            read += 1
                        except AdaptkitError as error:
                            assert error.fix or error.what.startswith("no "), what
                            if f"its column {table}.{column} " in error.why:
                                refused.add(f"{table}.{column}")
            except RegistryError as error:  # of the table with the schema's number
                assert "the registry " in error.what
    columns = {str(column) for table in metadata.tables.values() for column in table.columns}
    numbered = {column for column in columns if column.endswith(".id")}  # SQLite's own numbers
    compared = {column for column in columns if column.startswith(("about.", "files."))}
    assert columns - refused <= numbered | compared | {"lineage.child"}
    assert read > 500


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE bases SET quantised = '{\"a\":'", "column bases.quantised cannot be read (JSON"),
        ("UPDATE bases SET quantised = 7", "its column bases.quantised holds the number 7"),
        ("UPDATE bases SET checked = 2", "its column bases.checked holds the number 2"),
        ("UPDATE versions SET message = x'00'", "its column versions.message holds bytes"),
        ("UPDATE versions SET message = NULL", "its column versions.message holds nothing"),
        (
            "UPDATE versions SET number = 'one' WHERE number = 2",
            "its column versions.number holds text",
        ),
        ("UPDATE metrics SET value = 9e999", "its column metrics.value holds the number inf"),
        ("DELETE FROM bases", "it points at a row of bases that does not exist"),
        ("UPDATE versions SET message = CAST(x'ff' AS TEXT)", "Could not decode to UTF-8"),
    ],
)
def test_the_error_names_the_column_and_what_to_type(change, why, full, tmp_path):
    damaged = tmp_path / "registry.db"
    shutil.copy(full[0], damaged)
    with closing(sqlite3.connect(damaged)) as sql:
        sql.execute(change)
        sql.commit()
    with Registry.open(damaged) as registry, pytest.raises(RegistryError) as caught:
        registry.versions()
    assert caught.value.what == f"cannot use the registry {damaged}"
    assert caught.value.why.startswith("a row of it is not as adaptkit writes them: ")
    assert why in caught.value.why
    assert "adaptkit registry rebuild --from REMOTE" in caught.value.fix


def test_a_mistake_of_ours_inside_a_transaction_is_not_called_a_damaged_row(full, tmp_path):
    def admit(_):
        raise TypeError("ours")

    damaged = tmp_path / "registry.db"
    shutil.copy(full[0], damaged)
    with Registry.open(damaged) as registry, pytest.raises(TypeError, match="^ours$"):
        registry.add_version("navy", manifest(9), admit=admit)


def signed(lines):
    """The lines of an export, with a last line that fits them."""
    texts = [json.dumps(line) for line in lines]
    digest = sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()
    return [*texts, json.dumps({"end": len(texts), "sha256": digest})]


@pytest.mark.parametrize("values", [1, pytest.param(4, marks=pytest.mark.soak)])
def test_every_field_of_an_export_is_checked_before_it_is_imported(tmp_path, values):
    """A file to import comes from anywhere; one wrong field stops all of it."""
    with Registry.open(tmp_path / "from.db") as registry:
        fill(registry)
        lines = [json.loads(line) for line in registry.export_lines()][:-1]
    tried, kinds = 0, cycle([[7], 10**30, "\ud800", True])
    with Registry.open(tmp_path / "into.db") as registry:
        for number, line in enumerate(lines[1:], start=1):
            for field in line:
                for wrong in islice(kinds, values):
                    if (field, wrong) == ("checked", True):
                        continue
                    changed = [*lines[:number], line | {field: wrong}, *lines[number + 1 :]]
                    with pytest.raises(RegistryError) as caught:
                        registry.import_lines(signed(changed))
                    assert caught.value.what == "cannot import export", (line, field, wrong)
                    assert caught.value.why.startswith(f"line {number + 1} is not a line of an")
                    tried += 1
        assert registry.counts()["adapters"] == registry.counts()["events"] == 0
        assert registry.import_lines(signed(lines))["versions"] == 3
    assert tried > 60 * values
