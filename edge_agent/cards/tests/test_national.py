from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.cards import tlv
from edge_agent.cards.apdu import Exchange
from edge_agent.cards.channel import PlainChannel
from edge_agent.cards.errors import CardDataError, CardError, CardGoneError, CardRefusedError, CardUnsupportedError
from edge_agent.cards.national import NationalCard
from edge_agent.cards.profile import SPINE_0
from edge_agent.cards.tests.in_hand import CHALLENGE, contact, gone_at, opened, powered, scripted
from tools.simulators import issuer
from tools.simulators.card.memory import PIN1_TRIES
from tools.simulators.issuer import CardImage, ElementaryFile

IMAGE = issuer.personalise(1)
EXCHANGES = 18
"""Of a whole visit, as counted; `test_a_whole_visit_takes_as_many_exchanges_as_the_fault_test_covers` holds it."""


def with_security_object(content: bytes) -> CardImage:
    files = [file if file.fid != 0x011D else ElementaryFile(0x011D, 0x1D, content) for file in IMAGE.lds]
    return replace(IMAGE, lds=tuple(files))


async def visit(card: NationalCard) -> None:
    await card.read()
    await card.verdict(CHALLENGE)


@pytest.mark.requirement("A1")
async def test_what_is_read_is_what_was_personalised() -> None:
    record = await (await opened(contact(powered(IMAGE)))).read()
    assert record.security_object == IMAGE.security_object
    assert record.groups == IMAGE.groups
    assert record.card_certificate == IMAGE.card_certificate


async def test_progress_is_told_from_nothing_to_all() -> None:
    told: list[tuple[int, int]] = []
    card = await opened(contact(powered(IMAGE)))
    await card.read(lambda done, of: told.append((done, of)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_whole_visit_takes_as_many_exchanges_as_the_fault_test_covers() -> None:
    seen: list[Exchange] = []
    card = await NationalCard.open(PlainChannel(contact(powered(IMAGE)), seen.append), SPINE_0)
    await visit(card)
    assert len(seen) == EXCHANGES


@pytest.mark.fault
@pytest.mark.parametrize("number", range(1, EXCHANGES + 1))
async def test_a_card_pulled_at_any_exchange_is_gone_and_loses_no_try(number: int) -> None:
    system = powered(IMAGE)
    with pytest.raises(CardGoneError):
        await visit(await opened(contact(system, gone_at(number))))
    assert system.state.pin1_tries == PIN1_TRIES


async def test_reading_and_verdict_touch_no_pin() -> None:
    seen: list[Exchange] = []
    card = await NationalCard.open(PlainChannel(contact(powered(IMAGE)), seen.append), SPINE_0)
    await visit(card)
    assert not [exchange for exchange in seen if exchange.header[2:4] in {"20", "24", "2C", "21"}]


@pytest.mark.parametrize("size", [0, 1, 100, 252, 253, 254, 508, 5000, 16 * 1024 - 4])
async def test_files_of_any_size_up_to_the_limit_are_read_whole(size: int) -> None:
    content = tlv.encode(0x77, bytes(index * 7 % 251 for index in range(size)))
    record = await (await opened(contact(powered(with_security_object(content))))).read()
    assert record.security_object == content


async def test_a_file_beyond_7fff_is_read_with_the_offset_in_a_data_object() -> None:
    content = tlv.encode(0x77, bytes(index * 7 % 251 for index in range(40_000)))
    roomy = replace(SPINE_0, max_file_bytes=64 * 1024, max_reads_per_file=400)
    channel = PlainChannel(contact(powered(with_security_object(content))))
    record = await (await NationalCard.open(channel, roomy)).read()
    assert record.security_object == content


@pytest.mark.parametrize("size", [50, 300])
async def test_what_follows_the_data_object_in_a_file_is_left_out(size: int) -> None:
    content = tlv.encode(0x77, b"x" * size)
    record = await (await opened(contact(powered(with_security_object(content + bytes(500)))))).read()
    assert record.security_object == content


@pytest.mark.parametrize(
    "content",
    [
        tlv.encode(0x77, bytes(17 * 1024)),
        bytes.fromhex("77823000") + bytes(50),
        bytes.fromhex("7783ffffff") + bytes(50),
        bytes.fromhex("7780") + bytes(50),
        tlv.encode(0x61, bytes(50)),
        b"\x77",
    ],
)
async def test_a_file_that_lies_about_itself_is_card_data_trouble(content: bytes) -> None:
    card = await opened(contact(powered(with_security_object(content))))
    with pytest.raises((CardDataError, CardRefusedError)):
        await card.read()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"x\x90\x00", "too many pieces"),
        (b"\x90\x00", "gave nothing"),
        (bytes(300) + b"\x90\x00", "more than was asked"),
        (b"\x6b\x00", "6B00"),
        (b"\x69\x82", "6982"),
    ],
)
async def test_a_card_that_goes_on_wrongly_within_a_file_is_cut_off(answer: bytes, reason: str) -> None:
    count = 0

    def spoil(number: int, genuine: bytes) -> bytes:
        nonlocal count
        count = number
        return genuine if number <= 6 else answer

    card = await opened(contact(powered(IMAGE), spoil))
    with pytest.raises(CardError, match=reason):
        await card.read()
    assert count <= 6 + SPINE_0.max_reads_per_file


@pytest.mark.parametrize(
    "answers",
    [
        [b"\x6a\x82"],
        [b"\x90\x00", b"\x6a\x82"],
        [b"\x90\x00", b"\x90\x00", b"\x61\x02\x4f\x00\x90\x00"],
        [b"\x90\x00", b"\x90\x00", b"garbage\x90\x00"],
        [b"\x90\x00", bytes.fromhex("7f6602020000"), b"\x90\x00"],
    ],
)
async def test_a_card_that_is_not_of_the_profile_is_unsupported(answers: list[bytes]) -> None:
    transmit, _ = scripted(answers)
    with pytest.raises(CardUnsupportedError):
        await opened(transmit)


async def test_an_information_file_that_is_too_long_makes_a_card_unsupported() -> None:
    long_file = tlv.encode(0x04, bytes(600)) + b"\x90\x00"
    with pytest.raises(CardUnsupportedError, match="too long"):
        await opened(contact(powered(IMAGE), lambda count, answer: long_file if count == 2 else answer))


async def test_an_answer_that_the_card_bounds_itself_bounds_each_read() -> None:
    small = tlv.encode(0x7F66, bytes.fromhex("02020080" + "02020042"))
    image = replace(IMAGE, master=(ElementaryFile(0x2F01, 0x01, small), IMAGE.master[1]))
    seen: list[Exchange] = []
    card = await NationalCard.open(PlainChannel(contact(powered(image)), seen.append), SPINE_0)
    assert (await card.read()).security_object == IMAGE.security_object
    assert max(exchange.le or 0 for exchange in seen[4:]) == 0x40


@settings(max_examples=150)
@given(st.integers(1, EXCHANGES), st.binary(max_size=300))
async def test_whatever_a_card_answers_only_card_errors_come_out(number: int, instead: bytes) -> None:
    hostile = contact(powered(IMAGE), lambda count, answer: instead if count == number else answer)
    try:
        await visit(await opened(hostile))
    except CardError:
        return
