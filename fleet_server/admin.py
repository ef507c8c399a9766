"""How the first administrator comes in: a one-time link printed on the server itself, which becomes a session.

Tokens are made by the caller and only their SHA-256 is stored, so the database opens nothing. A used, expired and
unknown link are the same answer, for ever (test S2 of the security list).
"""

from __future__ import annotations

import hashlib
from typing import Final

import sqlalchemy as sa

from fleet_server.db import admin_links, admin_sessions

TOKEN_BYTES: Final = 32
LINK_LIFE_MS: Final = 24 * 3600 * 1000
SESSION_LIFE_MS: Final = 12 * 3600 * 1000
LOGIN_PATH: Final = "/login/"
"""The token follows. The web application serves this path and keeps it out of its access log."""


def token_hash(token: str) -> bytes:
    """What is stored of a token. Tokens are 256 random bits, so one plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()


def add_link(connection: sa.Connection, token: str, *, now_ms: int) -> None:
    """Make `token` good for one login within `LINK_LIFE_MS`."""
    connection.execute(
        sa.insert(admin_links).values(
            token_hash=token_hash(token), created_ms=now_ms, expires_ms=now_ms + LINK_LIFE_MS, used_ms=None
        )
    )


def consume_link(connection: sa.Connection, token: str, *, session_token: str, now_ms: int) -> bool:
    """Turn a link into a session under `session_token`. False: unknown, used or expired; then nothing changed.

    Must run in `db.writing`. One UPDATE decides, so of many concurrent calls exactly one gets True.
    """
    used = connection.execute(
        sa.update(admin_links)
        .where(
            admin_links.c.token_hash == token_hash(token),
            admin_links.c.used_ms.is_(None),
            admin_links.c.expires_ms > now_ms,
        )
        .values(used_ms=now_ms)
    )
    if used.rowcount != 1:
        return False
    connection.execute(sa.delete(admin_sessions).where(admin_sessions.c.expires_ms <= now_ms))
    connection.execute(
        sa.insert(admin_sessions).values(
            token_hash=token_hash(session_token), created_ms=now_ms, expires_ms=now_ms + SESSION_LIFE_MS
        )
    )
    return True


def session_valid(connection: sa.Connection, session_token: str, *, now_ms: int) -> bool:
    """Whether the session exists and has not expired."""
    found = connection.execute(
        sa.select(admin_sessions.c.created_ms).where(
            admin_sessions.c.token_hash == token_hash(session_token), admin_sessions.c.expires_ms > now_ms
        )
    )
    return found.first() is not None


def end_session(connection: sa.Connection, session_token: str) -> None:
    """Log out. An unknown session is already out."""
    connection.execute(sa.delete(admin_sessions).where(admin_sessions.c.token_hash == token_hash(session_token)))
