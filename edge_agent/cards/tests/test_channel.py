from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards.apdu import Command, Exchange, Response
from edge_agent.cards.channel import MAX_ROUNDS, PlainChannel
from edge_agent.cards.errors import CardDataError
from edge_agent.cards.tests.in_hand import scripted

READ = Command(0x00, 0xB0, 0x00, 0x00, le=256)


async def test_more_data_is_fetched_until_there_is_none() -> None:
    transmit, asked = scripted([b"ab\x61\x02", b"cd\x61\x00", b"e" * 256 + b"\x90\x00"])
    assert await PlainChannel(transmit).send(READ) == Response(b"abcd" + b"e" * 256, 0x9000)
    assert [apdu.hex() for apdu in asked] == ["00b0000000", "00c0000002", "00c0000000"]


async def test_a_wrong_length_is_corrected_once_and_the_same_command_repeated() -> None:
    transmit, asked = scripted([b"\x6c\x0b", b"hello world\x90\x00"])
    assert await PlainChannel(transmit).send(READ) == Response(b"hello world", 0x9000)
    assert [apdu.hex() for apdu in asked] == ["00b0000000", "00b000000b"]


async def test_6c00_means_all_256() -> None:
    transmit, asked = scripted([b"\x6c\x00", b"\x90\x00"])
    await PlainChannel(transmit).send(Command(0x00, 0xB0, 0x00, 0x00, le=4))
    assert asked[1].hex() == "00b0000000"


async def test_a_wrong_length_within_get_response_is_corrected_too() -> None:
    transmit, _ = scripted([b"\x61\x10", b"\x6c\x03", b"abc\x90\x00"])
    assert await PlainChannel(transmit).send(READ) == Response(b"abc", 0x9000)


async def test_what_is_fetched_is_fetched_on_the_same_logical_channel() -> None:
    transmit, asked = scripted([b"\x61\x01", b"x\x90\x00"])
    await PlainChannel(transmit).send(Command(0x0E, 0xB0, 0x00, 0x00, le=256))
    assert asked[1].hex() == "02c0000001"


async def test_other_status_words_pass_through_untouched() -> None:
    for sw in (0x6282, 0x63C2, 0x6983, 0x6A82, 0x6B00, 0x9000):
        transmit, asked = scripted([sw.to_bytes(2)])
        assert (await PlainChannel(transmit).send(READ)).sw == sw
        assert len(asked) == 1, "nothing is ever repeated for another reason than its length"


async def test_a_card_that_promises_more_without_end_is_cut_off() -> None:
    transmit, asked = scripted(itertools.repeat(b"x\x61\x01"))
    with pytest.raises(CardDataError):
        await PlainChannel(transmit).send(READ)
    assert len(asked) <= MAX_ROUNDS + 1


async def test_a_card_that_promises_more_and_gives_nothing_is_cut_off_at_once() -> None:
    transmit, asked = scripted(itertools.repeat(b"\x61\x01"))
    with pytest.raises(CardDataError):
        await PlainChannel(transmit).send(READ)
    assert len(asked) == 2


async def test_a_card_that_never_accepts_a_length_is_cut_off() -> None:
    transmit, asked = scripted(itertools.repeat(b"\x6c\x10"))
    with pytest.raises(CardDataError):
        await PlainChannel(transmit).send(READ)
    assert len(asked) == 2


@pytest.mark.parametrize("answers", [[b"x" * 101 + b"\x90\x00"], [b"x" * 60 + b"\x61\x00", b"x" * 60 + b"\x90\x00"]])
async def test_an_answer_beyond_the_limit_is_refused(answers: list[bytes]) -> None:
    transmit, _ = scripted(answers)
    with pytest.raises(CardDataError):
        await PlainChannel(transmit, max_answer_bytes=100).send(READ)


async def test_the_trace_sees_every_exchange_and_no_data() -> None:
    seen: list[Exchange] = []
    transmit, _ = scripted([b"\x6c\x02", b"ok\x90\x00"])
    await PlainChannel(transmit, seen.append).send(READ)
    assert seen == [("00B00000", 0, 256, 0x6C02, 0), ("00B00000", 0, 2, 0x9000, 2)]


@given(st.lists(st.binary(max_size=300), max_size=30))
async def test_whatever_a_card_answers_only_our_errors_come_out(answers: list[bytes]) -> None:
    transmit, _ = scripted([*answers, *[b"\x6f\x00"] * 400])
    try:
        response = await PlainChannel(transmit).send(READ)
    except CardDataError:
        return
    assert response.sw >> 8 not in (0x61, 0x6C)
