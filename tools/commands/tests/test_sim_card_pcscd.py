"""The simulated card under Debian's own pcscd, asked by programs that are not ours."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.cards import verdict
from edge_agent.cards.trust import TrustList
from edge_agent.cards.verdict import CardVerdict
from tools.commands.tests.test_sim_card import order, running
from tools.demo.stack import VPCD_LIBRARY
from tools.pcscd import READER_NAME, PrivatePcscd
from tools.simulators import issuer

pytestmark = [pytest.mark.bench]

AT = 1_800_000_000
CHALLENGE = bytes(range(32))
SELECT_EID = "00A4040C0CA000000063504B43532D3135"
ATR = re.sub("(..)(?=.)", r"\1:", issuer.personalise(7).atr.hex())
POLLS = 200
POLL_S = 0.05


class CardInReader:
    """A simulated card, and pcscd with the reader that it is for."""

    def __init__(self, pcscd: PrivatePcscd, control: str) -> None:
        self.pcscd = pcscd
        self.control = control

    async def opensc_tool(self, *options: str) -> str:
        """What opensc-tool says, whatever its exit status."""
        environment = os.environ | {"PCSCLITE_CSOCK_NAME": self.pcscd.socket}
        process = await asyncio.create_subprocess_exec(
            "opensc-tool", *options, stdout=PIPE, stderr=STDOUT, env=environment
        )
        said, _ = await process.communicate()
        return said.decode(errors="replace")

    async def until_listed(self, *, present: bool) -> None:
        """Wait until OpenSC lists the reader with, or without, its card."""
        wanted = re.compile(rf"{'Yes' if present else 'No'}\s+{READER_NAME} 00 00")
        for _ in range(POLLS):
            if wanted.search(await self.opensc_tool("-l")):
                return
            await asyncio.sleep(POLL_S)
        pytest.fail(f"the card was never listed as {'present' if present else 'absent'}")

    async def say(self, *apdus: str) -> str:
        """What OpenSC prints when it sends these."""
        options = [option for apdu in apdus for option in ("-s", apdu)]
        return await self.opensc_tool("-r", f"{READER_NAME} 00 00", "-c", "default", *options)


@pytest.fixture
async def card(tmp_path: Path) -> AsyncIterator[CardInReader]:
    async with PrivatePcscd.start(tmp_path / "pcscd", VPCD_LIBRARY) as pcscd:
        options = ("--port", str(pcscd.port), "--number", "7", "--state", str(tmp_path / "card"), "--fast")
        async with running(*options, enter=pcscd.enter) as (_, ready):
            card = CardInReader(pcscd, ready["control"])
            await card.until_listed(present=True)
            yield card


def answer_to_last(said: str) -> bytes:
    """The data of the last answer in opensc-tool's dump."""
    dump = said.rsplit("SW2=0x00):", 1)[1]
    return bytes.fromhex("".join(line[:48] for line in dump.strip().splitlines()))


async def test_opensc_gets_atr_files_and_a_verdict_that_verifies(card: CardInReader) -> None:
    assert ATR in await card.opensc_tool("-r", f"{READER_NAME} 00 00", "-a")
    said = await card.say("00A4040C07A0000002471001", "00B0810000")
    assert answer_to_last(said) == issuer.personalise(7).groups[1]
    said = await card.say(SELECT_EID, "0088000320" + CHALLENGE.hex() + "00")
    status = verdict.check(
        CardVerdict.parse(answer_to_last(said)),
        CHALLENGE,
        issuer.personalise(7).card_certificate,
        TrustList.from_pem(issuer.trust_list_pem()),
        AT,
        expected_document=issuer.Citizen.from_seed(7).document_number,
    )
    assert status.verdict_counter == 1


async def test_the_pin_counter_is_the_cards_and_is_asked_without_spending_a_try(card: CardInReader) -> None:
    for _ in range(3):
        assert "SW1=0x63, SW2=0xC3" in await card.say(SELECT_EID, "00200081")


@pytest.mark.fault
async def test_a_card_pulled_within_an_exchange_fails_it_and_can_come_back(card: CardInReader) -> None:
    await order(card.control, do="pull")
    await card.until_listed(present=False)
    await order(card.control, do="pull_at", apdu=2)
    await order(card.control, do="insert")
    await card.until_listed(present=True)
    assert "ransmit failed" in await card.say(SELECT_EID, "00200081")
    await card.until_listed(present=False)
    assert (await order(card.control, do="insert"))["pin1_tries"] == 3
    await card.until_listed(present=True)
    assert "SW1=0x63, SW2=0xC3" in await card.say(SELECT_EID, "00200081")


@pytest.mark.fault
async def test_the_card_comes_back_by_itself_when_pcscd_was_killed(card: CardInReader) -> None:
    for _ in range(2):
        await card.pcscd.restart()
        await card.until_listed(present=True)
        assert "SW1=0x63, SW2=0xC3" in await card.say(SELECT_EID, "00200081")
    status = await order(card.control, do="status")
    assert (status["inserted"], status["connected"]) == (True, True)
