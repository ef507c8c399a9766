"""Every MQTT topic of the fleet, built and parsed here and nowhere else.

``fl/v1/<terminal>/<up|dn>/<class>``: fixed depth, so that one ACL line per direction covers everything
(``pattern write fl/v1/%u/up/#``, ``pattern read fl/v1/%u/dn/#``) and any MQTT v5 broker can carry it: no dots, no
spaces, no leading slash, at most 40 characters a level (docs/adr/0006).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ROOT: Final = "fl/v1"
_TERMINAL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


class Up(StrEnum):
    """What a terminal tells: the last level of an ``up`` topic."""

    STATE = "state"
    HEALTH = "health"
    FACT = "fact"
    RESULT = "result"


class Down(StrEnum):
    """What a terminal is told: the last level of a ``dn`` topic."""

    MARK = "mark"
    COMMAND = "command"


class TopicRefusedError(ValueError):
    """Not a topic of ours, or a terminal id that must never become one."""


@dataclass(frozen=True, slots=True)
class UpTopic:
    terminal: str
    kind: Up


@dataclass(frozen=True, slots=True)
class DownTopic:
    terminal: str
    kind: Down


def terminal_id(text: str) -> str:
    """`text` if it may name a terminal: certificate CN, DNS SAN, MQTT client id and topic level at once.

    Raises:
        TopicRefusedError: anything but 1 to 40 of ``[a-z0-9-]``, beginning and ending with a letter or digit.
    """
    if _TERMINAL.fullmatch(text) is None:
        raise TopicRefusedError("a terminal id is 1 to 40 of a-z, 0-9 and inner hyphens")
    return text


def up(terminal: str, kind: Up) -> str:
    """The topic on which `terminal` publishes `kind`."""
    return f"{ROOT}/{terminal_id(terminal)}/up/{kind}"


def down(terminal: str, kind: Down) -> str:
    """The topic on which `terminal` is told `kind`."""
    return f"{ROOT}/{terminal_id(terminal)}/dn/{kind}"


def down_filter(terminal: str) -> str:
    """The one subscription of a terminal."""
    return f"{ROOT}/{terminal_id(terminal)}/dn/#"


UP_FILTER: Final = f"{ROOT}/+/up/#"
"""The one subscription of the ingest."""


def parse_up(topic: str) -> UpTopic:
    """Who says what on `topic`.

    Raises:
        TopicRefusedError: not exactly an ``up`` topic of this version.
    """
    match topic.split("/") if len(topic) <= 200 else []:
        case ["fl", "v1", terminal, "up", kind] if kind in list(Up):
            return UpTopic(terminal_id(terminal), Up(kind))
        case _:
            raise TopicRefusedError("not an up topic of fl/v1")


def parse_down(topic: str) -> DownTopic:
    """Who is told what on `topic`.

    Raises:
        TopicRefusedError: not exactly a ``dn`` topic of this version.
    """
    match topic.split("/") if len(topic) <= 200 else []:
        case ["fl", "v1", terminal, "dn", kind] if kind in list(Down):
            return DownTopic(terminal_id(terminal), Down(kind))
        case _:
            raise TopicRefusedError("not a dn topic of fl/v1")
