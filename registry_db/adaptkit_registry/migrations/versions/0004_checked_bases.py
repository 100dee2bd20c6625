"""Whether an adapter was checked against its base, apart from whether the base was hashed; before, one meant both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "bases", sa.Column("checked", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    bases = sa.table("bases", sa.column("id"), sa.column("checked", sa.Boolean()))
    levels = sa.table(
        "base_levels",
        sa.column("base_id"),
        sa.column("kind"),
        sa.column("measured", sa.Boolean()),
    )
    hashed = sa.select(levels.c.base_id).where(levels.c.measured, levels.c.kind != "as1")
    op.execute(bases.update().where(bases.c.id.in_(hashed)).values(checked=sa.true()))
