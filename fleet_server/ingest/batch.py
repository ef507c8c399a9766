"""Untrusted deliveries as typed messages. Nothing that arrives raises here: what cannot be read becomes a `Reject`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

from fleet_server.broker.door import Delivery
from wire import fields, topics
from wire.fields import MessageRefusedError
from wire.messages import Fact, Health, Result, State
from wire.topics import TopicRefusedError, Up, UpTopic

_TOPICS_REMEMBERED: Final = 1 << 18


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
        return before - self._size()

    def _size(self) -> int:
        return len(self.facts) + len(self.reports) + len(self.results) + len(self.rejects)


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
        _sort(batch, topic.terminal, message, delivery)
    return batch


def _sort(batch: Batch, terminal: str, message: Any, delivery: Delivery) -> None:
    match message:
        case Fact():
            batch.facts.append(
                FactRow(
                    terminal,
                    message.journal,
                    message.seq,
                    message.kind.value,
                    message.at_ms,
                    delivery.received_ms,
                    delivery.payload,
                    hashlib.sha256(delivery.payload).digest(),
                )
            )
        case Result():
            batch.results.append((terminal, message, delivery.received_ms))
        case State() | Health():
            batch.reports.append((terminal, message, delivery.received_ms))


@lru_cache(maxsize=_TOPICS_REMEMBERED)
def _topic(topic: str) -> UpTopic | None:
    """Remembered: a fleet has four topics per terminal and says them all the time."""
    try:
        return topics.parse_up(topic)
    except TopicRefusedError:
        return None
