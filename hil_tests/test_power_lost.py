"""The power goes at every moment of what journal and outbox really wrote: nothing that was promised is missing.

`kill -9` cannot show this, because the kernel still writes what the process had handed over. The recording is made with
the real code; each state of the disk is opened with the real code again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_agent.journal import Journal, JournalLimits
from fleet_server import db, queries
from tools.demo.stack import ROOT
from tools.powerloss import Crash, Recording, record, replay
from wire.fields import encode

pytestmark = [pytest.mark.bench, pytest.mark.fault]

SEED = 4711


def recorded(program: str, directory: Path, log: Path) -> Recording:
    command = [sys.executable, "-m", f"hil_tests.programs.{program}", str(directory)]
    return record(command, directory, log, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})


def promises(crash: Crash) -> list[dict[str, Any]]:
    return [json.loads(line) for line in crash.announced.splitlines() if line.startswith(b"{")]


@pytest.mark.timeout(240)
def test_the_journal_keeps_every_promise_whenever_the_power_goes(tmp_path: Path) -> None:
    directory = tmp_path / "terminal"
    directory.mkdir()
    recording = recorded("write_journal", directory, tmp_path / "strace.log")
    crashes = replay(recording, tmp_path / "crashes", journal_keeps_its_promises, seed=SEED, draws=2)
    assert crashes > 200


def journal_keeps_its_promises(crash: Crash) -> None:
    asyncio.run(_journal_keeps_its_promises(crash))


async def _journal_keeps_its_promises(crash: Crash) -> None:
    said = promises(crash)
    async with Journal(crash.directory / "journal.db", JournalLimits()) as journal:
        figures = await journal.figures()
        bodies = {}
        for promise in said:
            if "journal" in promise:
                assert journal.id.hex() == promise["journal"]
            if "seq" in promise:
                bodies[promise["seq"]] = promise["body"]
            if "opened" in promise:
                assert await journal.visit(promise["opened"]) is not None
            if "ended" in promise:
                ended = await journal.visit(promise["ended"])
                assert ended is not None
                assert (ended.ended_seq, ended.result) == (promise["seq"], b"result" * 50)
        assert figures.last_seq >= len(bodies)
        assert figures.kept == figures.last_seq, "no gap and none twice"
        unsent = {seq: body.hex() for seq, body in await journal.unsent(0, 100)}
        for seq, body in bodies.items():
            assert unsent.get(seq, body) == body
        sessions = [promise["session"] for promise in said if "session" in promise]
        assert await journal.next_session() > max(sessions, default=0), "a session number is never given twice"


@pytest.mark.timeout(240)
def test_the_server_keeps_every_fact_that_it_marked_and_every_command_that_it_took(tmp_path: Path) -> None:
    directory = tmp_path / "fleet"
    directory.mkdir()
    engine = db.open_engine(f"sqlite:///{directory / 'fleet.db'}")
    db.migrate(engine)
    with db.writing(engine) as connection:
        db.insert_ignoring(connection, db.terminals, [{"serial": "t-1", "added_ms": 1}])
    engine.dispose()
    recording = recorded("write_fleet", directory, tmp_path / "strace.log")
    crashes = replay(recording, tmp_path / "crashes", fleet_keeps_its_promises, seed=SEED, draws=2)
    assert crashes > 100


def fleet_keeps_its_promises(crash: Crash) -> None:
    said = promises(crash)
    engine = db.open_engine(f"sqlite:///{crash.directory / 'fleet.db'}")
    try:
        with closing(engine.connect()) as connection:
            stored = {fact.fact.seq: encode(fact.fact) for fact in queries.facts(connection, "t-1", limit=100)}
            marks = [journal.stored_through for journal in queries.journals(connection, "t-1")]
            commands = {row.id for row in queries.commands(connection, "t-1")}
    finally:
        engine.dispose()
    promised = max((promise["stored"] for promise in said if "stored" in promise), default=0)
    assert max(marks, default=0) >= promised
    assert sorted(stored) == list(range(1, len(stored) + 1)), "no gap and none twice"
    assert len(stored) >= promised
    assert max(marks, default=0) == len(stored), "the mark never says more than is stored"
    assert {promise["command"] for promise in said if "command" in promise} <= commands
