from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from fleet_server import admin, db
from fleet_server.tests.conftest import NOW_MS

LINK = "link"


@pytest.fixture
def with_link(engine: sa.Engine) -> sa.Engine:
    """The link ``link`` is good."""
    with db.writing(engine) as connection:
        admin.add_link(connection, "link", now_ms=NOW_MS)
    return engine


def consume(engine: sa.Engine, token: str = LINK, *, session: str = "session", now_ms: int = NOW_MS) -> bool:
    with db.writing(engine) as connection:
        return admin.consume_link(connection, token, session_token=session, now_ms=now_ms)


def valid(engine: sa.Engine, session: str = "session", *, now_ms: int = NOW_MS) -> bool:
    with db.reading(engine) as connection:
        return admin.session_valid(connection, session, now_ms=now_ms)


def test_a_link_opens_one_session_and_is_dead_for_ever(with_link: sa.Engine) -> None:
    assert consume(with_link)
    assert valid(with_link)
    assert not consume(with_link, session="second")
    assert not valid(with_link, "second")


def test_of_many_at_once_one_comes_in(with_link: sa.Engine) -> None:
    start = threading.Barrier(20)
    came_in: list[int] = []

    def attempt(number: int) -> None:
        start.wait()
        if consume(with_link, session=str(number)):
            came_in.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(came_in) == 1
    assert [number for number in range(20) if valid(with_link, str(number))] == came_in


def test_links_and_sessions_end_by_themselves(with_link: sa.Engine) -> None:
    assert not consume(with_link, now_ms=NOW_MS + admin.LINK_LIFE_MS)
    assert consume(with_link, now_ms=NOW_MS + admin.LINK_LIFE_MS - 1)
    assert not valid(with_link, now_ms=NOW_MS + admin.LINK_LIFE_MS + admin.SESSION_LIFE_MS)


def test_an_unknown_link_changes_nothing_and_logging_out_ends_the_session(with_link: sa.Engine) -> None:
    assert not consume(with_link, "")
    assert not valid(with_link, "")
    assert consume(with_link)
    with db.writing(with_link) as connection:
        admin.end_session(connection, "session")
    assert not valid(with_link)


def test_no_token_stands_in_the_database(with_link: sa.Engine) -> None:
    consume(with_link, session="a-session-token")
    path = str(with_link.url.database)
    with_link.dispose()
    with open(path, "rb") as file:  # noqa: PTH123 - the path is SQLAlchemy's text
        assert b"a-session-token" not in file.read()
