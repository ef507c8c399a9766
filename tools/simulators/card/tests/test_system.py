from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import verdict
from edge_agent.cards.trust import TrustList
from edge_agent.cards.verdict import CardVerdict, Session, Status
from tools.simulators import issuer
from tools.simulators.card import system
from tools.simulators.card.memory import CardState, VolatileMemory
from tools.simulators.card.system import CardSystem

IMAGE = issuer.personalise(1)
SELECT_LDS = "00a4040c07a0000002471001"
SELECT_EID = "00a4040c0ca000000063504b43532d3135"
CHALLENGE = bytes(range(32))
VERDICT = "0088000320" + CHALLENGE.hex() + "00"
RIGHT = IMAGE.pin1.ljust(8, b"\xff").hex()
WRONG = (b"%06d" % ((int(IMAGE.pin1) + 1) % 10**6)).ljust(8, b"\xff").hex()


@pytest.fixture
def card() -> CardSystem:
    return CardSystem(IMAGE, VolatileMemory())


@pytest.fixture
def eid_card(card: CardSystem) -> CardSystem:
    assert sw(card, SELECT_EID) == system.OK
    return card


def sw(card: CardSystem, apdu: str) -> int:
    return card.process(bytes.fromhex(apdu)).sw


@pytest.mark.parametrize(
    ("apdu", "expected"),
    [
        ("", system.WRONG_LENGTH),
        ("00a404", system.WRONG_LENGTH),
        ("00a4040c05a000", system.WRONG_LENGTH),
        ("00a4000c023f00", system.OK),
        ("00a4000c02ffff", system.NOT_FOUND),
        ("00a4000c0101", system.WRONG_LENGTH),
        ("00a4050c023f00", system.WRONG_P1_P2),
        ("00a40001023f00", system.WRONG_P1_P2),
        ("00a4040c03a00000", system.NOT_FOUND),
        ("00b0810000", system.OK),
        ("00b08100", system.WRONG_LENGTH),
        ("00b0820000", system.NOT_FOUND),
        ("00b0000000", system.NO_CURRENT_FILE),
        ("00ca010115", system.NO_INSTRUCTION),
        ("0ca4040c07a0000002471001", system.NO_SECURE_MESSAGING),
        ("10a4040c07a0000002471001", system.NO_CHAINING),
        ("01a4040c07a0000002471001", system.NO_LOGICAL_CHANNEL),
        ("80ca9f7f2d", system.NO_CLASS),
        ("00200081", system.NO_REFERENCE),
        (VERDICT, system.CONDITIONS),
    ],
)
def test_a_card_fresh_from_reset_answers(card: CardSystem, apdu: str, expected: int) -> None:
    assert sw(card, apdu) == expected


def test_file_information_is_given_when_asked_for(card: CardSystem) -> None:
    assert card.process(bytes.fromhex("00a4040007a000000247100100")).data.hex() == "6f098407a0000002471001"
    assert card.process(bytes.fromhex("00a40000022f0000")).sw == system.NOT_FOUND
    assert card.process(bytes.fromhex("00a4000c023f00")).data == b""
    assert card.process(bytes.fromhex("00a40004022f0000")).data.hex() == "62088002003983022f00"


def test_files_of_an_application_are_out_of_reach_from_outside_it(card: CardSystem) -> None:
    assert sw(card, "00b09d0000") == system.NOT_FOUND
    sw(card, SELECT_LDS)
    assert sw(card, "00b09d0000") == system.OK
    sw(card, "00a4000c023f00")
    assert sw(card, "00b0000000") == system.NO_CURRENT_FILE
    assert sw(card, "00b09d0000") == system.NOT_FOUND


def test_read_binary_keeps_to_the_file(card: CardSystem) -> None:
    sw(card, SELECT_LDS)
    whole = IMAGE.groups[1]
    assert card.process(bytes.fromhex("00b0810000")).data == whole
    assert card.process(bytes.fromhex("00b0000510")).data == whole[5:21]
    end = card.process(bytes((0, 0xB0, 0, len(whole) - 2, 10)))
    assert (end.data, end.sw) == (whole[-2:], system.END_OF_FILE)
    assert sw(card, "00b000ff01") == system.WRONG_OFFSET
    odd = card.process(bytes.fromhex("00b1000004540200" + "0500"))
    assert odd.data == b"\x53" + bytes((len(whole) - 5,)) + whole[5:]
    for malformed in ("00b1000003540200", "00b1000003550105" + "00", "00b10000045402000500"[:-2]):
        assert sw(card, malformed) in (system.WRONG_DATA, system.WRONG_LENGTH)


def test_nothing_can_be_written(card: CardSystem) -> None:
    sw(card, SELECT_LDS)
    assert sw(card, "00d6810001ff") == system.SECURITY_STATUS
    assert sw(card, "00d6820001ff") == system.NOT_FOUND


def test_three_wrong_pins_block_and_the_right_one_is_then_refused(eid_card: CardSystem) -> None:
    for expected in (0x63C2, 0x63C1, 0x63C0, system.BLOCKED):
        assert sw(eid_card, "0020008108" + WRONG) == expected
    assert sw(eid_card, "0020008108" + RIGHT) == system.BLOCKED
    assert sw(eid_card, "00200081") == system.BLOCKED


def test_the_right_pin_restores_the_tries_and_lasts_until_reset(eid_card: CardSystem) -> None:
    sw(eid_card, "0020008108" + WRONG)
    assert sw(eid_card, "00200081") == 0x63C2
    assert sw(eid_card, "0020008108" + RIGHT) == system.OK
    assert sw(eid_card, "00200081") == system.OK
    sw(eid_card, SELECT_EID)
    assert sw(eid_card, "00200081") == system.OK
    eid_card.reset()
    sw(eid_card, SELECT_EID)
    assert sw(eid_card, "00200081") == 0x63C3


def test_a_wrong_pin_after_the_right_one_ends_what_was_proved(eid_card: CardSystem) -> None:
    sw(eid_card, "0020008108" + RIGHT)
    sw(eid_card, "0020008108" + WRONG)
    assert sw(eid_card, "00200081") == 0x63C2


@pytest.mark.parametrize("block", ["", "31", "313233343536ffff00", "3132333435ffffff", "31323334353affff", "ff" * 8])
def test_a_malformed_pin_block_is_refused_and_costs_no_try(eid_card: CardSystem, block: str) -> None:
    data = bytes.fromhex(block)
    apdu = "00200081" + (bytes((len(data),)) + data).hex() if data else "00200081"
    assert sw(eid_card, apdu) in (system.WRONG_LENGTH, system.WRONG_DATA, 0x63C3)
    assert eid_card.state.pin1_tries == 3


def test_a_try_is_spent_before_the_comparison() -> None:
    committed: list[int] = []

    class Watched(VolatileMemory):
        def commit(self, state: CardState) -> None:
            committed.append(state.pin1_tries)
            super().commit(state)

    card = CardSystem(IMAGE, Watched())
    sw(card, SELECT_EID)
    sw(card, "0020008108" + RIGHT)
    assert committed == [2, 3]


def test_the_verdict_carries_what_the_session_proved(eid_card: CardSystem) -> None:
    trust = TrustList.from_pem(issuer.trust_list_pem())
    seen: list[Status] = []
    for before in ("00200081", "0020008108" + WRONG, "0020008108" + RIGHT):
        sw(eid_card, before)
        answer = eid_card.process(bytes.fromhex(VERDICT))
        assert (answer.sw, answer.signatures) == (system.OK, 1)
        found = CardVerdict.parse(answer.data)
        seen.append(
            verdict.check(found, CHALLENGE, IMAGE.card_certificate, trust, 1_800_000_000, expected_document="S00000001")
        )
    assert [status.session for status in seen] == [Session(0), Session(0), Session.PIN1]
    assert [status.pin1_tries for status in seen] == [3, 2, 3]
    assert [status.verdict_counter for status in seen] == [1, 2, 3]


@pytest.mark.parametrize(
    ("apdu", "expected"),
    [
        ("0088000120" + "00" * 32 + "00", system.NO_REFERENCE),
        ("0088010320" + "00" * 32 + "00", system.WRONG_P1_P2),
        ("0088000308" + "00" * 8 + "00", system.WRONG_LENGTH),
        ("0088000320" + "00" * 32, system.WRONG_LENGTH),
    ],
)
def test_key_03_signs_verdicts_and_nothing_else(eid_card: CardSystem, apdu: str, expected: int) -> None:
    assert sw(eid_card, apdu) == expected
    assert eid_card.state.verdicts == 0


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_whatever_arrives_the_card_answers_and_loses_no_try(apdus: list[bytes]) -> None:
    card = CardSystem(IMAGE, VolatileMemory())
    sw(card, SELECT_EID)
    for apdu in apdus:
        assert len(card.process(apdu).to_bytes()) >= 2
        if apdu[1:4] != bytes.fromhex("200081"):
            assert card.state.pin1_tries == 3
