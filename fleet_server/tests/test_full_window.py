"""Mosquitto 2.0.11 never serves a session again whose window was full when its connection ended. We notice, and the
session begins anew, so that the terminals can be asked to send again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_server.broker.client import BrokerClient
from fleet_server.broker.connection import WINDOW as REAL_WINDOW
from fleet_server.broker.connection import ClientSettings
from fleet_server.broker.mosquitto import QUEUED_MAX, QUEUED_MAX_BYTES
from fleet_server.ca import INGEST_NAME
from fleet_server.tests.real_fleet import RealFleet, TestTerminal, until
from wire import topics
from wire.topics import Up

pytestmark = pytest.mark.bench
WINDOW = 40


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path / "fleet")
    try:
        fleet.start("broker")
        fleet.start("est")
        yield fleet
    finally:
        fleet.stop_all()


def settings(fleet: RealFleet, window: int) -> ClientSettings:
    layout, broker = fleet.config.layout, fleet.config.broker
    return ClientSettings(
        host=broker.host, port=broker.port, client_id=INGEST_NAME, filter=topics.UP_FILTER,
        ca=layout.ca_certificate, certificate=layout.certificate("ingest"), key=layout.key("ingest"),
        max_packet_bytes=broker.max_packet_bytes, batch_messages=10, linger_s=0.01, window=window,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def connected(fleet: RealFleet, window: int, ups: list[bool]):  # type: ignore[no-untyped-def] # a local context
    client = BrokerClient(
        settings(fleet, window), now_ms=lambda: time.time_ns() // 1_000_000, chance=lambda: 0.1, on_up=ups.append
    )
    running = asyncio.create_task(client.run())
    await asyncio.to_thread(until, lambda: bool(ups))
    try:
        yield client
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_session_that_the_broker_will_not_serve_again_begins_anew(fleet: RealFleet) -> None:
    terminal = await asyncio.to_thread(lambda: TestTerminal(fleet, fleet.enrol("t-1")))
    first: list[bool] = []
    async with connected(fleet, WINDOW, first) as client:
        for number in range(3 * WINDOW):
            terminal.publish(topics.up("t-1", Up.FACT), str(number).encode())
        held = 0
        async with asyncio.timeout(20):
            while held < WINDOW:
                held += len(await client.batch())
    ups: list[bool] = []
    async with connected(fleet, WINDOW, ups) as client, asyncio.timeout(20):
        got: list[bytes] = []
        while len(ups) < 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    batch = await client.batch()
                    got += [delivery.payload for delivery in batch]
                    client.ack([delivery.token for delivery in batch])
        terminal.publish(topics.up("t-1", Up.FACT), b"new")
        assert [delivery.payload for delivery in await client.batch()] == [b"new"]
    assert set(got) >= {str(number).encode() for number in range(WINDOW)}
    assert (first, ups) == ([False], [True, False])
    terminal.close()


async def test_with_a_window_larger_than_the_backlog_everything_comes_from_the_same_session(fleet: RealFleet) -> None:
    terminal = await asyncio.to_thread(lambda: TestTerminal(fleet, fleet.enrol("t-1")))
    async with connected(fleet, 5 * WINDOW, []) as client:
        for number in range(3 * WINDOW):
            terminal.publish(topics.up("t-1", Up.FACT), str(number).encode())
        await client.batch()
    ups: list[bool] = []
    async with connected(fleet, 5 * WINDOW, ups) as client, asyncio.timeout(20):
        got: set[bytes] = set()
        while len(got) < 3 * WINDOW:
            batch = await client.batch()
            got |= {delivery.payload for delivery in batch}
            client.ack([delivery.token for delivery in batch])
    assert ups == [True]
    terminal.close()


async def test_what_waits_for_the_ingest_is_bounded_in_bytes_and_what_comes_later_is_delivered(
    fleet: RealFleet,
) -> None:
    terminal = await asyncio.to_thread(lambda: TestTerminal(fleet, fleet.enrol("t-1")))
    async with connected(fleet, REAL_WINDOW, []):
        pass
    large = bytes(60_000)
    topic = topics.up("t-1", Up.FACT)
    sent = [terminal.publish(topic, large) for _ in range(QUEUED_MAX_BYTES // len(large) + 100)]
    await asyncio.to_thread(until, lambda: all(info.is_published() for info in sent))
    async with connected(fleet, REAL_WINDOW, []) as client, asyncio.timeout(20):
        terminal.publish(topic, b"new")
        sizes: list[int] = []
        while 3 not in sizes:
            batch = await client.batch()
            sizes += [len(delivery.payload) for delivery in batch]
            client.ack([delivery.token for delivery in batch])
    assert QUEUED_MAX_BYTES - len(large) <= sum(sizes) <= QUEUED_MAX_BYTES + len(large)
    terminal.close()


def test_what_the_broker_queues_never_fills_the_window() -> None:
    assert QUEUED_MAX < REAL_WINDOW
