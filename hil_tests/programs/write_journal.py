"""Writes a terminal's journal through its real door and says on standard output what was promised, line by line.

``python -m hil_tests.programs.write_journal DIRECTORY``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from edge_agent.journal import Journal, JournalLimits
from wire import fields
from wire.failures import Failure
from wire.messages import FactKind, Mark

VISITS = 5


def promise(**said: object) -> None:
    """One line, in one write, past every buffer."""
    os.write(1, json.dumps(said).encode() + b"\n")


async def main(directory: Path) -> None:
    """Visits as the counter writes them, with marks, a resync and pruning in between."""
    async with Journal(directory / "journal.db", JournalLimits()) as journal:
        promise(journal=journal.id.hex())
        started = await journal.append(FactKind.AGENT_STARTED, 1, agent="0.1.0")
        promise(seq=started.seq, body=fields.encode(started).hex())
        for number in range(VISITS):
            visit = f"visit-{number}"
            await journal.open_visit(visit, "audience", f"key-{number}", 10 + number, b"request")
            promise(opened=visit)
            fact = await journal.end_visit(visit, 20 + number, b"result" * 50, outcome=Failure.NONE, loa=2)
            promise(seq=fact.seq, body=fields.encode(fact).hex(), ended=visit)
            if number == 2:
                await journal.mark_sent(1, 25)
                await journal.apply_mark(mark(journal, 2), 30)
            promise(session=await journal.next_session())
        await journal.apply_mark(mark(journal, 1, resync=True), 40)


def mark(journal: Journal, stored: int, *, resync: bool = False) -> Mark:
    return Mark(journal=journal.id, stored=stored, server_ms=30, resync=resync)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
