"""The terminal's one MQTT connection to the fleet, and the only file with an MQTT client.

One coroutine per connection, top to bottom: connect clean, subscribe, birth, then facts oldest first until the
connection ends; back off with full jitter; again, for ever. Only the portable subset of MQTT v5 is used
(docs/adr/0006): QoS 1, nothing retained, no session kept, the will is a hint.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.clock import TrustedClock
from edge_agent.errors import ConfigError
from edge_agent.journal import Journal
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Command, CommandKind, Health, Mark, Presence, Result, State

_log = structlog.get_logger()

IN_FLIGHT_MAX: Final = 20
ANSWER_TIMEOUT_S: Final = 20.0
RETRY_BASE_S: Final = 2.0
RETRY_CAP_S: Final = 300.0
STABLE_AFTER_S: Final = 60.0
"""The back-off starts anew only after a connection has lasted this long."""
KEEP_ALIVE_S: Final = 60
INBOX_MAX: Final = 64
RESULTS_REMEMBERED: Final = 64
DOWN_MAX_BYTES: Final = 64 * 1024
REFUSED_PER_LOG_LINE: Final = 1000
_STORED_BELOW: Final = 0x80
_NOBODY_LISTENS: Final = 0x10


class LinkError(Exception):
    """The connection ended or would not start. Keep journalling; the uplink tries again for ever."""


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    terminal: str
    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    health_interval_s: float = 60.0
    retry_base_s: float = RETRY_BASE_S
    retry_cap_s: float = RETRY_CAP_S


class Uplink:
    """`health` makes the newest report; `boot` is drawn at the start of the process; `chance` gives 0 <= x < 1.

    Raises:
        ConfigError: certificate, key or CA cannot be loaded: no retry can mend that.
    """

    def __init__(
        self,
        config: UplinkConfig,
        journal: Journal,
        clock: TrustedClock,
        *,
        boot: bytes,
        agent: str,
        profile: str,
        health: Callable[[int], Awaitable[Health]],
        chance: Callable[[], float],
    ) -> None:
        self._config = config
        self._tls = _tls(config)
        self._journal = journal
        self._clock = clock
        self._boot = boot
        self._agent = agent
        self._profile = profile
        self._health = health
        self._chance = chance
        self._results: OrderedDict[bytes, Result] = OrderedDict()
        self._refused = 0
        self.report_now = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled; a cancelled uplink leaves cleanly."""
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._stay_connected()
            except LinkError as exc:
                _log.info("link_ended", reason=str(exc))
            attempt = 0 if loop.time() - started > STABLE_AFTER_S else attempt + 1
            ceiling = min(self._config.retry_cap_s, self._config.retry_base_s * 2 ** min(attempt, 16))
            await asyncio.sleep(self._chance() * ceiling)

    async def _stay_connected(self) -> None:
        session = await self._journal.next_session()
        link = _Link(self._config, self._tls, fields.encode(await self._state(Presence.LOST, session)))
        try:
            await link.connect()
            await link.subscribe(topics.down_filter(self._config.terminal))
            await self._publish(link, topics.Up.STATE, await self._state(Presence.BIRTH, session))
            _log.info("link_up", session=session)
            await self._talk(link, session)
        except asyncio.CancelledError:
            await asyncio.shield(self._leave(link, session))
            raise
        finally:
            await asyncio.shield(link.close())

    async def _talk(self, link: _Link, session: int) -> None:
        """Facts, health and what the fleet says, until the first of them finds the link gone."""
        reason = "ended"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_facts(link))
                group.create_task(self._send_health(link, session))
                group.create_task(self._hear(link))
                group.create_task(link.until_closed())
        except* LinkError as problems:
            reason = str(problems.exceptions[0])
        raise LinkError(reason)

    async def _leave(self, link: _Link, session: int) -> None:
        """Say that the terminal leaves on purpose; a broken link cannot be told."""
        try:
            await self._publish(link, topics.Up.STATE, await self._state(Presence.LEAVING, session))
        except LinkError:
            _log.info("left_without_a_word")

    async def _state(self, presence: Presence, session: int) -> State:
        figures = await self._journal.figures()
        return State(
            presence=presence,
            boot=self._boot,
            session=session,
            journal=self._journal.id,
            at_ms=self._clock.about_ms(),
            agent=self._agent,
            profile=self._profile,
            first_seq=figures.first_seq or figures.allocated + 1,
            last_seq=figures.allocated,
        )

    async def _send_facts(self, link: _Link) -> None:
        """Oldest first, at most `IN_FLIGHT_MAX` unacknowledged, each marked only by its own PUBACK."""
        while True:
            self._journal.unsent_added.clear()
            batch = await self._journal.unsent(0, IN_FLIGHT_MAX)
            if not batch:
                await self._journal.unsent_added.wait()
                continue
            topic = topics.up(self._config.terminal, topics.Up.FACT)
            codes = await asyncio.gather(*(link.publish(topic, body) for _, body in batch))
            for (seq, _), code in zip(batch, codes, strict=True):
                if _stored(code):
                    await self._journal.mark_sent(seq, self._clock.about_ms())
            if not all(map(_stored, codes)):
                # nobody stored it: the fleet's ingest is away or the broker is full
                await asyncio.sleep(self._config.retry_base_s * (1 + self._chance()))

    async def _send_health(self, link: _Link, session: int) -> None:
        while True:
            self.report_now.clear()
            await self._publish(link, topics.Up.HEALTH, await self._health(session))
            try:
                async with asyncio.timeout(self._config.health_interval_s * (0.9 + 0.2 * self._chance())):
                    await self.report_now.wait()
            except TimeoutError:
                continue

    async def _hear(self, link: _Link) -> None:
        """Marks and commands; anything else is counted in the log and dropped."""
        mark_topic = topics.down(self._config.terminal, topics.Down.MARK)
        command_topic = topics.down(self._config.terminal, topics.Down.COMMAND)
        while True:
            topic, payload = await link.inbox.get()
            try:
                if topic == mark_topic:
                    mark = fields.decode(payload, Mark)
                    self._clock.compare(mark.server_ms)
                    if not await self._journal.apply_mark(mark, self._clock.about_ms()):
                        raise LinkError("the journal has a new id")
                elif topic == command_topic:
                    await self._publish(link, topics.Up.RESULT, self._obey(fields.decode(payload, Command)))
                else:
                    self._refuse("unknown topic")
            except fields.MessageRefusedError as exc:
                self._refuse(exc.reason)

    def _refuse(self, reason: str) -> None:
        """Count what is not for us; a flood of it must not become a flood of log lines."""
        if self._refused % REFUSED_PER_LOG_LINE == 0:
            _log.warning("down_message_refused", reason=reason, before=self._refused)
        self._refused += 1

    def _obey(self, command: Command) -> Result:
        """Carry out a command once; a repeated id gets the result that it got before."""
        known = self._results.get(command.id)
        if known is not None:
            return known
        match command.kind:
            case _ if self._clock.about_ms() > command.not_after_ms:
                failure = Failure.COMMAND_EXPIRED
            case CommandKind.REPORT_HEALTH:
                failure = Failure.NONE
                self.report_now.set()
        result = Result(id=command.id, failure=failure, at_ms=self._clock.about_ms())
        self._results[command.id] = result
        while len(self._results) > RESULTS_REMEMBERED:
            self._results.popitem(last=False)
        return result

    async def _publish(self, link: _Link, kind: topics.Up, message: fields.Message) -> None:
        await link.publish(topics.up(self._config.terminal, kind), fields.encode(message))


class _Link:
    """One connection: paho's network thread on one side, coroutines on the other. Used once."""

    def __init__(self, config: UplinkConfig, tls: ssl.SSLContext, will: bytes) -> None:
        self.inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(INBOX_MAX)
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[int] = self._loop.create_future()
        self._subscribed: asyncio.Future[int] = self._loop.create_future()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._acks: dict[int, asyncio.Future[int]] = {}
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=config.terminal, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.tls_set_context(tls)
        client.max_inflight_messages_set(IN_FLIGHT_MAX)
        client.will_set(topics.up(config.terminal, topics.Up.STATE), will, qos=1)
        client.on_connect = lambda _c, _u, _f, code, _p: self._post(_settle, self._connected, code.value)
        client.on_connect_fail = lambda _c, _u: self._post(self._end, "the connection was refused")
        client.on_subscribe = lambda _c, _u, _m, codes, _p: self._post(_settle, self._subscribed, codes[0].value)
        client.on_disconnect = lambda _c, _u, _f, code, _p: self._post(self._end, str(code))
        client.on_publish = lambda _c, _u, mid, code, _p: self._post(self._acknowledged, mid, code)
        client.on_message = lambda _c, _u, message: self._post(self._heard, message.topic, message.payload)
        client.on_socket_open = lambda _c, _u, sock: _no_delay(sock)
        self._client = client

    async def connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.ReceiveMaximum = IN_FLIGHT_MAX
        properties.SessionExpiryInterval = 0
        properties.MaximumPacketSize = DOWN_MAX_BYTES
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.to_thread(
                    self._client.connect,
                    self._config.host,
                    self._config.port,
                    keepalive=KEEP_ALIVE_S,
                    clean_start=True,
                    properties=properties,
                )
                self._client.loop_start()
                code = await self._or_closed(self._connected)
        except (OSError, ValueError) as exc:
            raise LinkError(f"no connection: {type(exc).__name__}") from exc
        if code >= _STORED_BELOW:
            raise LinkError(f"the broker refused the connection: {code:#x}")

    async def subscribe(self, topic_filter: str) -> None:
        self._client.subscribe(topic_filter, qos=1)
        async with self._answer_in_time():
            code = await self._or_closed(self._subscribed)
        if code >= _STORED_BELOW:
            raise LinkError(f"the broker refused the subscription: {code:#x}")

    async def publish(self, topic: str, payload: bytes) -> int:
        """The reason code of the PUBACK."""
        info = self._client.publish(topic, payload, qos=1)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise LinkError("the connection is gone")
        # paho's thread posts its acknowledgement into this loop, so it cannot arrive before the next line
        ack = self._acks[info.mid] = self._loop.create_future()
        try:
            async with self._answer_in_time():
                return await self._or_closed(ack)
        finally:
            self._acks.pop(info.mid, None)

    async def until_closed(self) -> None:
        """Never returns: raises LinkError when the connection ends."""
        raise LinkError(await asyncio.shield(self._closed))

    async def close(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def _answer_in_time(self) -> _AnswerInTime:
        return _AnswerInTime()

    async def _or_closed(self, answer: asyncio.Future[int]) -> int:
        either: set[asyncio.Future[Any]] = {answer, self._closed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise LinkError(self._closed.result())

    def _post(self, work: Callable[..., None], *args: Any) -> None:
        """From paho's thread into the loop. The loop may be closing; then nobody is left to hear."""
        try:
            self._loop.call_soon_threadsafe(work, *args)
        except RuntimeError:
            _log.debug("loop_is_closing")

    def _end(self, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result(reason)

    def _acknowledged(self, mid: int, code: ReasonCode) -> None:
        ack = self._acks.get(mid)
        if ack is not None:
            _settle(ack, code.value)

    def _heard(self, topic: str, payload: bytes) -> None:
        if self.inbox.full():
            # marks and commands come again; a flood must fill neither the terminal's memory nor its log
            return
        self.inbox.put_nowait((topic, payload))


class _AnswerInTime:
    """`asyncio.timeout` that ends as LinkError."""

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(ANSWER_TIMEOUT_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            raise LinkError("the broker did not answer in time") from exc


def _settle(future: asyncio.Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)


def _stored(code: int) -> bool:
    """Whether a PUBACK code means that the broker has the message and somebody to give it to."""
    return code < _STORED_BELOW and code != _NOBODY_LISTENS


def _no_delay(sock: Any) -> None:
    """Without this a TLS 1.3 CONNACK waits some 44 ms for a delayed acknowledgement."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls(config: UplinkConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(config.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"the fleet certificate or key cannot be loaded: {exc}"]) from exc
    return context
