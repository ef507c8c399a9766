"""How a typed message becomes a CBOR map with integer keys, and back.

A message is a frozen `msgspec.Struct` that names its keys once in ``KEYS``. Unknown keys are ignored, so that a newer
peer may say more; a missing key takes the default or is refused; every value is checked for type and bounds.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, TypeVar

import msgspec

from wire import cbor

MAX_MESSAGE_BYTES = 32 * 1024
_ENUM_VALUE = re.compile(r"Invalid enum value \S+")

Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Id16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]

# No control characters, line separators or bidi overrides: these texts reach terminals, logs and signed slips, where
# such a character would let one field look like another. The joiners that Persian needs are not among them.
PLAIN: Final = r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z"
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PLAIN)]
Text = Annotated[str, msgspec.Meta(max_length=256, pattern=PLAIN)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Milliseconds since 1970 UTC."""


class MessageRefusedError(Exception):
    """The bytes are not the message that was expected. `reason` names the field, never its value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Message(msgspec.Struct, frozen=True):
    """Base of everything that crosses a boundary as a CBOR map."""

    KEYS: ClassVar[dict[int, str]] = {}


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The deterministic encoding; fields that are None are left out.

    Raises:
        MessageRefusedError: a value of another type or out of bounds; what `decode` refuses is never sent.
    """
    value = to_map(message)
    from_map(value, type(message))
    return cbor.encode(value)


def decode(data: bytes, kind: type[M], *, max_bytes: int = MAX_MESSAGE_BYTES) -> M:
    """Read one message of `kind`.

    Raises:
        MessageRefusedError: not deterministic CBOR, not a map, or a field missing, of another type or out of bounds.
    """
    try:
        value = cbor.decode(data, max_bytes=max_bytes)
    except cbor.CborRefusedError as exc:
        raise MessageRefusedError(exc.reason) from exc
    return from_map(value, kind)


def to_map(message: Message) -> dict[int, Any]:
    """The map with integer keys, for embedding in another message."""
    return {key: value for key, name in message.KEYS.items() if (value := getattr(message, name)) is not None}


def from_map(value: object, kind: type[M]) -> M:
    """The opposite of `to_map`.

    Raises:
        MessageRefusedError: as for `decode`.
    """
    if not isinstance(value, dict):
        raise MessageRefusedError("not a map")
    named = {name: value[key] for key, name in kind.KEYS.items() if key in value}
    for name, item in named.items():
        # a field that is left out and one that is null would be two encodings of one message
        if item is None:
            raise MessageRefusedError(f"null - at `$.{name}`")
    try:
        # bytes as builtin: without it, text is taken for base64 and becomes the bytes of another message
        return msgspec.convert(named, kind, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as exc:
        # msgspec names the path and the rule, and a value only for enumerations: not even that one goes on
        raise MessageRefusedError(_ENUM_VALUE.sub("Invalid enum value", str(exc))) from None
