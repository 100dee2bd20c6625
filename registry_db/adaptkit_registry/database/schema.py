"""The tables. A change here needs a migration; tests/adaptkit_registry/test_migrations.py compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from adaptkit_registry.database.checked import check_columns

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BYTES = BigInteger().with_variant(Integer, "sqlite")  # SQLite's INTEGER has 64 bits anyway


def key(length: int) -> String:
    """A name or a digest: PostgreSQL orders it by its bytes, as SQLite does, and finds prefixes by its index."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


about = Table(
    "about",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", String(200), nullable=False),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", key(200), nullable=False, unique=True),
    Column(
        "next_number", Integer, nullable=False
    ),  # never goes back, so that a number is never used twice
    Column("created", String(32), nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
)

redirects = Table(
    "redirects",
    metadata,
    Column(
        "name", key(200), primary_key=True
    ),  # a name that an adapter had; never also the name of another
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False, index=True),
    Column("when", String(32), nullable=False),
)

bases = Table(
    "bases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "key", String(80), nullable=False, unique=True
    ),  # digest of everything below and of the levels
    Column("name", String(400), index=True),
    Column("quantised", Text),
    Column("derived_from", String(400)),
    Column("checked", Boolean, nullable=False, server_default=false()),  # an adapter, against it
)

base_levels = Table(
    "base_levels",
    metadata,
    Column("base_id", ForeignKey("bases.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("value", key(80), nullable=False, index=True),
    Column("measured", Boolean, nullable=False),
)

base_names = Table(
    "base_names",
    metadata,
    Column("name", key(200), primary_key=True),  # what people here call a base
    Column("base_id", ForeignKey("bases.id"), nullable=False),
    Column("author", String(200), nullable=False),
    Column("when", String(32), nullable=False),
)

pairs = Table(
    "pairs",
    metadata,
    Column("fs1", key(80), primary_key=True),  # these files
    Column("tm1", key(80), nullable=False),  # hold these tensors, as
    Column("author", String(200), nullable=False),  # measured
    Column("when", String(32), nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", key(80), primary_key=True),
    Column("method", String(64), nullable=False, index=True),
    Column("rank", Integer),
    Column("base_id", ForeignKey("bases.id"), nullable=False, index=True),
    Column("manifest", Text, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("digest", key(80), ForeignKey("artifacts.digest"), primary_key=True),
    Column("path", String(400), primary_key=True),
    Column("size", BYTES, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", key(80), ForeignKey("artifacts.digest"), nullable=False, index=True),
    Column("message", Text, nullable=False),
    Column("author", String(200), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("created", String(32), nullable=False),
    Column("deleted", String(32)),  # when it went to the trash
    UniqueConstraint("adapter_id", "number"),
)

tags = Table(
    "tags",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("tag", String(200), primary_key=True, index=True),
)

metrics = Table(
    "metrics",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("value", Float, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False, index=True),
    Column("alias", String(64), nullable=False),
    Column("old", Integer),
    Column("new", Integer),
    Column("when", String(32), nullable=False),
    Column("author", String(200), nullable=False),
)

lineage = Table(
    "lineage",
    metadata,
    Column("child", key(80), ForeignKey("artifacts.digest"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent", key(80), nullable=False, index=True),  # may be known elsewhere only
    Column("weight", Float, nullable=False),
    Column("role", String(32), nullable=False),
    Column("label", String(400), nullable=False),
)

placements = Table(
    "placements",
    metadata,
    Column("place", String(800), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", key(80), nullable=False, index=True),
    Column("when", String(32), nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("verb", String(32), nullable=False),
    Column("subject", String(400), nullable=False, index=True),
    Column("digest", key(80), nullable=False),
    Column("detail", Text, nullable=False),
    Column("when", String(32), nullable=False),
    Column("author", String(200), nullable=False),  # who made the content, where some came in
    Column("actor", String(200), nullable=False, server_default=text("''")),  # who did it, here
)

# The latest live version of each name, and the list of one name, come from this index alone.
Index(None, versions.c.adapter_id, versions.c.deleted, versions.c.number)
Index(None, metrics.c.name, metrics.c.value)

check_columns(metadata)
