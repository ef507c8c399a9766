"""The ingest's MQTT v5 client: one persistent session, messages in batches, acknowledged only when we say so.

The protocol is `mqtt5`'s, which does no I/O; here are the socket, TLS, keep-alive, reconnecting and the window of what
we publish. All packets of one read are parsed at once, and all acknowledgements of a batch leave in one write.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

import mqtt5
import structlog

from fleet_server.broker.door import Delivery, Published, Token
from fleet_server.errors import LinkError

_log = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 30
RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 10.0
SESSION_LIFE_S: Final = 7 * 24 * 3600
"""How long the broker keeps for us what comes while we are away."""
IN_FLIGHT_MAX: Final = 100
"""Of ours towards the broker, or what the broker allows if that is less."""
_PACKET_IDS: Final = 65_535
_STORED_BELOW: Final = 0x80
_A = TypeVar("_A")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """`batch_messages` and `linger_s` end a batch, whichever comes first."""

    host: str
    port: int
    client_id: str
    filter: str
    ca: Path
    certificate: Path
    key: Path
    max_packet_bytes: int
    batch_messages: int
    linger_s: float


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
        self._connection: _Connection | None = None
        self._generation = 0

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
        if len(self._inbox) < limit:
            self._ready.clear()
            self._cancel_linger()
            if self._inbox:
                self._start_linger()
        return taken

    def ack(self, tokens: Iterable[Token]) -> None:
        """Tell the broker that these are ours now. Tokens of an ended connection are ignored: it sends those again."""
        if self._connection is None:
            return
        generation = self._generation
        self._connection.acknowledge([token & 0xFFFF for token in tokens if token and token >> 16 == generation])

    async def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> Published:
        """Publish once, QoS 1, dropped by the broker after `expiry_s`. Never raises for a lost connection."""
        if self._connection is None:
            return Published.RETRY
        return await self._connection.publish(topic, payload, expiry_s)

    async def _stay_connected(self) -> None:
        """From one connection's beginning to its end. Returns only after a connection that had come up."""
        self._generation += 1
        connection = _Connection(self._settings, self._received)
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


class _Connection(asyncio.Protocol):
    """One TCP connection. `received` gets the PUBLISH packets of one read together."""

    def __init__(self, settings: ClientSettings, received: Callable[[list[mqtt5.PublishPacket]], None]) -> None:
        self._settings = settings
        self._received = received
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = loop.create_future()
        self._suback: asyncio.Future[mqtt5.SubAckPacket] = loop.create_future()
        self._ended: asyncio.Future[str] = loop.create_future()
        self._heard_at_s = loop.time()
        self._published: dict[int, asyncio.Future[Published]] = {}
        self._next_id = 0
        self._window = asyncio.Semaphore(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"{type(exc).__name__}" if exc else "closed by the broker")

    def data_received(self, data: bytes) -> None:
        self._heard_at_s = self._loop.time()
        view = memoryview(self._rest + data if self._rest else data)
        at = 0
        messages: list[mqtt5.PublishPacket] = []
        try:
            while at < len(view):
                packet, used = mqtt5.read(view[at:])
                at += used
                if type(packet) is mqtt5.PublishPacket:
                    messages.append(packet)
                else:
                    self._answered(packet)
        except IndexError:
            pass  # the rest of the packet comes with the next read
        except ValueError as exc:
            self._end(f"not MQTT: {exc}")
            return
        self._rest = bytes(view[at:])
        if messages:
            self._received(messages)

    def _answered(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                waiting = self._published.pop(packet.packet_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(_outcome(int(packet.reason_code)))
            case mqtt5.ConnAckPacket() if not self._connack.done():
                self._connack.set_result(packet)
            case mqtt5.SubAckPacket() if not self._suback.done():
                self._suback.set_result(packet)
            case mqtt5.DisconnectPacket():
                self._end(f"broker says {packet.reason_code.name}")
            case mqtt5.PingRespPacket():
                pass
            case _:
                self._end(f"unexpected {type(packet).__name__}")

    async def open(self) -> bool:
        """CONNECT and SUBSCRIBE. Returns whether the broker had our session.

        Raises:
            LinkError: refused, or the connection ended.
        """
        settings = self._settings
        self._write(
            mqtt5.ConnectPacket(
                settings.client_id,
                clean_start=False,
                keep_alive=KEEP_ALIVE_S,
                session_expiry_interval=SESSION_LIFE_S,
                receive_max=min(_PACKET_IDS, settings.batch_messages * 2),
                max_packet_size=settings.max_packet_bytes + 1024,
            ).write()
        )
        connack = await self._or_ended(self._connack)
        if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise LinkError(f"refused: {connack.reason_code.name}")
        self._window = asyncio.Semaphore(min(IN_FLIGHT_MAX, connack.receive_max))
        subscription = mqtt5.TopicFilter(settings.filter, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        self._write(mqtt5.SubscribePacket(self._new_id(), [subscription]).write())
        suback = await self._or_ended(self._suback)
        # the reason codes are no integers, whatever the stub file says
        if any(int(code) >= _STORED_BELOW for code in suback.reason_codes):
            raise LinkError("subscription refused")
        return connack.session_present

    async def keep_alive(self) -> None:
        """Ping until the connection ends.

        Raises:
            LinkError: always, with the reason.
        """
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S / 2):
                    raise LinkError(await asyncio.shield(self._ended))
            except TimeoutError:
                if self._loop.time() - self._heard_at_s > KEEP_ALIVE_S * 1.5:
                    raise LinkError("the broker is silent") from None
                self._write(mqtt5.PingReqPacket().write())

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        self._write(b"".join([mqtt5.PubAckPacket(packet_id).write() for packet_id in packet_ids]))

    async def publish(self, topic: str, payload: bytes, expiry_s: int) -> Published:
        async with self._window:
            if self._ended.done():
                return Published.RETRY
            packet_id = self._new_id()
            waiting: asyncio.Future[Published] = self._loop.create_future()
            self._published[packet_id] = waiting
            packet = mqtt5.PublishPacket(
                topic,
                payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                packet_id=packet_id,
                message_expiry_interval=max(1, expiry_s),
            )
            self._write(packet.write())
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await waiting
            except TimeoutError:
                self._end("a publish was not answered")
                return Published.RETRY
            finally:
                self._published.pop(packet_id, None)

    def close(self) -> None:
        """Go without ending the session."""
        self._write(mqtt5.DisconnectPacket().write())
        if self._transport is not None:
            self._transport.close()
        self._end("closed by us")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end("given up")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
        for waiting in self._published.values():
            if not waiting.done():
                waiting.set_result(Published.RETRY)
        self._published.clear()

    async def _or_ended(self, answer: asyncio.Future[_A]) -> _A:
        await asyncio.wait((answer, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise LinkError(self._ended.result())
        return answer.result()

    def _new_id(self) -> int:
        # the window is far smaller than the range, so a free one is near
        while True:
            self._next_id = self._next_id % _PACKET_IDS + 1
            if self._next_id not in self._published:
                return self._next_id

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _outcome(code: int) -> Published:
    if code >= _STORED_BELOW:
        return Published.RETRY
    return Published.STORED if code == 0 else Published.NOBODY


def _tls(settings: ClientSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(settings.ca)
    context.load_cert_chain(settings.certificate, settings.key)
    return context
