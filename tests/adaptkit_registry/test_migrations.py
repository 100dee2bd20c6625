"""adaptkit_registry.migrations: from every released schema to the models, in SQLite and PostgreSQL, killed half way."""

from __future__ import annotations

import ast
import hashlib
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from artifacts import manifest
from concurrency import at_once
from sqlalchemy import MetaData, create_engine, inspect, text

from adaptkit.errors import RegistryTooNew
from adaptkit_registry import Registry
from adaptkit_registry.database.engine import _KNOWN, HEAD, _migrate, empty_engine, open_engine
from adaptkit_registry.database.indexes import INDEXES
from adaptkit_registry.database.schema import metadata

RELEASED = Path(__file__).parent / "released"
SCRIPTS = Path(__import__("adaptkit_registry").__file__).parent / "migrations" / "versions"
FROZEN = {
    "0001_first_schema.py": "00ed05431caa3a1ddb2d15db84fb046a22fac2e8366b04521650f66c036ad59d",
}


def released(database, revision, postgres=None):
    """A registry as an earlier adaptkit left it: SQLite's from its dump, PostgreSQL's with the same rows."""
    with closing(sqlite3.connect(":memory:" if postgres else database)) as old:
        old.executescript((RELEASED / f"{revision}.sql").read_text("utf-8"))
        if postgres is None:
            old.execute("PRAGMA journal_mode=WAL")
            return
        from alembic import command
        from alembic.config import Config

        engine = create_engine(database)
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(SCRIPTS.parent))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            there = MetaData()
            there.reflect(connection)
            old.row_factory = sqlite3.Row
            for table in there.sorted_tables:
                if table.name == "alembic_version":
                    continue
                kinds = {c.name: c.type.python_type for c in table.columns}
                rows = [
                    {k: None if v is None else kinds[k](v) for k, v in dict(row).items()}
                    for row in old.execute(f'SELECT * FROM "{table.name}"')
                ]
                if rows:
                    connection.execute(table.insert(), rows)
                if "id" in table.c:
                    ids = f"pg_get_serial_sequence('{table.name}', 'id')"
                    connection.execute(
                        text(
                            f"SELECT setval({ids}, (SELECT coalesce(max(id), 0) + 1 FROM {table.name}))"
                        )
                    )
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def nothing(request, tmp_path):
    """Where no registry is yet: a path, and a database in PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "registry.db"
    return request.getfixturevalue("postgres").database()


OLD = sorted(_KNOWN - {HEAD})


@pytest.fixture(params=OLD)
def old(request, nothing):
    released(nothing, request.param, None if isinstance(nothing, Path) else nothing)
    return nothing


def _whole(registry):
    """What a person sees of the released registry, all of it."""
    return {
        "versions": [v.ref for v in registry.versions()],
        "prod": registry.version("naval", alias="prod").number,
        "moves": [(m.old, m.new, m.author) for m in registry.alias_history("naval")],
        "note": (
            registry.version("naval", number=2).tags,
            dict(registry.version("naval", number=2).metrics),
        ),
        "parents": [(p.label, p.weight) for p in registry.parents(manifest(4).digest)],
        "trash": [v.ref for v in registry.trash()],
        "bases": [(b.name, n) for b, n in registry.bases()],
        "placed": [(p.place, p.number) for p in registry.placements(manifest(2).digest)],
        "events": [e.verb for e in registry.events()],
    }


WHOLE = {
    "versions": ["bridge@1", "naval@1", "naval@2", "team/medic@1"],
    "prod": 2,
    "moves": [(None, 1, "ada"), (1, 2, "bob")],
    "note": (("sea",), {"accuracy": 0.93}),
    "parents": [("naval@2", 0.7), ("team/medic", 0.3)],
    "trash": ["naval@3"],
    "bases": [("fleet/boat", 1), ("fleet/ship", 3)],
    "placed": [("file:///mnt/team/naval", 2)],
    "events": [
        "published",
        "deleted",
        "added",
        "alias-moved",
        "noted",
        "merged",
        "added",
        "added",
        "alias-moved",
        "added",
    ],
}


def test_every_released_registry_is_migrated_without_loss_and_goes_on(old):
    with Registry.open(old) as registry:
        assert _whole(registry) == WHOLE
        assert registry.add_version("naval", manifest("new"))[0].number == 4
    with Registry.open(old) as registry:
        assert registry.versions(name="naval")[-1].number == 4


def test_who_did_what_before_there_were_two_names_is_told_from_who_made_it(old):
    with Registry.open(old) as registry:
        events = registry.events()
    moved = [(e.actor, e.author) for e in events if e.verb == "alias-moved"]
    assert moved == [("bob", ""), ("ada", "")]
    brought = [(e.actor, e.author) for e in events if e.verb in {"added", "merged"}]
    assert {actor for actor, author in brought if actor == author} == {"ada", "bob", ""}
    assert all(actor == author for actor, author in brought)


@pytest.mark.parametrize(
    "old",
    [OLD[0], *(pytest.param(one, marks=pytest.mark.soak) for one in OLD[1:])],
    indirect=True,
)
def test_many_that_open_an_old_registry_at_once_migrate_it_once(old):
    def opens():
        with Registry.open(old) as registry:
            return _whole(registry)

    assert at_once([opens] * 6) == [WHOLE] * 6


def _is_of_the_models(_object, name, _kind, _reflected, _other):
    """Whether SQLAlchemy can say it; `indexes.SQL` says the others, and the next test compares those."""
    return not name.startswith(INDEXES) and not name.endswith("_any_case")


def test_the_models_are_what_the_migrations_make(old):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with Registry.open(old) as registry, registry._engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": _is_of_the_models,
            },
        )
        assert compare_metadata(context, metadata) == []
        if connection.dialect.name == "postgresql":
            bytewise = {
                (table.name, column.name)
                for table in metadata.tables.values()
                for column in table.columns
                if getattr(column.type.dialect_impl(connection.dialect), "collation", None) == "C"
            }
            found = connection.execute(
                text(
                    "SELECT table_name, column_name FROM information_schema.columns "
                    "WHERE collation_name = 'C' AND table_schema = 'public'"
                )
            )
            assert set(map(tuple, found)) == bytewise
            assert len(bytewise) > 5


def test_a_migrated_registry_has_the_tables_and_indexes_of_a_new_one(old, tmp_path):
    def shape(engine):
        look = inspect(engine)
        return {
            name: (
                sorted(c["name"] for c in look.get_columns(name)),
                sorted(i["name"] for i in look.get_indexes(name) if i["name"][:2] == "ix"),
            )
            for name in look.get_table_names()
            if not name.startswith(INDEXES)  # of SQLite only
        }

    fresh, migrated = open_engine(tmp_path / "fresh.db"), open_engine(old)
    assert shape(fresh) == shape(migrated)
    fresh.dispose()
    migrated.dispose()


def _parts(engine):
    """Everything in a SQLite database; what a table holds in any order, since a migration adds columns at the end."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT type, name, sql FROM sqlite_master")).all()
    engine.dispose()
    return {
        (kind, name): sorted(
            part.strip() for part in re.split(r"[,()\n]", sql or "") if part.strip()
        )
        for kind, name, sql in found
    }


def test_a_new_file_and_an_empty_registry_in_memory_hold_what_all_migrations_make(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with engine.begin() as connection:
        _migrate(connection)
    migrated, new = _parts(engine), _parts(open_engine(tmp_path / "new.db"))
    assert migrated == new
    assert {name for _, name in new} >= {*INDEXES, "ix_adapters_any_case", "tags_after_insert"}
    of_alembic = {key for key in new if "alembic_version" in key[1]}
    assert len(of_alembic) == 2
    assert _parts(empty_engine()) == {k: v for k, v in new.items() if k not in of_alembic}


def test_a_released_migration_is_never_edited():
    for name, digest in FROZEN.items():
        # The formatter may change the text, and a Python how it dumps a tree.
        code = ast.unparse(ast.parse((SCRIPTS / name).read_text()))
        assert hashlib.sha256(code.encode()).hexdigest() == digest, f"{name} was released as it is"


def test_a_newer_schema_names_the_version_to_install(database):
    with Registry.open(database) as registry, registry._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
        connection.execute(text("UPDATE about SET value = '7.2.0' WHERE key = 'adaptkit'"))
    with pytest.raises(
        RegistryTooNew, match=f"its schema is 0999, this version knows {HEAD}"
    ) as caught:
        Registry.open(database)
    assert caught.value.fix == "pip install 'adaptkit-peft>=7.2.0'"


def test_a_registry_says_which_adaptkit_made_its_schema(database):
    from importlib.metadata import version

    with Registry.open(database) as registry, registry._engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM about")).scalar() == version(
            "adaptkit-peft"
        )


def test_bases_that_were_called_verified_before_stay_verified(old):
    with Registry.open(old) as registry:
        hashed = {
            v.base.status
            for v in registry.versions()
            if any(level.measured and level.kind != "as1" for level in v.base.levels)
        }
        others = {v.base.status for v in registry.versions() if not v.base.levels}
    assert hashed <= {"verified"}
    assert others <= {"unverified"}
