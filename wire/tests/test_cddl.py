"""`messages.cddl` and the code say the same: every encoded message, every key, every enumeration."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import msgspec
import pycddl  # type: ignore[import-untyped]  # the package publishes no type information
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor, cose, fields, inquiry, messages
from wire.failures import Failure
from wire.fields import Message
from wire.tests.examples import KINDS, REGISTRY_KEY, any_message, outside

TEXT = (Path(__file__).parent.parent / "messages.cddl").read_text(encoding="utf-8")
ENUMERATIONS = (
    *(messages.Presence, messages.ReaderState, messages.FactKind, messages.CommandKind),
    *(inquiry.CardStatus, Failure),
)
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def rule(name: str) -> str:
    """A class name as the file writes it: ``TraceHeader`` is ``trace-header``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


SCHEMAS = {kind: pycddl.Schema(f"start = {rule(kind.__name__)}\n{TEXT}") for kind in KINDS}


def fits(kind: type[Message], data: bytes) -> bool:
    try:
        SCHEMAS[kind].validate_cbor(data)
    except pycddl.ValidationError:
        return False
    return True


@EACH_KIND
@settings(max_examples=5)
@given(st.data())
def test_every_encoded_message_is_what_the_file_says(kind: type[Message], data: st.DataObject) -> None:
    encoded = fields.to_map(data.draw(any_message(kind)))
    SCHEMAS[kind].validate_cbor(cbor.encode(encoded))
    SCHEMAS[kind].validate_cbor(cbor.encode({**encoded, 999: [b"newer"], "newer": None}))


@EACH_KIND
@settings(max_examples=1)
@given(st.data())
def test_what_the_code_refuses_the_file_refuses_too(kind: type[Message], data: st.DataObject) -> None:
    good = fields.to_map(data.draw(any_message(kind)))
    plain = {name for name, value in outside(kind) if value == "a\nb"}
    for name, value in outside(kind):
        if name in plain and isinstance(value, str) and value:
            continue  # characters are counted and judged by the code alone, as the file says
        if name == "group_hashes" and value in ({0: bytes(32)}, {17: bytes(32)}):
            continue  # the validator has no ranges of keys
        key = next(key for key, field in kind.KEYS.items() if field == name)
        assert not fits(kind, cbor.encode({**good, key: value})), (name, value)


@EACH_KIND
@settings(max_examples=1)
@given(st.data())
def test_a_field_is_optional_in_the_file_exactly_where_it_has_a_default(
    kind: type[Message], data: st.DataObject
) -> None:
    full = fields.to_map(data.draw(any_message(kind)))
    default = {field.name for field in msgspec.structs.fields(kind) if not field.required}
    for key in full:
        rest = {other: value for other, value in full.items() if other != key}
        assert fits(kind, cbor.encode(rest)) == (kind.KEYS[key] in default), kind.KEYS[key]


def body(name: str) -> str:
    """The lines of a rule, up to the empty line that ends it."""
    found = re.search(rf"^{re.escape(name)} =(.*?)(?:\n\n|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no rule {name}"
    return found[1]


@EACH_KIND
def test_file_and_code_name_the_same_keys(kind: type[Message]) -> None:
    lines = re.findall(r"^  (?:\? )?(-?\d+): [^;]*; (\w+)$", body(rule(kind.__name__)), re.MULTILINE)
    assert {int(key): name for key, name in lines} == kind.KEYS
    assert len(lines) == len(kind.KEYS)


@pytest.mark.parametrize("enumeration", ENUMERATIONS, ids=lambda enumeration: enumeration.__name__)
def test_file_and_code_name_the_same_values(enumeration: type[IntEnum]) -> None:
    written = re.findall(r"^  (\d+)(?: /)? +; ([a-z0-9-]+)$", body(rule(enumeration.__name__)), re.MULTILINE)
    assert {name.upper().replace("-", "_"): int(value) for value, name in written} == {
        member.name: member.value for member in enumeration
    }


def test_every_message_class_of_the_three_modules_is_in_the_comparison() -> None:
    def below(kind: type[Message]) -> set[type[Message]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    ours = {kind for kind in below(Message) if kind.__module__ in ("wire.messages", "wire.inquiry", "wire.assertion")}
    assert ours == set(KINDS)


def test_a_signed_envelope_is_the_array_and_header_of_the_file() -> None:
    data = cose.sign(b"payload", REGISTRY_KEY, "govah-test;v=1")
    pycddl.Schema(f"start = sign1\n{TEXT}").validate_cbor(data[1:])
    pycddl.Schema(f"start = sign1-header\n{TEXT}").validate_cbor(cose.parse(data).protected)
