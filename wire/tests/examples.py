"""Every message kind, a strategy that draws any valid message of a kind, and keys that are the same in every run."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from msgspec import inspect

from wire import assertion, inquiry, loa, messages, tracking_code
from wire.fields import Message

KINDS: Final[tuple[type[Message], ...]] = (
    messages.State,
    messages.Health,
    messages.Fact,
    messages.Mark,
    messages.Command,
    messages.Result,
    inquiry.TraceHeader,
    inquiry.Envelope,
    inquiry.ChallengeRequest,
    inquiry.AssertRequest,
    inquiry.Answer,
    inquiry.TimeRequest,
    inquiry.TimeAnswer,
    assertion.Claims,
)

REGISTRY_KEY: Final = ec.derive_private_key(0x60A4, ec.SECP256R1())
OTHER_KEY: Final = ec.derive_private_key(0x60A5, ec.SECP256R1())
AUDIENCE: Final = "10380284790/0417"
ISSUED_AT: Final = 1_800_000_000
CODE: Final = tracking_code.make(bytes(range(16)))

_MAX_DRAWN_BYTES = 80
# what a Persian text needs, and nothing that `fields.PLAIN` refuses
_PLAIN = st.sampled_from("azAZ09 ./-;=_گچپژ۰۹\u200cé😀")


def claims(**changes: Any) -> assertion.Claims:
    """Claims that `assertion.verify` calls genuine for `AUDIENCE` at `ISSUED_AT`, but for `changes`."""
    given: dict[str, Any] = {
        "iss": "registry.example",
        "aud": AUDIENCE,
        "exp": ISSUED_AT + assertion.USE_WITHIN_S,
        "nbf": ISSUED_AT,
        "iat": ISSUED_AT,
        "cti": bytes(range(16)),
        "nonce": b"\x01" * 32,
        "loa": 2,
        "evb": int(
            loa.Evidence.PASSIVE_AUTH | loa.Evidence.STATUS_FRESH | loa.Evidence.CARD_SIGNED | loa.Evidence.CONTACT
        ),
        "txh": b"\x02" * 32,
        "trk": CODE,
        "use": 1,
        "sub": b"\x03" * 16,
        "crf": b"\x04" * 16,
        "pol": loa.SPINE_POLICY,
        "ret": ISSUED_AT + 10 * 365 * 86400,
        "svc": "10031094100",
        "att": b"\x05" * 32,
        "trm": b"\x06" * 32,
    }
    return assertion.Claims(**given | changes)


def any_message(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Valid messages of `kind`: bounds and optional fields as its own annotations state them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    required = {field.name: _drawn(field.type) for field in info.fields if field.required}
    optional = {field.name: _drawn(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: kind(**given))


def _drawn(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.IntType(ge=low, le=high, lt=below):
            return st.integers(low, high if high is not None else (below or 1 << 63) - 1)
        case inspect.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=min(high or _MAX_DRAWN_BYTES, _MAX_DRAWN_BYTES))
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(_PLAIN, min_size=low or 0, max_size=min(high or _MAX_DRAWN_BYTES, _MAX_DRAWN_BYTES))
        case inspect.EnumType(cls=members):
            return st.sampled_from(list(members))
        case inspect.ListType(item_type=item, max_length=high):
            return st.lists(_drawn(item), max_size=high)
        case inspect.DictType(key_type=key, value_type=item, min_length=low, max_length=high):
            return st.dictionaries(_drawn(key), _drawn(item), min_size=low or 0, max_size=high)
        case inspect.UnionType(types=kinds):
            return st.one_of([_drawn(one) for one in kinds])
        case _:
            raise AssertionError(f"no strategy for {kind}")


def outside(kind: type[Message]) -> list[tuple[str, object]]:
    """(field, value) pairs that no message of `kind` may hold: each bound passed by one, and each type mistaken."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [(field.name, value) for field in info.fields for value in _outside(field.type)]


def _outside(kind: inspect.Type) -> list[object]:
    match kind:
        case inspect.BoolType():
            return [0, 1, "true", None]
        case inspect.IntType(ge=low, le=high, lt=below):
            top = high if high is not None else (below or 1 << 63) - 1
            return [(low or 0) - 1, top + 1, True, "1", b"1", None, [1]]
        case inspect.BytesType(min_length=low, max_length=high):
            short: list[object] = [bytes(low - 1)] if low else []
            return [*short, bytes((high or 0) + 1), "A" * (high or 4), "AAAA", 1, None]
        case inspect.StrType(min_length=low, max_length=high):
            empty: list[object] = [""] if low else []
            return [*empty, "x" * ((high or 0) + 1), b"x", 1, None, "a\nb", "a\x00", "\u202eb", "a\u2028", "a\n"]
        case inspect.EnumType():
            return [-1, 9999, True, "1", None]
        case inspect.ListType(max_length=high):
            return [[0] * ((high or 0) + 1), [9999], 0, {}, None]
        case inspect.DictType():
            return [{}, {0: bytes(32)}, {17: bytes(32)}, {1: b""}, {1: "A" * 44}, {"1": bytes(32)}, [bytes(32)], None]
        case inspect.UnionType(types=kinds):
            some = [_outside(one) for one in kinds if not isinstance(one, inspect.NoneType)]
            return [value for values in some for value in values]
        case _:
            raise AssertionError(f"no counter-examples for {kind}")


def fields_of(kind: type[Message]) -> tuple[str, ...]:
    """The names of the fields, in order."""
    return tuple(field.name for field in msgspec.structs.fields(kind))
