from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_server import db, enrolment, queries
from fleet_server.enrolment import AttemptLimits, Issuing
from fleet_server.errors import CredentialRefusedError, CsrRefusedError, RequestRefusedError, TooManyAttemptsError
from fleet_server.tests.conftest import Ids
from fleet_server.tests.test_ca import CRL_URL, NOW, authority, request

CODE = "2345-6789-ABCD-EFGH"
LIFE_S = 3600


def issuing(at: datetime = NOW) -> Issuing:
    return Issuing(ISSUER, CRL_URL, 90, at, os.urandom(16))


ISSUER = authority()


def csr() -> bytes:
    return request(ec.generate_private_key(ec.SECP256R1()), "t-1")


@pytest.fixture
def with_code(engine: sa.Engine, new_id: Ids) -> sa.Engine:
    """``t-1`` is listed and `CODE` is its live code."""
    with db.writing(engine) as connection:
        enrolment.add_terminal(
            connection, "t-1", code=CODE, now_ms=int(NOW.timestamp() * 1000), life_s=LIFE_S, new_id=new_id
        )
    return engine


def enrol(engine: sa.Engine, new_id: Ids, der: bytes, *, code: str = CODE, at: datetime = NOW) -> x509.Certificate:
    return enrolment.enrol(engine, "t-1", code, der, issuing(at), new_id=new_id)


def count_certificates(engine: sa.Engine) -> int:
    with db.reading(engine) as connection:
        return len(queries.certificates(connection, "t-1"))


def test_a_code_gives_one_certificate_that_is_stored_before_it_is_told(with_code: sa.Engine, new_id: Ids) -> None:
    certificate = enrol(with_code, new_id, csr())
    with db.reading(with_code) as connection:
        (stored,) = queries.certificates(connection, "t-1")
        assert x509.load_pem_x509_certificate(stored.pem.encode()) == certificate
        assert queries.terminal(connection, "t-1").enrolled_ms is not None
        assert [event.kind for event in queries.timeline(connection, "t-1")] == ["enrolled", "added"]


def test_the_same_request_again_gets_the_same_certificate_and_another_gets_nothing(
    with_code: sa.Engine, new_id: Ids
) -> None:
    der = csr()
    first = enrol(with_code, new_id, der)
    assert enrol(with_code, new_id, der, at=NOW + timedelta(seconds=LIFE_S - 1)) == first
    with pytest.raises(CredentialRefusedError):
        enrol(with_code, new_id, csr())
    with pytest.raises(CredentialRefusedError):
        enrol(with_code, new_id, der, at=NOW + timedelta(seconds=LIFE_S))
    assert count_certificates(with_code) == 1


def test_fifty_at_once_with_one_code_get_one_certificate(with_code: sa.Engine, new_id: Ids) -> None:
    requests = [csr() for _ in range(50)]
    start = threading.Barrier(len(requests))
    got: list[x509.Certificate] = []

    def attempt(der: bytes) -> None:
        start.wait()
        try:
            got.append(enrol(with_code, new_id, der))
        except CredentialRefusedError:
            return

    threads = [threading.Thread(target=attempt, args=(der,)) for der in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert count_certificates(with_code) == 1


def test_a_wrong_code_an_expired_code_and_an_unknown_serial_are_the_same_refusal(
    with_code: sa.Engine, new_id: Ids
) -> None:
    refusals = []
    for serial, code, at in (
        ("t-1", "2345-6789-ABCD-EFGJ", NOW),
        ("t-1", CODE, NOW + timedelta(seconds=LIFE_S)),
        ("t-9", CODE, NOW),
        ("t-1", "", NOW),
    ):
        with pytest.raises(CredentialRefusedError) as refused:
            enrolment.enrol(with_code, serial, code, csr(), issuing(at), new_id=new_id)
        refusals.append(refused.value.reason)
    assert len(set(refusals)) == 1
    assert count_certificates(with_code) == 0


def test_a_bad_request_does_not_use_up_the_code(with_code: sa.Engine, new_id: Ids) -> None:
    with pytest.raises(CsrRefusedError):
        enrol(with_code, new_id, request(ec.generate_private_key(ec.SECP256R1()), "t-2"))
    enrol(with_code, new_id, csr())
    assert count_certificates(with_code) == 1


def test_who_has_no_code_learns_nothing_of_what_is_wrong_with_the_request(with_code: sa.Engine, new_id: Ids) -> None:
    with pytest.raises(CredentialRefusedError):
        enrol(with_code, new_id, b"not a request", code="2345")


def test_a_code_may_be_typed_in_lower_case_without_hyphens(with_code: sa.Engine, new_id: Ids) -> None:
    enrol(with_code, new_id, csr(), code=CODE.replace("-", "").lower())
    assert count_certificates(with_code) == 1


def test_a_new_code_replaces_the_one_before(with_code: sa.Engine, new_id: Ids) -> None:
    enrol(with_code, new_id, csr())
    now_ms = int(NOW.timestamp() * 1000)
    with db.writing(with_code) as connection:
        enrolment.add_terminal(connection, "t-1", code="other", now_ms=now_ms, life_s=LIFE_S, new_id=new_id)
    with pytest.raises(CredentialRefusedError):
        enrol(with_code, new_id, csr())
    enrol(with_code, new_id, csr(), code="other")
    assert count_certificates(with_code) == 2


def test_a_serial_that_may_not_name_a_terminal_is_not_listed(engine: sa.Engine, new_id: Ids) -> None:
    with db.writing(engine) as connection, pytest.raises(RequestRefusedError):
        enrolment.add_terminal(connection, "T#1", code=CODE, now_ms=1, life_s=1, new_id=new_id)


def test_codes_are_sixteen_symbols_without_look_alikes() -> None:
    codes = {enrolment.make_code(os.urandom(16)) for _ in range(50)}
    assert len(codes) == 50
    for code in codes:
        assert len(code.replace("-", "")) == 16
        assert not set(code) & set("01ILOUilou")


def test_refusals_are_counted_per_serial_and_forgotten_with_their_window() -> None:
    limits = AttemptLimits(per_serial=3, window_s=60, per_s=5)
    for _ in range(3):
        limits.refused("t-1", 100.0)
    limits.refused("unknown", 100.5)
    with pytest.raises(TooManyAttemptsError) as bounded:
        limits.refused("t-1", 101.0)
    assert bounded.value.retry_after_s == 60
    limits.refused("t-1", 160.1)


def test_attempts_of_all_serials_together_are_bounded_per_second() -> None:
    limits = AttemptLimits(per_serial=3, window_s=60, per_s=5)
    for _ in range(5):
        limits.admit(101.5)
    with pytest.raises(TooManyAttemptsError) as bounded:
        limits.admit(101.9)
    assert bounded.value.retry_after_s == 1
    limits.admit(102.0)
