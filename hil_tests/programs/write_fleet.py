"""Commits facts and commands on the fleet server's database through its real code; says what was promised.

``python -m hil_tests.programs.write_fleet DIRECTORY``: the database is there and migrated, terminal `t-1` is listed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from fleet_server import db, queries
from fleet_server.broker.door import Delivery, Token
from fleet_server.ingest.store import Store
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Fact, FactKind

JOURNAL = b"j" * 16
BATCHES = 5
NOW_MS = 1_000_000


def promise(**said: object) -> None:
    """One line, in one write, past every buffer."""
    os.write(1, json.dumps(said).encode() + b"\n")


def main(directory: Path) -> None:
    """Batches as the ingest commits them, and a command for the outbox after each."""
    engine = db.open_engine(f"sqlite:///{directory / 'fleet.db'}")
    store = Store(engine, new_id=os.urandom)
    store.load()
    seq = 0
    for number in range(BATCHES):
        batch = [delivery(seq + more) for more in (1, 2, 3)]
        seq += 3
        store.commit(batch, NOW_MS + number)
        promise(stored=store.stored_through(("t-1", JOURNAL)))
        with db.writing(engine) as connection:
            command = queries.request_health(connection, "t-1", command_id=bytes([number]) * 16, now_ms=NOW_MS + number)
        promise(command=command)
    engine.dispose()


def delivery(seq: int) -> Delivery:
    fact = Fact(journal=JOURNAL, seq=seq, kind=FactKind.VISIT_ENDED, at_ms=5, service="s", loa=2, outcome=Failure.NONE)
    return Delivery(topics.up("t-1", topics.Up.FACT), fields.encode(fact), NOW_MS, Token(1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
