from __future__ import annotations

import asyncio
import contextlib

import pytest
from fastapi import FastAPI

from edge_agent.kiosk import serve
from edge_agent.kiosk.tests.fake_desk import CONFIG


@pytest.mark.bench
async def test_a_connection_that_asks_nothing_is_ended_and_a_longer_header_than_the_bound_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "ASK_WITHIN_S", 0.3)
    app = FastAPI()
    app.state.closing = asyncio.Event()
    listening = serve.listen(CONFIG)
    port = listening.getsockname()[1]
    running = asyncio.create_task(serve.serve(app, listening))
    silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
    half, half_writer = await asyncio.open_connection("127.0.0.1", port)
    half_writer.write(b"GET / HTTP/1.1\r\n")
    long, long_writer = await asyncio.open_connection("127.0.0.1", port)
    long_writer.write(b"GET / HTTP/1.1\r\nX: " + b"a" * 17 * 1024)
    assert (await long.readline()).startswith(b"HTTP/1.1 400")
    for reader in (silent, half):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    for writer in (silent_writer, half_writer, long_writer):
        writer.close()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
