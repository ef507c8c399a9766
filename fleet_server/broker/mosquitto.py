"""Mosquitto 2 (Debian): its configuration from ours, and starting it.

The two `pattern` lines are all that a terminal may do; `%u` is the common name of its certificate, which only our CA
gives and which can hold no wildcard. The ingest's own name has a dot, so it can be no terminal's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from fleet_server.ca import INGEST_NAME
from fleet_server.config import Config
from fleet_server.errors import ConfigError
from fleet_server.serving import announce
from wire.topics import ROOT, UP_FILTER

QUEUED_MAX: Final = 60_000
"""Messages that wait for the ingest while it is down. Less than a window, because a session with a full window is never
served again (`connection.WINDOW`)."""
QUEUED_MAX_BYTES: Final = 32 << 20
"""And so many bytes of them: honest messages have a few hundred each, but the broker takes any of `max_packet_bytes`.
What does not fit is acknowledged and dropped; terminals keep it and are asked again (`ingest/down.py`)."""
AUTOSAVE_S: Final = 30
_READY_TRIES: Final = 200
_READY_PAUSE_S: Final = 0.05

ACL: Final = f"""\
# Whatever is not allowed here is refused. The two patterns hold for every client, and are all that a terminal has.
pattern write {ROOT}/%u/up/#
pattern read {ROOT}/%u/dn/#

user {INGEST_NAME}
topic read {UP_FILTER}
topic write {ROOT}/+/dn/#
"""


def render(config: Config, *, user: str) -> str:
    """mosquitto.conf. `user` is who Mosquitto stays when it is started as root: the owner of the data directory."""
    layout = config.layout
    return f"""\
# Made from {layout.config.name} at every start; changes here are lost.
per_listener_settings false
user {user}
listener {config.broker.port} {config.broker.host}
cafile {layout.ca_certificate}
certfile {layout.certificate("broker")}
keyfile {layout.key("broker")}
crlfile {layout.crl}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {layout.broker_dir / "acl"}
max_qos 1
retain_available false
set_tcp_nodelay true
max_packet_size {config.broker.max_packet_bytes}
max_inflight_messages 0
max_queued_messages {QUEUED_MAX}
max_queued_bytes {QUEUED_MAX_BYTES}
persistence true
persistence_location {layout.broker_dir}/
autosave_interval {AUTOSAVE_S}
log_dest stderr
log_type error
log_type warning
connection_messages false
"""


def run(config: Config) -> NoReturn:
    """Write the configuration and become Mosquitto. A child of init prints the ready line when the port answers.

    Raises:
        ConfigError: Mosquitto is not installed, the port is taken, or the files cannot be written.
    """
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise ConfigError(["mosquitto is not installed: apt-get install mosquitto"])
    try:
        path = _write(config)
        with socket.create_server((config.broker.host, config.broker.port)):
            pass
    except OSError as exc:
        raise ConfigError([f"broker: {exc.strerror}"]) from exc
    _announce_when_ready(config)
    os.execv(program, [program, "-c", str(path)])  # noqa: S606 - no shell: a fixed program and one path of ours


def _write(config: Config) -> Path:
    directory = config.layout.broker_dir
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "mosquitto.conf"
    for name, text in ((path, render(config, user=pwd.getpwuid(os.getuid()).pw_name)), (directory / "acl", ACL)):
        name.touch(mode=0o600)
        name.write_text(text, encoding="utf-8")
    return path


def _announce_when_ready(config: Config) -> None:
    """Fork twice, so that the watcher is nobody's child when Mosquitto has this process."""
    broker = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            _watch(config, broker)
    finally:
        sys.stdout.flush()
        os._exit(0)


def _watch(config: Config, broker: int) -> None:
    for _ in range(_READY_TRIES):
        try:
            os.kill(broker, 0)
            with socket.create_connection((config.broker.host, config.broker.port), timeout=1):
                announce("broker", pid=broker, host=config.broker.host, port=config.broker.port)
                return
        except ProcessLookupError:
            return
        except OSError:
            time.sleep(_READY_PAUSE_S)
