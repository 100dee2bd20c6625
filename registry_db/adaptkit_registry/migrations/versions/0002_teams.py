"""Renames, descriptions, figures to search by, names and pairs of bases; large files and bytewise order in PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BYTEWISE = (
    ("adapters", "name", 200),
    ("artifacts", "digest", 80),
    ("files", "digest", 80),
    ("versions", "digest", 80),
    ("lineage", "child", 80),
    ("lineage", "parent", 80),
    ("placements", "digest", 80),
    ("events", "digest", 80),
    ("base_levels", "value", 80),
)


def key(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "about",
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_about")),
    )
    op.create_table(
        "redirects",
        sa.Column("name", key(200), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("when", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_redirects_adapter_id")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_redirects")),
    )
    op.create_index(op.f("ix_redirects_adapter_id"), "redirects", ["adapter_id"], unique=False)
    op.create_table(
        "base_names",
        sa.Column("name", key(200), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("when", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_base_names_base_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_base_names")),
    )
    op.create_table(
        "pairs",
        sa.Column("fs1", key(80), nullable=False),
        sa.Column("tm1", key(80), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("when", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("fs1", name=op.f("pk_pairs")),
    )
    op.add_column(
        "adapters",
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
    )
    op.create_index(op.f("ix_metrics_name_value"), "metrics", ["name", "value"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        for table, column, length in BYTEWISE:
            op.alter_column(table, column, type_=sa.String(length, collation="C"))
        op.alter_column("files", "size", type_=sa.BigInteger())
