"""The card is pulled at every APDU of a visit, one after the other."""

from __future__ import annotations

import pytest

from hil_tests.bench import Bench
from wire.failures import SENTENCES, Failure

pytestmark = [pytest.mark.bench, pytest.mark.fault, pytest.mark.asyncio(loop_scope="session")]

MAX_APDUS = 60


@pytest.mark.timeout(300)
@pytest.mark.requirement("A1")
async def test_a_card_pulled_at_any_apdu_can_be_put_back_and_the_visit_ends_once(bench: Bench) -> None:
    """Each visit loses its card at one APDU further on, gets it back, and must end with exactly one fact."""
    before = len(await bench.ended_visits())
    apdu = 0
    while True:
        apdu += 1
        assert apdu < MAX_APDUS, "a visit never came to its end without a pull"
        visit = await bench.begin_visit()
        await bench.pull_card_at(apdu)
        await bench.insert_card()
        end = await bench.visit_end_or_waiting_again(visit)
        if end is None:
            await bench.insert_card()
            end = await bench.visit_end(visit)
            pulled = True
        else:
            pulled = False
        assert (end.state, end.failure) == ("done", "none"), f"pulled at {apdu}: {end}"
        assert end.body["assertion"]
        assert end.body["tracking_code"]
        await bench.pull_card()
        if not pulled:
            break
    assert apdu > 10
    await bench.until_stored_visits(before + apdu)
    ended = (await bench.ended_visits())[before:]
    assert [fact.outcome for fact in ended] == [Failure.NONE] * apdu
    assert len({(fact.journal, fact.seq) for fact in ended}) == apdu


async def test_no_sentence_that_a_removed_card_can_cause_speaks_of_a_pin() -> None:
    for failure in (Failure.CARD_GONE, Failure.CARD_MUTE, Failure.CARD_READ_ERROR, Failure.VISIT_TIMED_OUT):
        sentence = SENTENCES[failure]
        assert "PIN" not in sentence.en
        assert "پین" not in sentence.fa
        assert "رمز" not in sentence.fa


async def test_a_card_that_stays_away_ends_the_visit_as_gone_without_an_assertion(bench: Bench) -> None:
    visit = await bench.begin_visit()
    for _ in range(3):
        await bench.pull_card_at(5)
        await bench.insert_card()
        await bench.visit_end_or_waiting_again(visit)
    end = await bench.visit_end(visit)
    assert (end.state, end.failure) == ("failed", "card_gone")
    assert end.body["assertion"] is None
