"""A full-text index of what a word is looked for in (SQLite), and indexes of names whatever their case."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

WORDS = (
    "CREATE VIEW adapter_texts AS SELECT id, CASE WHEN text GLOB '*[^ -~]*' THEN lower(text) ELSE text END AS text FROM (SELECT o.id AS id, o.name || ' ' || o.description || coalesce((SELECT group_concat(' ' || name, '') FROM (SELECT name FROM redirects WHERE adapter_id = o.id ORDER BY name)), '') AS text FROM adapters o)",
    "CREATE VIRTUAL TABLE adapter_words USING fts5(text, content='adapter_texts', content_rowid='id', tokenize='trigram', detail='none', columnsize=0)",
    "CREATE TRIGGER adapters_inserted AFTER INSERT ON adapters BEGIN INSERT INTO adapter_words(rowid, text) SELECT id, text FROM adapter_texts WHERE id = new.id; END",
    "CREATE TRIGGER adapters_updating BEFORE UPDATE OF name, description ON adapters BEGIN INSERT INTO adapter_words(adapter_words, rowid, text) SELECT 'delete', id, text FROM adapter_texts WHERE id = old.id; END",
    "CREATE TRIGGER adapters_updated AFTER UPDATE OF name, description ON adapters BEGIN INSERT INTO adapter_words(rowid, text) SELECT id, text FROM adapter_texts WHERE id = new.id; END",
    "CREATE TRIGGER adapters_deleting BEFORE DELETE ON adapters BEGIN INSERT INTO adapter_words(adapter_words, rowid, text) SELECT 'delete', id, text FROM adapter_texts WHERE id = old.id; END",
    "CREATE TRIGGER redirects_before_insert BEFORE INSERT ON redirects BEGIN INSERT INTO adapter_words(adapter_words, rowid, text) SELECT 'delete', id, text FROM adapter_texts WHERE id = new.adapter_id; END",
    "CREATE TRIGGER redirects_after_insert AFTER INSERT ON redirects BEGIN INSERT INTO adapter_words(rowid, text) SELECT id, text FROM adapter_texts WHERE id = new.adapter_id; END",
    "CREATE TRIGGER redirects_before_delete BEFORE DELETE ON redirects BEGIN INSERT INTO adapter_words(adapter_words, rowid, text) SELECT 'delete', id, text FROM adapter_texts WHERE id = old.adapter_id; END",
    "CREATE TRIGGER redirects_after_delete AFTER DELETE ON redirects BEGIN INSERT INTO adapter_words(rowid, text) SELECT id, text FROM adapter_texts WHERE id = old.adapter_id; END",
    "CREATE VIEW version_texts AS SELECT id, CASE WHEN text GLOB '*[^ -~]*' THEN lower(text) ELSE text END AS text FROM (SELECT o.id AS id, o.message || coalesce((SELECT group_concat(' ' || tag, '') FROM (SELECT tag FROM tags WHERE version_id = o.id ORDER BY tag)), '') AS text FROM versions o)",
    "CREATE VIRTUAL TABLE version_words USING fts5(text, content='version_texts', content_rowid='id', tokenize='trigram', detail='none', columnsize=0)",
    "CREATE TRIGGER versions_inserted AFTER INSERT ON versions BEGIN INSERT INTO version_words(rowid, text) SELECT id, text FROM version_texts WHERE id = new.id; END",
    "CREATE TRIGGER versions_updating BEFORE UPDATE OF message ON versions BEGIN INSERT INTO version_words(version_words, rowid, text) SELECT 'delete', id, text FROM version_texts WHERE id = old.id; END",
    "CREATE TRIGGER versions_updated AFTER UPDATE OF message ON versions BEGIN INSERT INTO version_words(rowid, text) SELECT id, text FROM version_texts WHERE id = new.id; END",
    "CREATE TRIGGER versions_deleting BEFORE DELETE ON versions BEGIN INSERT INTO version_words(version_words, rowid, text) SELECT 'delete', id, text FROM version_texts WHERE id = old.id; END",
    "CREATE TRIGGER tags_before_insert BEFORE INSERT ON tags BEGIN INSERT INTO version_words(version_words, rowid, text) SELECT 'delete', id, text FROM version_texts WHERE id = new.version_id; END",
    "CREATE TRIGGER tags_after_insert AFTER INSERT ON tags BEGIN INSERT INTO version_words(rowid, text) SELECT id, text FROM version_texts WHERE id = new.version_id; END",
    "CREATE TRIGGER tags_before_delete BEFORE DELETE ON tags BEGIN INSERT INTO version_words(version_words, rowid, text) SELECT 'delete', id, text FROM version_texts WHERE id = old.version_id; END",
    "CREATE TRIGGER tags_after_delete AFTER DELETE ON tags BEGIN INSERT INTO version_words(rowid, text) SELECT id, text FROM version_texts WHERE id = old.version_id; END",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in ("adapters", "redirects"):
            op.execute(f"CREATE INDEX ix_{table}_any_case ON {table} (lower(name))")
    if op.get_bind().dialect.name == "sqlite":
        for table in ("adapters", "redirects"):
            op.execute(f"CREATE INDEX ix_{table}_any_case ON {table} (name COLLATE NOCASE)")
        for statement in WORDS:
            op.get_bind().exec_driver_sql(statement)
        for index in ("adapter_words", "version_words"):
            op.get_bind().exec_driver_sql(f"INSERT INTO {index}({index}) VALUES ('rebuild')")
