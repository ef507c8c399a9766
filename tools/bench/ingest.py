"""CPU microseconds of the ingest per committed message, beside mosquitto_sub's per delivered one.

Both drain the same backlog from the same Mosquitto over mutual TLS: the reader is stopped (SIGSTOP), the backlog is
published, the reader goes on. So the publisher's speed does not matter, and both read as fast as they can.
Run: ``python -m tools.bench.ingest [MESSAGES] [REPEATS]``. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleet_server import db, queries
from fleet_server.tests.real_fleet import RealFleet, TestTerminal, cpu_us, until
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Fact, FactKind

_TERMINALS = 20
_PATIENCE_S = 300.0


def _bodies(journal: bytes, count: int) -> list[bytes]:
    return [
        fields.encode(
            Fact(
                journal=journal, seq=seq, kind=FactKind.VISIT_ENDED, at_ms=1_790_000_000_000 + seq,
                service="bench-service", loa=2, outcome=Failure.NONE, took_ms=2500,
            )
        )
        for seq in range(1, count + 1)
    ]  # fmt: skip


def _publish(terminals: list[TestTerminal], journal: bytes, per_terminal: int) -> None:
    """Everything, and wait until the broker has it."""
    last = []
    bodies = _bodies(journal, per_terminal)
    for terminal in terminals:
        topic = topics.up(terminal.serial, topics.Up.FACT)
        for body in bodies:
            info = terminal.publish(topic, body)
        last.append(info)
    for info in last:
        info.wait_for_publish(_PATIENCE_S)


def _ingest(fleet: RealFleet, terminals: list[TestTerminal], run: int, per_terminal: int) -> tuple[float, int]:
    """CPU microseconds per message of the ingest, and its resident memory in KiB afterwards."""
    fleet.start("ingest")
    pid = fleet.pid("ingest")
    journal = run.to_bytes(16)
    engine = db.open_engine(fleet.config.database)

    def all_stored() -> bool:
        with db.reading(engine) as connection:
            for terminal in terminals:
                rows = {row.journal: row.stored_through for row in queries.journals(connection, terminal.serial)}
                if rows.get(journal.hex()) != per_terminal:
                    return False
        return True

    os.kill(pid, signal.SIGSTOP)
    _publish(terminals, journal, per_terminal)
    before = cpu_us(pid)
    os.kill(pid, signal.SIGCONT)
    until(all_stored, timeout_s=_PATIENCE_S)
    # the acknowledgements of the last batch belong to the work
    time.sleep(0.2)
    spent = cpu_us(pid) - before
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    rss_kib = int(status.partition("VmRSS:")[2].split()[0])
    fleet.stop("ingest")
    engine.dispose()
    return spent / (per_terminal * len(terminals)), rss_kib


def _mosquitto_sub(fleet: RealFleet, terminals: list[TestTerminal], run: int, per_terminal: int) -> float:
    """CPU microseconds per message of Debian's C client, writing the payloads to /dev/null."""
    layout = fleet.config.layout
    count = per_terminal * len(terminals)
    command = [
        "mosquitto_sub", "-V", "mqttv5", "-h", "localhost", "-p", str(fleet.config.broker.port), "-q", "1",
        "-t", topics.UP_FILTER, "-C", str(count), "--cafile", str(layout.ca_certificate),
        "--cert", str(layout.certificate("ingest")), "--key", str(layout.key("ingest")),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(1)
        os.kill(process.pid, signal.SIGSTOP)
        _publish(terminals, run.to_bytes(16), per_terminal)
        before = cpu_us(process.pid)
        os.kill(process.pid, signal.SIGCONT)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return ((usage.ru_utime + usage.ru_stime) * 1e6 - before) / count


def main() -> None:
    """Measure and print."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    per_terminal = messages // _TERMINALS
    with tempfile.TemporaryDirectory(prefix="govah-bench-") as scratch:
        fleet = RealFleet(Path(scratch) / "fleet")
        try:
            fleet.start("broker")
            fleet.start("est")
            terminals = [TestTerminal(fleet, fleet.enrol(f"bench-{number}")) for number in range(_TERMINALS)]
            rows = []
            for run in range(repeats):
                ours, rss_kib = _ingest(fleet, terminals, 2 * run + 1, per_terminal)
                floor = _mosquitto_sub(fleet, terminals, 2 * run + 2, per_terminal)
                rows.append({"ingest_us": round(ours, 1), "mosquitto_sub_us": round(floor, 1), "rss_kib": rss_kib})
            for terminal in terminals:
                terminal.close()
        finally:
            fleet.stop_all()
    ours, floor = (statistics.median(row[name] for row in rows) for name in ("ingest_us", "mosquitto_sub_us"))
    print(
        json.dumps(
            {
                "messages": per_terminal * _TERMINALS,
                "ingest_us": ours,
                "mosquitto_sub_us": floor,
                "ratio": round(ours / floor, 2),
                "load_average": os.getloadavg()[0],
                "runs": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
