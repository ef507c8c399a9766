"""The registry's door to SQLite: inquiries, the answers given, card states, and what a tracking code may be told.

`code` is all that the public verification reads, and nothing in it is personal.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tools.simulators.party import files
from wire.inquiry import CardStatus

_SCHEMA = """
CREATE TABLE IF NOT EXISTS code (
    tracking_code TEXT PRIMARY KEY, issued_ms INTEGER NOT NULL, audience TEXT, office_class TEXT,
    state TEXT NOT NULL, until_ms INTEGER NOT NULL, loa INTEGER, token_hash BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inquiry (
    terminal BLOB NOT NULL, req_id BLOB NOT NULL, tracking_code TEXT NOT NULL UNIQUE REFERENCES code,
    audience TEXT NOT NULL, service TEXT NOT NULL, min_loa INTEGER NOT NULL, txh BLOB NOT NULL,
    legal_basis TEXT NOT NULL, card_certificate BLOB NOT NULL, nonce BLOB NOT NULL, policy TEXT NOT NULL,
    opened_ms INTEGER NOT NULL, token BLOB, PRIMARY KEY (terminal, req_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS one_assertion_per_act ON inquiry (audience, txh) WHERE token IS NOT NULL;
CREATE TABLE IF NOT EXISTS answer (
    terminal BLOB NOT NULL, request_hash BLOB NOT NULL, tracking_code TEXT NOT NULL REFERENCES code,
    answer BLOB NOT NULL, PRIMARY KEY (terminal, request_hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS card (document_number TEXT PRIMARY KEY, status INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


class CodeState(StrEnum):
    """How far an inquiry has come. What the public is told adds the passing of time."""

    OPEN = "open"
    ASSERTED = "asserted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CodeRecord:
    """What is known of a code. `until_ms`: end of the challenge, or of the assertion's use."""

    tracking_code: str
    issued_ms: int
    audience: str | None
    office_class: str | None
    state: CodeState
    until_ms: int
    loa: int | None = None
    token_hash: bytes | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Inquiry:
    """An inquiry that was opened with a challenge. Without a repr: the certificate names a card."""

    terminal: bytes
    req_id: bytes
    tracking_code: str
    audience: str
    service: str
    min_loa: int
    txh: bytes
    legal_basis: str
    card_certificate: bytes
    nonce: bytes
    policy: str
    opened_ms: int


class Store:
    """One connection, used by one thread. Writes belong inside `transaction`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OSError, sqlite3.Error: it cannot be; the simulator does not start.
        """
        self._db = sqlite3.connect(files.private_file(path), isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; on disk when the block has ended."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def code(self, tracking_code: str) -> CodeRecord | None:
        """What is known of a code in canonical form."""
        row = self._db.execute("SELECT * FROM code WHERE tracking_code = ?", (tracking_code,)).fetchone()
        if row is None:
            return None
        tracking_code, issued_ms, audience, office_class, state, until_ms, loa, token_hash = row
        return CodeRecord(tracking_code, issued_ms, audience, office_class, CodeState(state), until_ms, loa, token_hash)

    def keep_code(self, record: CodeRecord) -> None:
        """Insert or replace what is known of a code."""
        self._db.execute(
            "INSERT INTO code VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tracking_code) DO UPDATE SET"
            " state = excluded.state, until_ms = excluded.until_ms, loa = excluded.loa,"
            " token_hash = excluded.token_hash",
            (
                record.tracking_code,
                record.issued_ms,
                record.audience,
                record.office_class,
                record.state,
                record.until_ms,
                record.loa,
                record.token_hash,
            ),
        )

    def inquiry(self, terminal: bytes, req_id: bytes) -> Inquiry | None:
        """The inquiry that `terminal` opened as `req_id`."""
        row = self._db.execute(
            "SELECT terminal, req_id, tracking_code, audience, service, min_loa, txh, legal_basis, card_certificate,"
            " nonce, policy, opened_ms FROM inquiry WHERE terminal = ? AND req_id = ?",
            (terminal, req_id),
        ).fetchone()
        return None if row is None else Inquiry(*row)

    def open_inquiry(self, inquiry: Inquiry) -> None:
        """Insert an inquiry whose code is kept already."""
        self._db.execute(
            "INSERT INTO inquiry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                inquiry.terminal,
                inquiry.req_id,
                inquiry.tracking_code,
                inquiry.audience,
                inquiry.service,
                inquiry.min_loa,
                inquiry.txh,
                inquiry.legal_basis,
                inquiry.card_certificate,
                inquiry.nonce,
                inquiry.policy,
                inquiry.opened_ms,
            ),
        )

    def keep_token(self, inquiry: Inquiry, token: bytes) -> None:
        """Both sides keep the assertion (decree 003 article 5)."""
        self._db.execute(
            "UPDATE inquiry SET token = ? WHERE terminal = ? AND req_id = ?",
            (token, inquiry.terminal, inquiry.req_id),
        )

    def act_is_asserted(self, audience: str, txh: bytes) -> bool:
        """Whether this act of this relying party has its one assertion already."""
        row = self._db.execute(
            "SELECT 1 FROM inquiry WHERE audience = ? AND txh = ? AND token IS NOT NULL", (audience, txh)
        ).fetchone()
        return row is not None

    def answer(self, terminal: bytes, request_hash: bytes) -> bytes | None:
        """What was answered to the same request before."""
        row = self._db.execute(
            "SELECT answer FROM answer WHERE terminal = ? AND request_hash = ?", (terminal, request_hash)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def keep_answer(self, terminal: bytes, request_hash: bytes, tracking_code: str, answer: bytes) -> None:
        """Keep an answer before it is sent."""
        self._db.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (terminal, request_hash, tracking_code, answer))

    def card_status(self, document_number: str) -> CardStatus | None:
        """The state that the operator gave a card, if any."""
        row = self._db.execute("SELECT status FROM card WHERE document_number = ?", (document_number,)).fetchone()
        return None if row is None else CardStatus(row[0])

    def set_card_status(self, document_number: str, status: CardStatus) -> None:
        """The operator says what a card is now."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO card VALUES (?, ?)", (document_number, int(status)))

    def counts(self) -> dict[str, int]:
        """How many rows of each kind there are, for the operator and the tests."""
        return {
            name: self._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608  fixed names
            for name in ("code", "inquiry", "answer")
        }
