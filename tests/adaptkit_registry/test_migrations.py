"""adaptkit_registry.migrations: they give exactly the tables of adaptkit_registry.schema."""

from __future__ import annotations

from pathlib import Path

import adaptkit_registry
from adaptkit_registry import Registry, opening, schema
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from artifacts import manifest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, text

MIGRATIONS = Path(adaptkit_registry.__file__).parent / "migrations"


def _config(connection=None):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _differences(path, metadata):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = compare_metadata(context, metadata)
    engine.dispose()
    return found


def _dump(path):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")).all()
    engine.dispose()
    return [tuple(row) for row in found]


def test_the_migrations_give_the_tables_of_the_schema(tmp_path):
    Registry.open(tmp_path / "registry.db").close()
    assert _differences(tmp_path / "registry.db", schema.metadata) == []


def test_the_comparison_sees_a_column_and_a_table_too_many(tmp_path):
    Registry.open(tmp_path / "registry.db").close()
    other = MetaData(naming_convention=schema.metadata.naming_convention)
    for table in schema.metadata.tables.values():
        table.to_metadata(other)
    Table("more", other, Column("id", Integer, primary_key=True))
    other.tables["tags"].append_column(Column("colour", Integer))
    assert sorted(difference[0] for difference in _differences(tmp_path / "registry.db", other)) == [
        "add_column", "add_table"]  # fmt: skip


def test_foreign_keys_and_unique_constraints_are_those_of_the_schema(tmp_path):
    """compare_metadata says nothing of constraints that SQLite does not name, so look at them one by one."""
    Registry.open(tmp_path / "migrated.db").close()
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    schema.metadata.create_all(made)

    def told(engine):
        from sqlalchemy import inspect

        inspector = inspect(engine)
        return {
            name: (
                sorted((tuple(k["constrained_columns"]), k["referred_table"], tuple(k["referred_columns"]))
                       for k in inspector.get_foreign_keys(name)),
                sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(name)),
                sorted((i["name"], tuple(i["column_names"])) for i in inspector.get_indexes(name)),
                tuple(inspector.get_pk_constraint(name)["constrained_columns"]),
                [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            )
            for name in inspector.get_table_names() if name != "alembic_version"
        }  # fmt: skip

    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    assert told(migrated) == told(made)
    assert len(told(made)) == 13
    migrated.dispose()
    made.dispose()


def test_upgrading_again_changes_nothing(tmp_path):
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        registry.add_version("naval", manifest(1))
    before = _dump(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")
    engine.dispose()
    with Registry.open(path) as registry:
        assert registry.version("naval").digest == manifest(1).digest
    assert _dump(path) == before


def test_the_newest_migration_is_the_one_that_opening_knows():
    scripts = ScriptDirectory.from_config(_config())
    assert scripts.get_heads() == [opening.HEAD]
    assert {script.revision for script in scripts.walk_revisions()} == opening._KNOWN
