"""Untrusted deliveries as typed messages. Nothing that arrives raises here: what cannot be read becomes a `Reject`."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

from fleet_server.broker.door import Delivery
from wire import cbor, fields, topics
from wire.fields import MessageRefusedError
from wire.messages import Fact, Health, Presence, Result, State
from wire.topics import TopicRefusedError, Up, UpTopic

SEQ_MAX: Final = 1 << 40
"""No journal gets that far in the life of a terminal; beyond it a number is a lie, and sums of it overflow."""
TOPIC_MAX_CHARS: Final = 64
"""Longer than any topic of ours; the broker lets 64 KiB through."""
_MAP: Final = 0xA0
_SMALL_MAP: Final = 24
"""RFC 8949 section 3: major type 5, and from how many pairs on the number has bytes of its own."""
_TOPICS_REMEMBERED: Final = 1 << 16


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A message that nobody will ever store. `terminal` is None when not even the topic was ours."""

    terminal: str | None
    kind: str
    reason: str
    size_bytes: int


class FactRow(msgspec.Struct, frozen=True, gc=False):
    """A row of `db.facts`, in the order of its columns."""

    terminal: str
    journal: bytes
    seq: int
    kind: int
    at_ms: int
    received_ms: int
    body: bytes
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction stores. `reports` keeps states and health of all terminals in the order of arrival."""

    facts: list[FactRow] = field(default_factory=list)
    reports: list[tuple[str, State | Health, int]] = field(default_factory=list)
    """(terminal, message, received_ms)"""
    results: list[tuple[str, Result, int]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    more_said: list[tuple[str, int]] = field(default_factory=list)
    """(terminal, bytes): facts with keys that we do not know. They are stored without these."""

    def terminals(self) -> set[str]:
        """Everyone who is heard of in this batch."""
        return (
            {fact.terminal for fact in self.facts}
            | {report[0] for report in self.reports}
            | {result[0] for result in self.results}
            | {reject.terminal for reject in self.rejects if reject.terminal is not None}
        )

    def drop(self, terminals: set[str]) -> int:
        """Take out everything of `terminals`; returns how many messages that were."""
        before = self._size()
        self.facts[:] = [fact for fact in self.facts if fact.terminal not in terminals]
        self.reports[:] = [report for report in self.reports if report[0] not in terminals]
        self.results[:] = [result for result in self.results if result[0] not in terminals]
        self.rejects[:] = [reject for reject in self.rejects if reject.terminal not in terminals]
        self.more_said[:] = [said for said in self.more_said if said[0] not in terminals]
        return before - self._size()

    def new_journals(self, known: Container[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """(terminal, journal) that facts and births name and that are not `known`, each once, facts first."""
        named = dict.fromkeys((fact.terminal, fact.journal) for fact in self.facts)
        named.update(dict.fromkeys(key for key in map(_born, self.reports) if key is not None))
        return [key for key in named if key not in known]

    def refuse_journals(self, keys: set[tuple[str, bytes]], kind: str) -> None:
        """Make rejects of all facts and births of `keys`."""
        for fact in self.facts:
            if (fact.terminal, fact.journal) in keys:
                self.rejects.append(Reject(fact.terminal, kind, fact.journal.hex(), len(fact.body)))
        for report in self.reports:
            if (key := _born(report)) in keys and key is not None:
                self.rejects.append(Reject(key[0], kind, key[1].hex(), 0))
        self.facts[:] = [fact for fact in self.facts if (fact.terminal, fact.journal) not in keys]
        self.reports[:] = [report for report in self.reports if _born(report) not in keys]

    def _size(self) -> int:
        return len(self.facts) + len(self.reports) + len(self.results) + len(self.rejects)


def _born(report: tuple[str, State | Health, int]) -> tuple[str, bytes] | None:
    """Whose journal the report announces; None: it is no birth."""
    terminal, said, _ = report
    return (terminal, said.journal) if isinstance(said, State) and said.presence is Presence.BIRTH else None


_KINDS: Final[dict[Up, type[fields.Message]]] = {
    Up.FACT: Fact, Up.STATE: State, Up.HEALTH: Health, Up.RESULT: Result,
}  # fmt: skip


def read(deliveries: Sequence[Delivery]) -> Batch:
    """Parse and sort out one batch."""
    batch = Batch()
    for delivery in deliveries:
        topic = _topic(delivery.topic)
        if topic is None:
            batch.rejects.append(Reject(None, "topic", "not a topic of ours", len(delivery.payload)))
            continue
        try:
            message: Any = fields.decode(delivery.payload, _KINDS[topic.kind])
        except MessageRefusedError as exc:
            batch.rejects.append(Reject(topic.terminal, f"bad_{topic.kind}", exc.reason[:200], len(delivery.payload)))
            continue
        if (lie := _impossible(message)) is not None:
            batch.rejects.append(Reject(topic.terminal, f"bad_{topic.kind}", lie, len(delivery.payload)))
            continue
        _sort(batch, topic.terminal, message, delivery)
    return batch


def _sort(batch: Batch, terminal: str, message: Any, delivery: Delivery) -> None:
    match message:
        case Fact():
            body = _known_body(message, delivery.payload)
            if body != delivery.payload:
                batch.more_said.append((terminal, len(delivery.payload) - len(body)))
            batch.facts.append(
                FactRow(
                    terminal,
                    message.journal,
                    message.seq,
                    message.kind.value,
                    message.at_ms,
                    delivery.received_ms,
                    body,
                    hashlib.sha256(delivery.payload).digest(),
                )
            )
        case Result():
            batch.results.append((terminal, message, delivery.received_ms))
        case State() | Health():
            batch.reports.append((terminal, message, delivery.received_ms))


def _known_body(message: fields.Message, payload: bytes) -> bytes:
    """What `fields.encode` makes of `message`, which was read from `payload`: without the keys that we do not know."""
    known = fields.to_map(message)
    # deterministic CBOR is the same bytes unless more is in it, and a map of less than 24 pairs counts them in its
    # first byte: a third of the whole cost of a fact is saved
    if len(known) < _SMALL_MAP and payload[0] == _MAP | len(known):
        return payload
    return cbor.encode(known)


def _impossible(message: Any) -> str | None:
    """Why no terminal can mean what it says, although every field is well formed; None: it can."""
    match message:
        case Fact() if message.seq > SEQ_MAX:
            return "seq is beyond every journal"
        case State() if max(message.first_seq or 0, message.last_seq or 0) > SEQ_MAX:
            return "first_seq or last_seq is beyond every journal"
        case State() if (message.first_seq or 0) > (message.last_seq or 0) + 1:
            return "first_seq is beyond last_seq"
        case _:
            return None


def _topic(topic: str) -> UpTopic | None:
    # what is remembered is held for ever: only what is short and ours
    if len(topic) > TOPIC_MAX_CHARS:
        return None
    try:
        return _parsed(topic)
    except TopicRefusedError:
        return None


@lru_cache(maxsize=_TOPICS_REMEMBERED)
def _parsed(topic: str) -> UpTopic:
    """Remembered: a fleet has four topics per terminal and says them all the time. A refusal is not."""
    return topics.parse_up(topic)
