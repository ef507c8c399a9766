"""The documentation's photographs, and that the two web faces keep one look."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from edge_agent.kiosk import app as kiosk_app
from edge_agent.kiosk.serve import listen, serve
from edge_agent.kiosk.tests.fake_desk import CONFIG, FakeDesk, every_screen
from fleet_server import admin, db
from fleet_server import app as fleet_app
from fleet_server.dashboard.tests import sample
from tools.screenshots import take

LOOK = ("tokens.css", "icon.svg")


@pytest.mark.parametrize("name", LOOK)
def test_kiosk_and_dashboard_keep_one_look(name: str) -> None:
    assert (kiosk_app.STATIC / name).read_bytes() == (fleet_app.STATIC / name).read_bytes()


@dataclass
class Faces:
    """A kiosk and a dashboard that run."""

    desk: FakeDesk
    kiosk: str
    login: str


@pytest.fixture
async def faces(tmp_path: Path) -> AsyncIterator[Faces]:
    now_ms = time.time_ns() // 1_000_000
    (tmp_path / "fleet").mkdir()
    config = sample.make_fleet(tmp_path / "fleet", now_ms=now_ms)
    link = os.urandom(16).hex()
    engine = db.open_engine(config.database)
    with db.writing(engine) as connection:
        admin.add_link(connection, link, now_ms=now_ms)
        for serial in (sample.BLOCKED,):
            connection.execute(db.terminals.update().where(db.terminals.c.serial == serial).values(presence="lost"))
    engine.dispose()
    web = socket.socket()
    web.bind(("127.0.0.1", 0))
    settings = uvicorn.Config(fleet_app.create_app(config), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    dashboard = asyncio.ensure_future(server.serve(sockets=[web]))
    desk = FakeDesk(every_screen()["done"])
    listening = listen(CONFIG)
    kiosk = asyncio.ensure_future(serve(kiosk_app.create_app(desk, CONFIG), listening))
    yield Faces(
        desk,
        f"http://127.0.0.1:{listening.getsockname()[1]}/",
        f"http://127.0.0.1:{web.getsockname()[1]}/login/{link}",
    )
    kiosk.cancel()
    with suppress(asyncio.CancelledError):
        await kiosk
    listening.close()
    server.should_exit = True
    await dashboard


@pytest.mark.bench
async def test_every_picture_of_the_documentation_is_taken(faces: Faces, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    taken = await asyncio.to_thread(take, kiosk=faces.kiosk, login=faces.login, moment="done", out=out)
    assert {path.stem for path in taken} == {
        f"{name}-{lang}{suffix}"
        for name in ("kiosk-done", "terminals", "terminal")
        for lang in ("fa", "en")
        for suffix in ("", "-390")
    }
    for moment, screen in (("waiting", "waiting"), ("blocked", "blocked_all")):
        await faces.desk.show(every_screen()[screen])
        more = await asyncio.to_thread(take, kiosk=faces.kiosk, login=None, moment=moment, out=out)
        assert len(more) == 4
        assert all(path.stat().st_size > 10_000 for path in more)
