"""The agent's one configuration file: TOML, read once at the start, frozen, every problem named at once.

Relative paths are taken from the file's own directory. Secrets stand in files that it names, never in it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from edge_agent.errors import ConfigError
from wire import topics

MAX_CONFIG_BYTES = 64 * 1024

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker, and the files that enrolment writes."""

    host: Label
    port: Port
    ca: str
    certificate: str
    key: str
    health_interval_s: Seconds = 60.0
    retry_base_s: Seconds = 2.0
    retry_cap_s: Seconds = 300.0


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The national exchange is the only way out to the registry (decree 004, article 3)."""

    nix_url: Title
    nix_ca: str
    nix_key: str
    """PEM of the public key with which NIX signs its own refusals."""
    registry_key: str
    """PEM of the public key with which the registry signs answers and assertions."""
    trust_list: str
    """PEM: country signers and card-key authorities."""
    agency: Label


class Reader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which PC/SC reader is this terminal's: its name begins so."""

    name_prefix: Title


class Visit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one visit."""

    timeout_s: Seconds = 120.0
    """How long it waits for cards."""
    card_s: Seconds = 90.0
    """How long one card may keep it busy, exchange and registry included."""
    insertions_max: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3


class JournalSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_bytes: Annotated[int, msgspec.Meta(ge=1_000_000, le=4_000_000_000)] = 64 * 1024 * 1024
    max_facts: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 200_000


class Kiosk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    """0: any free one; the agent's ready line says which."""
    host: Label = "127.0.0.1"


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service that the office may ask for."""

    id: Label
    title_fa: Title
    title_en: Title
    legal_basis: Label
    min_loa: Annotated[int, msgspec.Meta(ge=1, le=4)]


class Office(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One relying party at this counter."""

    name: Title
    audience: Label
    office_class: Label
    token_sha256: Sha256Hex
    services: Annotated[list[Service], msgspec.Meta(min_length=1, max_length=64)]


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the agent is told. `directory` is where relative paths begin."""

    directory: str
    terminal: Label
    journal_file: str
    fleet: Fleet
    registry: Registry
    reader: Reader
    kiosk: Kiosk
    offices: Annotated[list[Office], msgspec.Meta(min_length=1, max_length=16)]
    visit: Visit = Visit()
    journal: JournalSection = JournalSection()

    def path(self, name: str) -> Path:
        """A path of the configuration, made absolute."""
        return Path(self.directory) / name


def load(path: Path) -> AgentConfig:
    """Read and check the file.

    Raises:
        ConfigError: with every problem that the file has.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError([f"{path.name} is longer than {MAX_CONFIG_BYTES} bytes"])
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError([f"{path.name}: {exc}"]) from exc
    document["directory"] = str(path.resolve().parent)
    problems: list[str] = []
    config = _convert(document, AgentConfig, "", problems)
    try:
        topics.terminal_id(str(document.get("terminal", "")))
    except topics.TopicRefusedError as exc:
        problems.append(f"terminal: {exc}")
    if config is not None:
        for name in (config.registry.nix_ca, config.registry.registry_key, config.registry.nix_key):
            if not config.path(name).is_file():
                problems.append(f"registry: {name} is not a file")
    if problems or config is None:
        raise ConfigError(problems)
    return config


S = TypeVar("S", bound=msgspec.Struct)


def _convert(document: dict[str, Any], kind: type[S], where: str, problems: list[str]) -> S | None:
    """Convert key by key, so that one wrong key does not hide the next."""
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    problems.extend(f"{where}{key}: unknown key" for key in document if key not in known)
    values: dict[str, Any] = {}
    before = len(problems)
    for name, field in known.items():
        if name not in document:
            if field.required:
                problems.append(f"{where}{name}: missing")
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            section = document[name]
            if isinstance(section, dict):
                values[name] = _convert(section, field.type, f"{where}{name}.", problems)
            else:
                problems.append(f"{where}{name}: must be a section")
        else:
            try:
                values[name] = msgspec.convert(document[name], field.type, strict=True)
            except msgspec.ValidationError as exc:
                problems.append(f"{where}{name}: {exc}")
    return kind(**values) if len(problems) == before else None
