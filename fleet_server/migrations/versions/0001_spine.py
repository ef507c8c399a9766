"""The first schema: terminals, certificates, facts, outbox, admins.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create everything, and the one row of `revision`."""
    op.create_table(
        "admin_links",
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_admin_links")),
    )
    op.create_table(
        "admin_sessions",
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_admin_sessions")),
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
    )
    op.create_table(
        "terminals",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("enrolled_ms", sa.BigInteger(), nullable=True),
        sa.Column("presence", sa.String(length=8), server_default="never", nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=True),
        sa.Column("boot", sa.LargeBinary(length=16), nullable=True),
        sa.Column("session", sa.BigInteger(), nullable=True),
        sa.Column("session_ended", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("journal", sa.LargeBinary(length=16), nullable=True),
        sa.Column("state_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("profile", sa.String(length=64), nullable=True),
        sa.Column("reader", sa.Integer(), nullable=True),
        sa.Column("clock_trusted", sa.Boolean(), nullable=True),
        sa.Column("blocked", sa.JSON(), nullable=True),
        sa.Column("facts_unsent", sa.BigInteger(), nullable=True),
        sa.Column("facts_kept", sa.BigInteger(), nullable=True),
        sa.Column("journal_bytes", sa.BigInteger(), nullable=True),
        sa.Column("rss_kib", sa.BigInteger(), nullable=True),
        sa.Column("uptime_s", sa.BigInteger(), nullable=True),
        sa.Column("health_session", sa.BigInteger(), nullable=True),
        sa.Column("health_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("presence IN ('never', 'online', 'left', 'lost')", name=op.f("ck_terminals_presence")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_terminals")),
    )
    op.create_table(
        "anomalies",
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_anomalies_terminal")),
        sa.PrimaryKeyConstraint("terminal", "id", name=op.f("pk_anomalies")),
    )
    op.create_table(
        "certificates",
        sa.Column("serial_number", sa.String(length=40), nullable=False),
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_certificates_terminal")),
        sa.PrimaryKeyConstraint("serial_number", name=op.f("pk_certificates")),
    )
    op.create_index(op.f("ix_certificates_terminal"), "certificates", ["terminal"], unique=False)
    op.create_table(
        "commands",
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("result_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_commands_terminal")),
        sa.PrimaryKeyConstraint("terminal", "id", name=op.f("pk_commands")),
    )
    op.create_index(
        "ix_commands_open",
        "commands",
        ["terminal", "not_after_ms"],
        unique=False,
        sqlite_where=sa.text("result IS NULL"),
        postgresql_where=sa.text("result IS NULL"),
    )
    op.create_table(
        "enrolment_codes",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.Column("csr_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("certificate", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(["serial"], ["terminals.serial"], name=op.f("fk_enrolment_codes_serial")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_enrolment_codes")),
    )
    op.create_table(
        "facts",
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("journal", sa.LargeBinary(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_facts_terminal")),
        sa.PrimaryKeyConstraint("terminal", "journal", "seq", name=op.f("pk_facts")),
    )
    op.create_index(op.f("ix_facts_terminal_received_ms"), "facts", ["terminal", "received_ms"], unique=False)
    op.create_table(
        "journals",
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("journal", sa.LargeBinary(length=16), nullable=False),
        sa.Column("stored_through", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=True),
        sa.Column("last_seq", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_journals_terminal")),
        sa.PrimaryKeyConstraint("terminal", "journal", name=op.f("pk_journals")),
    )
    op.create_table(
        "timeline",
        sa.Column("terminal", sa.String(length=40), nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["terminal"], ["terminals.serial"], name=op.f("fk_timeline_terminal")),
        sa.PrimaryKeyConstraint("terminal", "id", name=op.f("pk_timeline")),
    )
    op.bulk_insert(
        sa.table("revision", sa.column("id", sa.Integer), sa.column("value", sa.BigInteger)), [{"id": 1, "value": 1}]
    )
