"""The fleet server's configuration: one TOML file in the data directory, read once at the start of each process.

`Layout` says where things lie in the data directory; everything there is private to the server's user.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from fleet_server.errors import ConfigError

CONFIG_NAME: Final = "fleet.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


_ALL_INTERFACES: Final = ("0.0.0.0", "[::]")  # noqa: S104 - recognised, not listened on


def in_url(host: str) -> str:
    """A name or address as a URL and a Host header write it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _bounded(default: Any, low: int, high: int) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _port() -> Any:
    return field(metadata={"low": 1, "high": 65535})


def _host() -> Any:
    return field(default="127.0.0.1")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Pages and API. Without certificate and key (PEM paths) it listens on loopback only."""

    port: int = _port()
    host: str = _host()
    names: tuple[str, ...] = ()
    """Host names and addresses by which browsers reach it, beside loopback and `host`; the first is in `url`."""
    tls_certificate: str = ""
    tls_key: str = ""

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and key, or None: plain HTTP on loopback."""
        return (Path(self.tls_certificate), Path(self.tls_key)) if self.tls_certificate else None

    @property
    def hosts(self) -> tuple[str, ...]:
        """`names` and `host` as they stand in a Host header, without a port."""
        return tuple(in_url(name.lower()) for name in (*self.names, self.host))

    @property
    def url(self) -> str:
        """How a browser reaches it: by its first name, else by its address, if it has one of its own."""
        first = self.hosts[0]
        return f"{'https' if self.tls else 'http'}://{'localhost' if first in _ALL_INTERFACES else first}:{self.port}"


@dataclass(frozen=True, slots=True)
class EstConfig:
    """Enrolment (RFC 7030): its own TLS listener."""

    port: int = _port()
    host: str = _host()
    code_life_s: int = _bounded(24 * 3600, 60, 30 * 24 * 3600)
    certificate_days: int = _bounded(90, 1, 397)
    attempts_per_serial: int = _bounded(10, 1, 1000)
    """Refused attempts on one serial within `attempts_window_s`; further ones are 429, the right code is not."""
    attempts_window_s: int = _bounded(600, 1, 24 * 3600)
    attempts_per_s: int = _bounded(50, 1, 10_000)
    """Enrolments of all serials together, refused or not."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The MQTT broker that we render a configuration for."""

    port: int = _port()
    host: str = _host()
    engine: str = "mosquitto"
    max_packet_bytes: int = _bounded(64 * 1024, 1024, 1 << 20)


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """The process that stores what terminals say. `metrics_port` is on loopback only."""

    metrics_port: int = _port()
    batch_messages: int = _bounded(1000, 1, 10_000)
    linger_ms: int = _bounded(20, 1, 1000)
    mark_interval_s: int = _bounded(60, 2, 3600)
    health_interval_s: int = _bounded(60, 1, 3600)
    """How often terminals report; one that is silent for three times this is lost."""
    outbox_poll_ms: int = _bounded(500, 50, 60_000)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything. `data_dir` is where the file was found."""

    data_dir: Path
    web: WebConfig
    est: EstConfig
    broker: BrokerConfig
    ingest: IngestConfig
    database_url: str = ""
    """Empty: SQLite in the data directory."""

    @property
    def layout(self) -> Layout:
        return Layout(self.data_dir)

    @property
    def database(self) -> str:
        """The URL for `db.open_engine`."""
        return self.database_url or f"sqlite:///{self.layout.database}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths in the data directory."""

    data_dir: Path

    @property
    def config(self) -> Path:
        return self.data_dir / CONFIG_NAME

    @property
    def database(self) -> Path:
        return self.data_dir / "fleet.sqlite"

    @property
    def ca_certificate(self) -> Path:
        return self.data_dir / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.data_dir / "ca.key"

    @property
    def crl(self) -> Path:
        return self.data_dir / "ca.crl"

    @property
    def broker_dir(self) -> Path:
        return self.data_dir / "broker"

    @property
    def ingest_lock(self) -> Path:
        return self.data_dir / "ingest.lock"

    def certificate(self, name: str) -> Path:
        """The certificate of our own server or client `name` (``broker``, ``est``, ``ingest``)."""
        return self.data_dir / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.data_dir / f"{name}.key"


_SECTIONS: Final[dict[str, type[Any]]] = {
    "web": WebConfig, "est": EstConfig, "broker": BrokerConfig, "ingest": IngestConfig,
}  # fmt: skip
T = TypeVar("T")


def load(data_dir: Path) -> Config:
    """Read `data_dir`/fleet.toml.

    Raises:
        ConfigError: with every problem of the file.
    """
    path = Layout(data_dir).config
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError([f"{path}: {exc.strerror}; run `govah fleet init` first"]) from exc
    return parse(text, data_dir)


def parse(text: str, data_dir: Path) -> Config:
    """The configuration in `text`.

    Raises:
        ConfigError: with every problem: not TOML, unknown keys, missing keys, other types, values out of bounds.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"not TOML: {exc}"]) from exc
    problems: list[str] = []
    sections: dict[str, Any] = {
        name: _section(kind, raw.pop(name, {}), name, problems) for name, kind in _SECTIONS.items()
    }
    url = raw.pop("database_url", "")
    if not isinstance(url, str):
        problems.append("database_url: must be text")
    problems += [f"{key}: unknown" for key in raw]
    if sections["broker"] is not None and sections["broker"].engine != "mosquitto":
        problems.append("broker.engine: only mosquitto is known")
    web = sections["web"]
    if web is not None and bool(web.tls_certificate) != bool(web.tls_key):
        problems.append("web: tls_certificate and tls_key go together")
    if problems:
        raise ConfigError(problems)
    return Config(data_dir=data_dir, database_url=url, **sections)


def render(config: Config) -> str:
    """The TOML that `parse` reads back to the same values."""
    lines = ["# Govah fleet server. Every key that is left out takes its default; unknown keys are refused."]
    if config.database_url:
        lines.append(f"database_url = {_toml(config.database_url)}")
    for name in _SECTIONS:
        lines += ["", f"[{name}]"]
        section = getattr(config, name)
        lines += [f"{item.name} = {_toml(getattr(section, item.name))}" for item in dataclasses.fields(section)]
    return "\n".join(lines) + "\n"


def _toml(value: str | int | tuple[str, ...]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _section(kind: type[T], raw: object, name: str, problems: list[str]) -> T | None:
    """One table as a dataclass; None when `problems` grew."""
    if not isinstance(raw, dict):
        problems.append(f"{name}: must be a table")
        return None
    before = len(problems)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type] # every section is a dataclass
        where = f"{name}.{item.name}"
        if item.name not in raw:
            if item.default is dataclasses.MISSING:
                problems.append(f"{where}: missing")
            continue
        value = raw.pop(item.name)
        problem = _problem(item, value)
        if problem is not None:
            problems.append(f"{where}: must be {problem}")
        values[item.name] = tuple(value) if isinstance(value, list) else value
    problems += [f"{name}.{key}: unknown" for key in raw]
    return kind(**values) if len(problems) == before else None


def _problem(item: dataclasses.Field[Any], value: object) -> str | None:
    """What `value` must be for `item` and is not."""
    if item.default == ():
        is_list = isinstance(value, list) and all(isinstance(name, str) and _is_host(name) for name in value)
        return None if is_list else "a list of host names or addresses"
    if "low" not in item.metadata:
        return None if isinstance(value, str) else "text"
    low, high = item.metadata["low"], item.metadata["high"]
    if type(value) is not int:
        return "a whole number"
    return None if low <= value <= high else f"{low} to {high}"


def _is_host(name: str) -> bool:
    if _NAME.fullmatch(name):
        return True
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False
