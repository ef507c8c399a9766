"""How a serial becomes a terminal: pre-listed by a person, then a certificate for one one-time code.

Rules (security tests S2 to S9): an unknown serial, a wrong, expired or used code are one and the same refusal; nothing
is written for who has no code; one code gives one certificate however many ask at once; the same request asked again
within the code's life gets the same certificate, so that a lost answer costs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server import ca, db
from fleet_server.errors import CredentialRefusedError, RequestRefusedError, TooManyAttemptsError
from wire.topics import TopicRefusedError, terminal_id
from wire.tracking_code import ALPHABET

CODE_SYMBOLS: Final = 16
CODE_ENTROPY_BYTES: Final = 16
_MAX_TRACKED_SERIALS: Final = 10_000
_NO_HASH: Final = bytes(32)


def make_code(entropy: bytes) -> str:
    """A one-time code, ``XXXX-XXXX-XXXX-XXXX``: 16 symbols without look-alikes, 78 bits of the 128 random ones."""
    if len(entropy) != CODE_ENTROPY_BYTES:
        raise ValueError(f"needs {CODE_ENTROPY_BYTES} bytes")
    number = int.from_bytes(entropy) % len(ALPHABET) ** CODE_SYMBOLS
    symbols = ""
    for _ in range(CODE_SYMBOLS):
        number, value = divmod(number, len(ALPHABET))
        symbols += ALPHABET[value]
    return "-".join(symbols[i : i + 4] for i in range(0, CODE_SYMBOLS, 4))


def code_hash(serial: str, code: str) -> bytes:
    """What is stored of a code; typing it in lower case or without hyphens makes no difference."""
    plain = "".join(symbol for symbol in code.upper() if symbol not in "- ")
    return hashlib.sha256(f"govah-enrolment;v=1\0{serial}\0{plain}".encode()).digest()


def add_terminal(
    connection: sa.Connection, serial: str, *, code: str, now_ms: int, life_s: int, new_id: Callable[[], bytes]
) -> int:
    """List `serial` (or list it again) and make `code` its one live code. Returns when the code expires, in ms.

    Must run in `db.writing`.

    Raises:
        RequestRefusedError: `serial` may not name a terminal.
    """
    try:
        terminal_id(serial)
    except TopicRefusedError as exc:
        raise RequestRefusedError(str(exc)) from exc
    new = db.insert_ignoring(connection, db.terminals, [{"serial": serial, "added_ms": now_ms}])
    expires_ms = now_ms + life_s * 1000
    row = {
        "serial": serial,
        "code_hash": code_hash(serial, code),
        "expires_ms": expires_ms,
        "used_ms": None,
        "csr_hash": None,
        "certificate": None,
    }
    db.upsert(connection, db.enrolment_codes, [row], [name for name in row if name != "serial"])
    _note(connection, serial, now_ms, "added" if new else "code_renewed", detail={}, row_id=new_id())
    return expires_ms


@dataclass(frozen=True, slots=True)
class Issuing:
    """What the CA needs to answer one request. `serial_number` is used for at most one certificate."""

    authority: ca.Authority
    crl_url: str
    days: int
    now: datetime
    serial_number: bytes


def enrol(
    engine: sa.Engine, serial: str, code: str, csr: bytes, issuing: Issuing, *, new_id: Callable[[], bytes]
) -> x509.Certificate:
    """The certificate for `csr`, committed before it is returned.

    Args:
        engine: opens its own transaction: reading first, so that who has no code never holds the writers' lock.
        serial: user name of the request.
        code: password of the request.
        csr: PKCS #10, DER.
        issuing: the CA, the time and a fresh serial number.
        new_id: for the timeline row.

    Raises:
        CredentialRefusedError: no live code opens `serial`.
        CsrRefusedError: the code is good, the request is not; the code stays good.
    """
    now_ms = int(issuing.now.timestamp() * 1000)
    with db.reading(engine) as connection:
        _live_code(connection, serial, code, now_ms)
    key = ca.check_request(csr, serial)
    csr_hash = hashlib.sha256(csr).digest()
    with db.writing(engine) as connection:
        row = _live_code(connection, serial, code, now_ms)
        if row.used_ms is not None:
            return _issued_before(connection, row, csr_hash)
        certificate = ca.issue_terminal(
            issuing.authority,
            key,
            serial,
            serial=issuing.serial_number,
            now=issuing.now,
            days=issuing.days,
            crl_url=issuing.crl_url,
        )
        if not _use_code(connection, row, csr_hash, certificate, now_ms):
            return _issued_before(connection, _live_code(connection, serial, code, now_ms), csr_hash)
        _store(connection, serial, certificate, now_ms)
        detail = {"certificate": _hex(certificate)}
        _note(connection, serial, now_ms, "enrolled", detail=detail, row_id=new_id())
        return certificate


def _live_code(connection: sa.Connection, serial: str, code: str, now_ms: int) -> sa.Row[Any]:
    table = db.enrolment_codes
    row = connection.execute(sa.select(table).where(table.c.serial == serial)).first()
    stored = _NO_HASH if row is None else row.code_hash
    # computed and compared in any case: who asks learns nothing from the time that it took
    matches = hmac.compare_digest(stored, code_hash(serial, code))
    if row is None or not matches or row.expires_ms <= now_ms:
        raise CredentialRefusedError
    return row


def _issued_before(connection: sa.Connection, row: sa.Row[Any], csr_hash: bytes) -> x509.Certificate:
    """The certificate that this code gave to the same request."""
    if row.csr_hash is None or not hmac.compare_digest(row.csr_hash, csr_hash):
        raise CredentialRefusedError
    table = db.certificates
    pem = connection.execute(sa.select(table.c.pem).where(table.c.serial_number == row.certificate)).scalar_one()
    return x509.load_pem_x509_certificate(pem.encode())


def _use_code(
    connection: sa.Connection, row: sa.Row[Any], csr_hash: bytes, certificate: x509.Certificate, now_ms: int
) -> bool:
    table = db.enrolment_codes
    used = connection.execute(
        sa.update(table)
        .where(table.c.serial == row.serial, table.c.code_hash == row.code_hash, table.c.used_ms.is_(None))
        .values(used_ms=now_ms, csr_hash=csr_hash, certificate=_hex(certificate))
    )
    return used.rowcount == 1


def _store(connection: sa.Connection, serial: str, certificate: x509.Certificate, now_ms: int) -> None:
    connection.execute(
        sa.insert(db.certificates).values(
            serial_number=_hex(certificate),
            terminal=serial,
            pem=certificate.public_bytes(Encoding.PEM).decode(),
            not_before_ms=_ms(certificate.not_valid_before_utc),
            not_after_ms=_ms(certificate.not_valid_after_utc),
            issued_ms=now_ms,
        )
    )
    connection.execute(sa.update(db.terminals).where(db.terminals.c.serial == serial).values(enrolled_ms=now_ms))


def _note(
    connection: sa.Connection, serial: str, now_ms: int, kind: str, *, detail: dict[str, str], row_id: bytes
) -> None:
    connection.execute(
        sa.insert(db.timeline).values(terminal=serial, id=row_id, at_ms=now_ms, kind=kind, detail=detail)
    )


def _hex(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:034x}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class AttemptLimits:
    """Bounds guessing, in memory: all attempts in a second, and refusals per serial in a window.

    Serials are printed on terminals, so refusals never stand in the way of the right code: only another refusal says
    that it is time to wait. Codes have 78 bits; neither that nor forgetting the counts at a restart gives one away.
    Unknown serials are counted like known ones, so the bound tells nobody which is which, and nothing is written.
    """

    def __init__(self, *, per_serial: int, window_s: int, per_s: int) -> None:
        self._per_serial = per_serial
        self._window_s = window_s
        self._per_s = per_s
        self._refused: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._second = 0
        self._in_second = 0

    def admit(self, now_s: float) -> None:
        """Count an attempt at `now_s` (any clock that only goes forward).

        Raises:
            TooManyAttemptsError: this one may not be tried now.
        """
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._in_second = 0
        if self._in_second >= self._per_s:
            raise TooManyAttemptsError(1)
        self._in_second += 1

    def refused(self, serial: str, now_s: float) -> None:
        """Count a refusal of an attempt on `serial` that was admitted.

        Raises:
            TooManyAttemptsError: it was one too many.
        """
        began_s, count = self._refused.pop(serial, (now_s, 0))
        if now_s - began_s >= self._window_s:
            began_s, count = now_s, 0
        self._refused[serial] = (began_s, count + 1)
        if len(self._refused) > _MAX_TRACKED_SERIALS:
            self._refused.popitem(last=False)
        if count >= self._per_serial:
            raise TooManyAttemptsError(int(began_s + self._window_s - now_s) + 1)
