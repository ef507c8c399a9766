"""BER-TLV as cards use it (ISO/IEC 7816-4 clause 5.2.2): definite lengths, bounded in size, number and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_agent.cards.errors import CardDataError

MAX_COUNT: Final = 64
MAX_TAG_BYTES: Final = 3
MAX_LENGTH_BYTES: Final = 4
"""The first length byte and up to three more: objects of up to 16 MiB, cut down further by each caller's limit."""
MAX_HEADER_BYTES: Final = MAX_TAG_BYTES + MAX_LENGTH_BYTES


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object. `tag` is its bytes as a number, for example 0x5F1F. The value never appears in a repr."""

    tag: int
    value: bytes = field(repr=False)

    @property
    def constructed(self) -> bool:
        """Whether the value is made of further data objects."""
        return bool(_first_byte(self.tag) & 0x20)


def header(data: bytes) -> tuple[int, int, int]:
    """(tag, bytes of tag and length, bytes of value) at the head of `data`, which may end before the value does.

    Raises:
        CardDataError: no complete header, an indefinite length, or a form beyond the limits.
    """
    tag, start = _tag(data)
    if start >= len(data):
        raise CardDataError("a data object ends in its header")
    first = data[start]
    start += 1
    if first < 0x80:
        return tag, start, first
    more = first & 0x7F
    if not 1 <= more < MAX_LENGTH_BYTES:
        raise CardDataError("a data object has an indefinite or oversized length")
    if start + more > len(data):
        raise CardDataError("a data object ends in its header")
    return tag, start + more, int.from_bytes(data[start : start + more])


def parse(data: bytes, *, max_count: int = MAX_COUNT) -> list[Tlv]:
    """The data objects of one level, in order; they must fill `data` exactly.

    Raises:
        CardDataError: a length that lies, too many objects, or bytes left over.
    """
    objects: list[Tlv] = []
    position = 0
    while position < len(data):
        if len(objects) == max_count:
            raise CardDataError("too many data objects")
        # a header needs only its own few bytes: slicing all the rest each time would cost quadratic time
        tag, head, length = header(data[position : position + MAX_HEADER_BYTES])
        start = position + head
        if start + length > len(data):
            raise CardDataError("a data object is longer than what holds it")
        objects.append(Tlv(tag, data[start : start + length]))
        position = start + length
    return objects


def only(data: bytes, tag: int) -> bytes:
    """The value of the single data object `tag` that fills `data`.

    Raises:
        CardDataError: anything else.
    """
    match parse(data, max_count=1):
        case [Tlv(tag=found, value=value)] if found == tag:
            return value
        case _:
            raise CardDataError(f"expected one data object {tag:X}")


def find(objects: Sequence[Tlv], tag: int) -> bytes | None:
    """The value of `tag` among `objects`, or None.

    Raises:
        CardDataError: it is there twice.
    """
    values = [item.value for item in objects if item.tag == tag]
    if len(values) > 1:
        raise CardDataError(f"data object {tag:X} is there twice")
    return values[0] if values else None


def need(objects: Sequence[Tlv], tag: int) -> bytes:
    """The value of `tag` among `objects`.

    Raises:
        CardDataError: it is missing, or there twice.
    """
    value = find(objects, tag)
    if value is None:
        raise CardDataError(f"data object {tag:X} is missing")
    return value


def check_bounds(data: bytes, *, max_depth: int, max_count: int) -> None:
    """Walk every constructed object of `data` once, so that a recursive parser can be let loose on it.

    Raises:
        CardDataError: deeper than `max_depth`, more than `max_count` objects in all, or not well formed.
    """
    pending = [(data, 1)]
    left = max_count
    while pending:
        level, depth = pending.pop()
        if depth > max_depth:
            raise CardDataError("data objects are nested too deep")
        objects = parse(level, max_count=left)
        left -= len(objects)
        pending.extend((item.value, depth + 1) for item in objects if item.constructed)


def encode(tag: int, value: bytes) -> bytes:
    """One data object with the shortest length form."""
    size = len(value)
    if size < 0x80:
        length = bytes((size,))
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8)
        length = bytes((0x80 | len(digits),)) + digits
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1) + length + value


def tags(data: bytes, *, max_count: int = MAX_COUNT) -> list[int]:
    """A tag list (data object 5C): tags one after the other, without lengths.

    Raises:
        CardDataError: an incomplete or oversized tag, or too many.
    """
    found: list[int] = []
    while data:
        if len(found) == max_count:
            raise CardDataError("too many tags in a tag list")
        tag, size = _tag(data)
        found.append(tag)
        data = data[size:]
    return found


def _tag(data: bytes) -> tuple[int, int]:
    """(tag, its size in bytes) at the head of `data`."""
    if not data:
        raise CardDataError("a data object is missing")
    if data[0] & 0x1F != 0x1F:
        return data[0], 1
    for size in range(2, MAX_TAG_BYTES + 1):
        if size > len(data):
            raise CardDataError("a data object ends in its tag")
        if not data[size - 1] & 0x80:
            return int.from_bytes(data[:size]), size
    raise CardDataError("a tag is too long")


def _first_byte(tag: int) -> int:
    return tag >> (8 * (((tag.bit_length() + 7) // 8 or 1) - 1))
