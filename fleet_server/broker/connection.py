"""One MQTT v5 connection of the ingest. The protocol is `mqtt5`'s, which does no I/O; here are socket and order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

import mqtt5

from fleet_server.broker.door import Published
from fleet_server.errors import LinkError

ANSWER_TIMEOUT_S: Final = 10.0
KEEP_ALIVE_S: Final = 30
SESSION_LIFE_S: Final = 7 * 24 * 3600
"""How long the broker keeps for us what comes while we are away."""
IN_FLIGHT_MAX: Final = 100
"""Of ours towards the broker, or what the broker allows if that is less."""
WINDOW: Final = 65_535
"""How many unacknowledged messages the broker may send: all that the protocol allows. Mosquitto 2.0.11 never delivers
another message to a session whose window was full when its connection ended, so the window must be larger than what
the broker queues (`mosquitto.QUEUED_MAX`); what we hold is bounded by not reading (`client.PAUSE_AT_BATCHES`)."""
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
    window: int = WINDOW


class Connection(asyncio.Protocol):
    """One TCP connection. `received` gets the PUBLISH packets of one read together."""

    def __init__(
        self,
        settings: ClientSettings,
        received: Callable[[list[mqtt5.PublishPacket]], None],
        *,
        clean_start: bool,
    ) -> None:
        self._settings = settings
        self._received = received
        self._clean_start = clean_start
        self._repeated = 0
        self._unacknowledged = 0
        self._paused = False
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
                    self._unacknowledged += packet.packet_id is not None
                    self._repeated += packet.duplicate
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
                clean_start=self._clean_start,
                keep_alive=KEEP_ALIVE_S,
                session_expiry_interval=SESSION_LIFE_S,
                receive_max=settings.window,
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
                if not self._paused and self._loop.time() - self._heard_at_s > KEEP_ALIVE_S * 1.5:
                    raise LinkError("the broker is silent") from None
                self._write(mqtt5.PingReqPacket().write())

    @property
    def window_was_full(self) -> bool:
        """Whether the connection before this one left as many messages unacknowledged as the window holds."""
        return self._repeated >= self._settings.window

    @property
    def all_acknowledged(self) -> bool:
        return self._unacknowledged == 0

    def acknowledge(self, packet_ids: list[int]) -> None:
        self._unacknowledged -= len(packet_ids)
        self._write(b"".join([mqtt5.PubAckPacket(packet_id).write() for packet_id in packet_ids]))

    def pause(self) -> None:
        """Read no more until `resume`; TCP holds the broker back."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._heard_at_s = self._loop.time()
            self._transport.resume_reading()

    def give_up(self, reason: str) -> None:
        """End the connection; `keep_alive` raises."""
        self._end(reason)

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
