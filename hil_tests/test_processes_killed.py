"""Processes die at the worst moments; no fact is lost, none is there twice, and nobody has to restart anything."""

from __future__ import annotations

import asyncio

import pytest

from hil_tests.bench import Bench
from wire.failures import Failure

pytestmark = [pytest.mark.bench, pytest.mark.fault, pytest.mark.asyncio(loop_scope="session")]


async def test_pcscd_killed_in_the_middle_of_a_visit_costs_a_new_insertion_and_no_restart(bench: Bench) -> None:
    visit = await bench.begin_visit()
    await bench.stack.card(do="mute_at", apdu=6)
    await bench.insert_card()
    await bench.until_active(visit)
    await bench.stack.pcscd.kill()
    await bench.stack.card(do="pull")
    await bench.stack.pcscd.restart()
    await bench.until_unblocked()
    await bench.insert_card()
    end = await bench.visit_end(visit)
    assert end.state == "done", end


async def test_while_the_card_service_is_down_no_visit_starts_and_the_reason_is_named(bench: Bench) -> None:
    await bench.stack.pcscd.kill()
    await bench.until_blocked("card_service_down")
    await bench.stack.pcscd.restart()
    await bench.until_ready()


async def test_an_agent_killed_between_commit_and_send_sends_after_its_restart_exactly_once(bench: Bench) -> None:
    before = len(await bench.ended_visits())
    await bench.stack.kill("broker")
    end = await bench.whole_visit()
    assert end.state == "done"
    await bench.stack.kill("agent")
    assert len(await bench.ended_visits()) == before
    await bench.stack.launch("broker")
    await bench.stack.launch("agent")
    await bench.until_stored_visits(before + 1)
    again = await bench.visit_end(end.id, wait_s=0)
    assert again.body["assertion"] == end.body["assertion"], "the office can still fetch its evidence"
    await asyncio.sleep(3)
    assert len(await bench.ended_visits()) == before + 1


async def test_a_broker_that_is_down_for_a_whole_visit_delays_the_fact_and_nothing_else(bench: Bench) -> None:
    before = len(await bench.ended_visits())
    await bench.stack.kill("broker")
    assert (await bench.whole_visit()).state == "done"
    assert (await bench.whole_visit()).state == "done"
    await bench.stack.launch("broker")
    await bench.until_stored_visits(before + 2)


async def test_an_ingest_that_dies_again_and_again_stores_every_fact_once(bench: Bench) -> None:
    before = len(await bench.ended_visits())
    for _ in range(4):
        await bench.stack.kill("ingest")
        assert (await bench.whole_visit()).state == "done"
        await bench.stack.launch("ingest")
    await bench.until_stored_visits(before + 4)
    facts = await bench.facts()
    assert len({(fact.journal, fact.seq) for fact in facts}) == len(facts)


async def test_an_agent_killed_in_the_middle_of_a_visit_says_so_when_it_is_back(bench: Bench) -> None:
    before = len(await bench.ended_visits())
    visit = await bench.begin_visit()
    await bench.stack.kill("agent")
    await bench.stack.launch("agent")
    await bench.until_ready()
    end = await bench.visit_end(visit, wait_s=0)
    assert (end.state, end.failure) == ("failed", "visit_interrupted")
    await bench.until_stored_visits(before + 1)
    assert (await bench.ended_visits())[-1].outcome is Failure.VISIT_INTERRUPTED


async def test_a_registry_that_is_away_ends_the_visit_with_a_code_and_no_assertion(bench: Bench) -> None:
    await bench.stack.kill("registry")
    end = await bench.whole_visit()
    assert (end.state, end.failure) == ("failed", "registry_unreachable")
    assert end.body["assertion"] is None
    assert end.body["tracking_code"], "the exchange gives a code for what it could not forward"
    await bench.stack.launch("registry")
    assert (await bench.whole_visit()).state == "done"
