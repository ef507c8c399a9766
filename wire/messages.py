"""Every message between a terminal and the fleet server. `messages.cddl` says the same in CDDL; a test checks it.

Nothing here can name a citizen: there is no field for a name, a number, a card, a tracking code or a token.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar

import msgspec

from wire.failures import Failure
from wire.fields import Count, Id16, Label, Message, Text, TimeMs

Loa = Annotated[int, msgspec.Meta(ge=0, le=4)]
Blocked = Annotated[list[Failure], msgspec.Meta(max_length=16)]


class Presence(IntEnum):
    """What a `State` says of the connection that carries it."""

    BIRTH = 1
    LEAVING = 2
    LOST = 3
    """Only in the will, which the broker sends. A hint: the age of the last message decides."""


class ReaderState(IntEnum):
    """The card reader as the terminal sees it."""

    NO_SERVICE = 0
    NO_READER = 1
    EMPTY = 2
    CARD_PRESENT = 3


class FactKind(IntEnum):
    """What happened. Only facts are journalled, numbered and resent."""

    VISIT_ENDED = 1
    AGENT_STARTED = 2


class CommandKind(IntEnum):
    """What the fleet may ask of a terminal."""

    REPORT_HEALTH = 1


class State(Message, frozen=True):
    """``up/state``: birth, leave, and the will. `session` grows with every connection of this journal."""

    presence: Presence
    boot: Id16
    session: Count
    journal: Id16
    at_ms: TimeMs
    agent: Label | None = None
    profile: Label | None = None
    first_seq: Count | None = None
    """The oldest fact still on the terminal; with `last_seq`, what a restored server can still get back."""
    last_seq: Count | None = None

    KEYS: ClassVar = {
        1: "presence", 2: "boot", 3: "session", 4: "journal", 5: "at_ms", 6: "agent", 7: "profile",
        8: "first_seq", 9: "last_seq",
    }  # fmt: skip


class Health(Message, frozen=True):
    """``up/health``: the newest one is kept, older ones are worth nothing."""

    boot: Id16
    session: Count
    at_ms: TimeMs
    uptime_s: Count
    reader: ReaderState
    blocked: Blocked
    """Why no visit may start just now; empty when one may."""
    facts_unsent: Count
    facts_kept: Count
    journal_bytes: Count
    rss_kib: Count
    clock_trusted: bool

    KEYS: ClassVar = {
        1: "boot", 2: "session", 3: "at_ms", 4: "uptime_s", 5: "reader", 6: "blocked", 7: "facts_unsent",
        8: "facts_kept", 9: "journal_bytes", 10: "rss_kib", 11: "clock_trusted",
    }  # fmt: skip


class Fact(Message, frozen=True):
    """``up/fact``: (`journal`, `seq`) is its identity for ever; the same key with other bytes is an alarm."""

    journal: Id16
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    kind: FactKind
    at_ms: TimeMs
    service: Label | None = None
    """The service sheet's id. VISIT_ENDED only, like the three below."""
    loa: Loa | None = None
    outcome: Failure | None = None
    """`Failure.NONE` when the visit gave an assertion."""
    took_ms: Count | None = None
    agent: Label | None = None
    """AGENT_STARTED: the version that started."""

    KEYS: ClassVar = {
        1: "journal", 2: "seq", 3: "kind", 4: "at_ms", 5: "service", 6: "loa", 7: "outcome", 8: "took_ms",
        9: "agent",
    }  # fmt: skip


class Mark(Message, frozen=True):
    """``dn/mark``: how far the server has *stored* this terminal's facts, and the server's time.

    Sent on birth, after commits, and periodically. PUBACK only says that the broker has a message; this says that the
    server has it on disk. With `resync` the terminal treats every fact above `stored` as unsent.
    """

    journal: Id16
    stored: Count
    """Every fact of `journal` from the first up to this one is committed. 0: none known."""
    server_ms: TimeMs
    resync: bool

    KEYS: ClassVar = {1: "journal", 2: "stored", 3: "server_ms", 4: "resync"}


class Command(Message, frozen=True):
    """``dn/command``: from the server's outbox, resent on birth until its result arrives or `not_after_ms` passes."""

    id: Id16
    kind: CommandKind
    not_after_ms: TimeMs

    KEYS: ClassVar = {1: "id", 2: "kind", 3: "not_after_ms"}


class Result(Message, frozen=True):
    """``up/result``: what became of a command. A terminal answers a repeated id with the same result."""

    id: Id16
    failure: Failure
    at_ms: TimeMs
    note: Text | None = None

    KEYS: ClassVar = {1: "id", 2: "failure", 3: "at_ms", 4: "note"}
