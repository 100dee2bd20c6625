"""Who did something, apart from who made the content; before, one field held either."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "events",
        sa.Column("actor", sa.String(length=200), server_default=sa.text("''"), nullable=False),
    )
    events = sa.table("events", sa.column("verb"), sa.column("author"), sa.column("actor"))
    brought = events.c.verb.in_(("pulled", "rebuilt"))
    made = events.c.verb.in_(("pulled", "rebuilt", "added", "merged", "extracted"))
    op.execute(events.update().where(~brought).values(actor=events.c.author))
    op.execute(events.update().where(~made).values(author=""))
