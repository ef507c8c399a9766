"""Commands and answers of ISO/IEC 7816-4, as values. What a trace may show of them is decided here, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from edge_agent.cards.errors import CardDataError

MAX_DATA_BYTES: Final = 65_535
MAX_LE: Final = 65_536
SHORT_LE: Final = 256

SW_OK: Final = 0x9000
SW_END_OF_FILE: Final = 0x6282

Transmit: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Sends one command APDU to the card and gives its answer, data and two status bytes.

Raises:
    CardGoneError: the card (or reader, or card service) left. Whether the command was executed is unknown.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command APDU (ISO/IEC 7816-4 clause 5.1). Its data never appears in a repr.

    `le` is the number of bytes wanted: None for none, 256 for "all" in short form, 65536 in extended form.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = field(default=b"", repr=False)
    le: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no encoding; a wrong constant here is a bug of ours, hence ValueError."""
        if any(not 0 <= value <= 0xFF for value in (self.cla, self.ins, self.p1, self.p2)):
            raise ValueError("a header byte is out of range")
        if len(self.data) > MAX_DATA_BYTES or not (self.le is None or 0 < self.le <= MAX_LE):
            raise ValueError("Lc or Le is out of range")

    def to_bytes(self) -> bytes:
        """Short form where it fits, extended form where it must be (cases 1 to 4)."""
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        if len(self.data) <= 255 and (self.le is None or self.le <= SHORT_LE):
            lc = bytes((len(self.data),)) if self.data else b""
            le = b"" if self.le is None else bytes((self.le & 0xFF,))
            return header + lc + self.data + le
        lc = b"\x00" + len(self.data).to_bytes(2) if self.data else b""
        le = b"" if self.le is None else (self.le & 0xFFFF).to_bytes(2)
        return header + (lc or b"\x00") + self.data + le

    @property
    def header(self) -> str:
        """CLA INS P1 P2 in hexadecimal: all that a log may hold of a command besides its lengths."""
        return f"{self.cla:02X}{self.ins:02X}{self.p1:02X}{self.p2:02X}"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: data and status word. Its data never appears in a repr."""

    data: bytes = field(repr=False)
    sw: int

    @classmethod
    def parse(cls, answer: bytes) -> Response:
        """Take an answer apart.

        Raises:
            CardDataError: shorter than a status word, or longer than any answer can be.
        """
        if not 2 <= len(answer) <= MAX_LE + 2:
            raise CardDataError("an answer has an impossible length")
        return cls(answer[:-2], int.from_bytes(answer[-2:]))

    @property
    def ok(self) -> bool:
        """Status word 9000."""
        return self.sw == SW_OK


class Exchange(NamedTuple):
    """What a trace is told of one exchange: header, lengths and status word, never data."""

    header: str
    lc: int
    le: int | None
    sw: int
    answer_bytes: int


Trace: TypeAlias = Callable[[Exchange], None]


def describe(command: Command, response: Response) -> Exchange:
    """The traceable part of one exchange."""
    return Exchange(command.header, len(command.data), command.le, response.sw, len(response.data))
