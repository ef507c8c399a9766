"""The words that ingest and broker client share. No I/O."""

from __future__ import annotations

from enum import Enum, auto
from typing import NewType

import msgspec

Token = NewType("Token", int)
"""Names one delivery for its acknowledgement. Opaque; void once the connection that brought it has ended."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message from the broker: unparsed, untrusted, not yet acknowledged."""

    topic: str
    payload: bytes
    received_ms: int
    """The server's clock."""
    token: Token


class Published(Enum):
    """What became of a message that we published."""

    STORED = auto()
    """The broker has it for at least one subscriber."""
    NOBODY = auto()
    """No subscriber: the message is gone."""
    RETRY = auto()
    """Refused, timed out, or no connection: not stored as far as we know."""
