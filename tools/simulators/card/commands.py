"""Command APDUs as a card receives them (ISO/IEC 7816-4 clause 5.1), short and extended."""

from __future__ import annotations

from edge_agent.cards.apdu import Command


def parse(data: bytes) -> Command | None:
    """The command in `data`, or None if its lengths do not add up (the card answers 6700)."""
    if len(data) < 4:
        return None
    cla, ins, p1, p2 = data[:4]
    body = _body(data[4:])
    return None if body is None else Command(cla, ins, p1, p2, *body)


def _body(rest: bytes) -> tuple[bytes, int | None] | None:
    """(data, Le) of what follows the header."""
    match len(rest):
        case 0:
            return b"", None
        case 1:
            return b"", rest[0] or 256
    if rest[0]:
        return _data_and_le(rest[1:], rest[0], le_bytes=1)
    if len(rest) == 3:
        return b"", int.from_bytes(rest[1:]) or 65_536
    if len(rest) > 3 and rest[1:3] != b"\x00\x00":
        return _data_and_le(rest[3:], int.from_bytes(rest[1:3]), le_bytes=2)
    return None


def _data_and_le(rest: bytes, lc: int, *, le_bytes: int) -> tuple[bytes, int | None] | None:
    if len(rest) == lc:
        return rest, None
    if len(rest) == lc + le_bytes:
        return rest[:lc], int.from_bytes(rest[lc:]) or 1 << (8 * le_bytes)
    return None
