"""The roles of docs/teams.md, granted with the SQL that stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from artifacts import manifest
from postgres import started
from sqlalchemy import text

from adaptkit.errors import RegistryError
from adaptkit.types import Placement
from adaptkit_registry import Registry

SQL = re.findall(
    r"```sql\n(.*?)```",
    (Path(__file__).parents[2] / "docs" / "teams.md").read_text("utf-8"),
    re.DOTALL,
)


@pytest.fixture(scope="module")
def server():
    with started() as own:
        yield own


@pytest.fixture(scope="module")
def url(server):
    made = server.database()
    with Registry.open(made) as registry:
        registry.add_version("naval", manifest(1), alias="prod")
    for block in SQL:
        server.sql(block, made)
    return made


def as_user(server, url, name):
    return Registry.open(server.url(url.partition("@/")[2].partition("?")[0], name))


def test_a_writer_does_everything_but_change_the_schema_or_the_audit_trail(server, url):
    assert len(SQL) == 2
    with as_user(server, url, "ada") as registry:
        registry.add_version("naval", manifest(2), author="ada")
        registry.move_alias("naval", "prod", 2)
        registry.annotate("naval", 2, tags=["sea"], metrics={"accuracy": 0.9}, description="terse")
        registry.rename("naval", "marine")
        registry.record_placement(Placement("file:///x", 1, manifest(2).digest, "2026"))
        registry.delete("marine", 1)
        assert [v.ref for v in registry.purge("9999")] == ["marine@1"]
        assert registry.problems() == []
        for forbidden in (
            "DELETE FROM events",
            "UPDATE events SET author = 'bob'",
            "UPDATE alembic_version SET version_num = '1'",
            "DROP TABLE aliases",
            "CREATE TABLE x (y int)",
        ):
            with (
                pytest.raises(RegistryError, match="does not let 'ada' do this"),
                registry._writing() as connection,
            ):
                connection.execute(text(forbidden))


def test_a_reader_reads_and_writes_nothing(server, url):
    with as_user(server, url, "bob") as registry:
        assert registry.names()
        assert registry.events()
        assert list(registry.export_lines())
        for write in (
            lambda: registry.add_version("x", manifest(3)),
            lambda: registry.move_alias(registry.names()[0], "prod", None),
            lambda: registry.import_lines(list(registry.export_lines()) and _other_export()),
        ):
            with pytest.raises(RegistryError, match="does not let 'bob' do this"):
                write()


def _other_export():
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "x.db") as registry:
        registry.add_version("other", manifest("other"))
        return list(registry.export_lines())
