"""Deterministic CBOR (RFC 8949 section 4.2.1), the only CBOR that crosses a boundary of ours.

Every value has exactly one encoding here, so equal bytes mean equal values and a signature over bytes is a signature
over what a reader sees. `decode` therefore re-encodes and compares: that is what catches the duplicate keys, `True`
standing in for `1` and long integer forms that a CBOR library lets through. Tags are refused before their content is
looked at: with shared references (tags 28, 29) six hundred bytes unfold into millions of values, and others start
parsers for regular expressions, mail or dates that nobody here asked for.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn, TypeAlias

import cbor2

Value: TypeAlias = Any
"""int (64 bit), bytes, str, bool, None, and lists and maps of them; map keys are int or str."""

MAX_DEPTH = 12
_INT_LIMIT = 1 << 64
_LIBRARY_TAGS: Final = (
    0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
"""The tags that the library decodes by itself; all others reach the hook. A test tries every tag."""


class CborRefusedError(Exception):
    """The bytes are not deterministic CBOR within the limits. `reason` is for logs and holds none of the bytes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(value: Value) -> bytes:
    """Encode `value` deterministically.

    Raises:
        CborRefusedError: a type, an integer, a text or a nesting that `decode` would refuse.
    """
    try:
        return bytes(cbor2.dumps(_ordered(value, MAX_DEPTH)))
    except UnicodeError as exc:
        raise CborRefusedError("text that is not Unicode") from exc


def decode(data: bytes, *, max_bytes: int) -> Value:
    """Decode one item that fills `data` exactly.

    Raises:
        CborRefusedError: too long, too deep, trailing bytes, a foreign type or any non-deterministic form.
    """
    if len(data) > max_bytes:
        raise CborRefusedError(f"longer than {max_bytes} bytes")
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_TAG_DECODERS,
            tag_hook=_refuse_tag,
        )
        again = encode(value)
    except CborRefusedError:
        raise
    except (cbor2.CBORError, UnicodeError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise CborRefusedError(f"not CBOR: {type(exc).__name__}") from exc
    if again != data:
        raise CborRefusedError("not the deterministic encoding")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise cbor2.CBORDecodeError("a tag")


_TAG_DECODERS: Final = dict.fromkeys(_LIBRARY_TAGS, _refuse_tag)


_AS_THEY_ARE: Final = frozenset({bytes, str, bool, type(None)})


def _ordered(value: Value, depth: int) -> Value:
    """The same value with map keys in bytewise order of their encodings; refuses what has no single form."""
    if depth < 0:
        raise CborRefusedError(f"nested deeper than {MAX_DEPTH}")
    if type(value) in _AS_THEY_ARE:
        return value
    match value:
        case None | bool() | bytes() | str():
            return value
        case int():
            if not -_INT_LIMIT <= value < _INT_LIMIT:
                raise CborRefusedError("integer beyond 64 bits")
            return value
        case list() | tuple():
            return [_ordered(item, depth - 1) for item in value]
        case dict():
            if all(type(key) is int and 0 <= key < _INT_LIMIT for key in value):
                # the encodings of such keys sort as the numbers do; all our messages are like this
                return {key: _ordered(value[key], depth - 1) for key in sorted(value)}
            pairs = []
            for key, item in value.items():
                if isinstance(key, bool) or not isinstance(key, int | str):
                    raise CborRefusedError("a map key is neither an integer nor text")
                pairs.append((bytes(cbor2.dumps(key)), _ordered(key, depth), _ordered(item, depth - 1)))
            pairs.sort(key=lambda pair: pair[0])
            return {key: item for _, key, item in pairs}
        case _:
            raise CborRefusedError(f"foreign type {type(value).__name__}")
