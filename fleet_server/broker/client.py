"""The ingest's MQTT v5 client: one persistent session, messages in batches, acknowledged only when we say so.

Here are batches, TLS and reconnecting; `connection` speaks. All packets of one read are parsed at once, and all
acknowledgements of a batch leave in one write.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Final

import mqtt5
import structlog

from fleet_server.broker.connection import ClientSettings, Connection
from fleet_server.broker.door import Delivery, Published, Token
from fleet_server.errors import LinkError

_log = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 10.0
RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 10.0
PAUSE_AT_BATCHES: Final = 4


class BrokerClient:
    """Keep `run` running; then `batch`, `ack` and `publish` work, whether or not the broker is there just now.

    Args:
        settings: where and who.
        now_ms: the server's clock, for `Delivery.received_ms`.
        chance: gives 0 <= x < 1.
        on_up: called at each connection, with whether the broker still had our session (and so all that came
            meanwhile).

    Raises:
        OSError: certificate, key or CA cannot be loaded (`ssl.SSLError` included): no retry can mend that.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        now_ms: Callable[[], int],
        chance: Callable[[], float],
        on_up: Callable[[bool], None],
    ) -> None:
        self._settings = settings
        self._tls = _tls(settings)
        self._now_ms = now_ms
        self._chance = chance
        self._on_up = on_up
        self._inbox: list[Delivery] = []
        self._ready = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._connection: Connection | None = None
        self._generation = 0
        self._begin_anew = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        attempt = 0
        while True:
            try:
                await self._stay_connected()
                attempt = 0
            except LinkError as exc:
                _log.warning("broker_unreachable", reason=str(exc))
            attempt = min(attempt + 1, 16)
            await asyncio.sleep(self._chance() * min(RETRY_CAP_S, RETRY_BASE_S * 2**attempt))

    async def batch(self) -> list[Delivery]:
        """Wait for messages: what came within the linger time of the first, at most `batch_messages`."""
        await self._ready.wait()
        limit = self._settings.batch_messages
        taken, self._inbox = self._inbox[:limit], self._inbox[limit:]
        if self._connection is not None and len(self._inbox) < limit:
            self._connection.resume()
        if len(self._inbox) < limit:
            self._ready.clear()
            self._cancel_linger()
            if self._inbox:
                self._start_linger()
        return taken

    def ack(self, tokens: Iterable[Token]) -> None:
        """Tell the broker that these are ours now. Tokens of an ended connection are ignored: it sends those again.

        When all that a full window held is acknowledged, connection and session end (see `connection.WINDOW`):
        `on_up` then says that the broker knows nothing of us, and what it still had must be asked of its senders.
        """
        if self._connection is None:
            return
        generation = self._generation
        connection = self._connection
        connection.acknowledge([token & 0xFFFF for token in tokens if token and token >> 16 == generation])
        if connection.window_was_full and connection.all_acknowledged:
            self._begin_anew = True
            connection.give_up("its session will not be served again")

    async def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> Published:
        """Publish once, QoS 1, dropped by the broker after `expiry_s`. Never raises for a lost connection."""
        if self._connection is None:
            return Published.RETRY
        return await self._connection.publish(topic, payload, expiry_s)

    async def _stay_connected(self) -> None:
        """From one connection's beginning to its end. Returns only after a connection that had come up."""
        self._generation += 1
        connection = Connection(self._settings, self._received, clean_start=self._begin_anew)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, self._settings.host, self._settings.port, ssl=self._tls
                )
                session_present = await connection.open()
        except (OSError, TimeoutError) as exc:
            connection.abort()
            raise LinkError(f"{type(exc).__name__}: {exc}") from exc
        except BaseException:
            connection.abort()
            raise
        self._connection = connection
        self._begin_anew = False
        _log.info("broker_connected", session_present=session_present)
        self._on_up(session_present)
        try:
            await connection.keep_alive()
        except LinkError as exc:
            _log.warning("broker_lost", reason=str(exc))
        finally:
            self._connection = None
            connection.close()
            self._drop_inbox()

    def _received(self, packets: list[mqtt5.PublishPacket]) -> None:
        base = self._generation << 16
        now_ms = self._now_ms()
        self._inbox += [
            Delivery(packet.topic, packet.payload, now_ms, Token(base | packet.packet_id if packet.packet_id else 0))
            for packet in packets
        ]
        if len(self._inbox) >= self._settings.batch_messages:
            self._ready.set()
            if self._connection is not None and len(self._inbox) >= self._settings.batch_messages * PAUSE_AT_BATCHES:
                self._connection.pause()
        elif self._linger is None and not self._ready.is_set():
            self._start_linger()

    def _start_linger(self) -> None:
        self._linger = asyncio.get_running_loop().call_later(self._settings.linger_s, self._ready.set)

    def _cancel_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _drop_inbox(self) -> None:
        # not committed, not acknowledged: the broker sends all of it again
        self._inbox.clear()
        self._ready.clear()
        self._cancel_linger()


def _tls(settings: ClientSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(settings.ca)
    context.load_cert_chain(settings.certificate, settings.key)
    return context
