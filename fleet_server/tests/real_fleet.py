"""A fleet server of real processes, and terminals of real certificates, for the bench tests and `tools/bench`."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_server import config as configuration
from fleet_server.config import Config
from wire import fields, topics
from wire.messages import Mark, Presence, State
from wire.topics import Up

WAIT_S = 30.0


def until(what: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    """Wait until `what` holds; the time is only there so that a failure ends."""
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError("did not come true in time")
        time.sleep(0.02)


class RealFleet:
    """`govah fleet serve …` as child processes over one data directory."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self.govah("fleet", "init", "--data-dir", str(data_dir), *options)
        self.config: Config = configuration.load(data_dir)

    def govah(self, *arguments: str) -> str:
        """Run one command to its end; its output."""
        command = [sys.executable, "-m", "tools", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, role: str) -> dict[str, Any]:
        """Start a process and wait for its ready line."""
        log = (self.data_dir / f"{role}.log").open("ab")
        self._logs.append(log)
        command = [sys.executable, "-m", "tools", "fleet", "serve", role, "--data-dir", str(self.data_dir)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        self._processes[role] = process
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], WAIT_S)
        line = process.stdout.readline() if readable else b""
        assert line, (self.data_dir / f"{role}.log").read_text()
        ready: dict[str, Any] = json.loads(line)
        return ready

    def pid(self, role: str) -> int:
        return self._processes[role].pid

    def stop(self, role: str, number: int = signal.SIGTERM) -> int:
        """End one of our own processes; its exit status."""
        process = self._processes.pop(role)
        process.send_signal(number)
        status = process.wait(WAIT_S)
        assert process.stdout is not None
        process.stdout.close()
        return status

    def stop_all(self) -> None:
        for role in list(self._processes):
            self.stop(role)
        for log in self._logs:
            log.close()

    def code(self, serial: str) -> str:
        """List `serial`; its one-time code."""
        told: dict[str, str] = json.loads(
            self.govah("fleet", "add", serial, "--data-dir", str(self.data_dir), "--json")
        )
        return told["code"]

    @property
    def est_url(self) -> str:
        return f"https://localhost:{self.config.est.port}/.well-known/est"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.config.layout.ca_certificate))

    def enrol(self, serial: str) -> Identity:
        """List and enrol one terminal."""
        key = ec.generate_private_key(ec.SECP256R1())
        answer = self.ask(serial, self.code(serial), request(key, serial))
        assert answer.status_code == 200, answer.text
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
        identity = Identity(serial, self.data_dir / f"{serial}.pem", self.data_dir / f"{serial}.key")
        identity.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        identity.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return identity

    def ask(self, serial: str, code: str, csr: bytes) -> httpx.Response:
        """One `simpleenroll`."""
        return httpx.post(
            f"{self.est_url}/simpleenroll",
            auth=(serial, code),
            content=base64.b64encode(csr),
            headers={"Content-Type": "application/pkcs10"},
            verify=self.tls(),
            timeout=WAIT_S,
        )


def request(key: ec.EllipticCurvePrivateKey, serial: str) -> bytes:
    """A PKCS #10 request, DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, serial)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Identity:
    """A terminal's files."""

    serial: str
    certificate: Path
    key: Path


class TestTerminal:
    """A terminal's connection, driven by a test. Not a terminal: it sends what it is told, also what it may not."""

    __test__ = False

    def __init__(self, fleet: RealFleet, identity: Identity, *, journal: bytes = b"j" * 16, session: int = 1) -> None:
        self.serial = identity.serial
        self.journal = journal
        self.session = session
        self.received: list[tuple[str, bytes]] = []
        self._subscribed: dict[int, list[int]] = {}
        self._connected = threading.Event()
        self._closed = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, identity.serial, protocol=MQTTProtocolVersion.MQTTv5)
        client.tls_set(str(fleet.config.layout.ca_certificate), str(identity.certificate), str(identity.key))
        client.max_inflight_messages_set(500)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.will_set(topics.up(self.serial, Up.STATE), fields.encode(self.state(Presence.LOST)), qos=1)
        self.client = client
        client.connect("localhost", fleet.config.broker.port, keepalive=60, clean_start=True)
        client.loop_start()
        until(self._connected.is_set)

    def state(self, presence: Presence, *, last_seq: int = 0) -> State:
        return State(
            presence=presence, boot=bytes(16), session=self.session, journal=self.journal,
            at_ms=time.time_ns() // 1_000_000, agent="test", profile="test", first_seq=1, last_seq=last_seq,
        )  # fmt: skip

    def subscribe(self, pattern: str) -> int:
        """The SUBACK reason code: 0 to 2 granted, 0x80 and above refused."""
        result, number = self.client.subscribe(pattern, qos=1)
        if result != mqtt.MQTT_ERR_SUCCESS or number is None:
            return 0x8F
        until(lambda: number in self._subscribed or self._closed.is_set())
        return self._subscribed.get(number, [0x80])[0]

    def birth(self, **said: int) -> None:
        self.publish(topics.up(self.serial, Up.STATE), self.state(Presence.BIRTH, **said))

    def publish(self, topic: str, message: fields.Message | bytes) -> mqtt.MQTTMessageInfo:
        body = message if isinstance(message, bytes) else fields.encode(message)
        return self.client.publish(topic, body, qos=1)

    def marks(self) -> list[Mark]:
        """The marks received so far on the terminal's own topic."""
        own = topics.down(self.serial, topics.Down.MARK)
        return [fields.decode(body, Mark) for topic, body in list(self.received) if topic == own]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _c: mqtt.Client, _u: object, _f: object, code: ReasonCode, _p: Properties | None) -> None:
        if not code.is_failure:
            self._connected.set()

    def _on_disconnect(self, _c: mqtt.Client, _u: object, _f: object, _r: object, _p: Properties | None) -> None:
        self._closed.set()

    def _on_message(self, _c: mqtt.Client, _u: object, message: mqtt.MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))

    def _on_subscribe(
        self, _c: mqtt.Client, _u: object, number: int, codes: list[ReasonCode], _p: Properties | None
    ) -> None:
        self._subscribed[number] = [code.value for code in codes]


def cpu_us(pid: int) -> int:
    """User and system time of a process so far, in microseconds (10 ms steps)."""
    fields_ = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields_[11]) + int(fields_[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")
