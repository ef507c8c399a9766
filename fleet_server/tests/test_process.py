from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet_server import db, installation
from fleet_server.broker.door import Delivery, Token
from fleet_server.errors import ConfigError
from fleet_server.ingest.process import Ingest, run, store_batches
from fleet_server.ingest.store import Committed, Store
from fleet_server.tests.conftest import NOW_MS, Ids
from fleet_server.tests.test_config import NOW, some_config
from fleet_server.tests.test_store import fact, stored_seqs


class PowerCutError(Exception):
    """The process ends here."""


class Source:
    """A broker that sends what is not acknowledged again, and notes the order of things."""

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        self.open = {Token(number): delivery for number, delivery in enumerate(deliveries, 1)}
        self.log: list[str] = []

    async def batch(self) -> list[Delivery]:
        if not self.open:
            raise PowerCutError
        return [Delivery(d.topic, d.payload, d.received_ms, token) for token, d in list(self.open.items())[:3]]

    def ack(self, tokens: Iterable[Token]) -> None:
        self.log.append("ack")
        for token in tokens:
            del self.open[token]


@pytest.mark.fault
@pytest.mark.parametrize("cut", range(10))
async def test_whatever_step_the_power_ends_at_nothing_is_acknowledged_that_is_not_stored(
    listed: sa.Engine, cut: int
) -> None:
    source = Source(fact(seq) for seq in range(1, 8))
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == cut:
            raise PowerCutError

    async def commit(deliveries: Sequence[Delivery]) -> list[Committed]:
        step()
        done = [store.commit(deliveries, NOW_MS)]
        source.log.append("commit")
        step()
        return done

    def stored(deliveries: Sequence[Delivery], done: Sequence[Committed], took_s: float) -> None:
        step()
        acknowledged = 7 - len(source.open)
        assert stored_seqs(listed)[:acknowledged] == list(range(1, acknowledged + 1))

    while source.open:
        store = Store(listed, new_id=Ids())
        store.load()
        with pytest.raises(PowerCutError):
            await store_batches(source, commit, stored)
    assert stored_seqs(listed) == list(range(1, 8))
    for before, after in zip(source.log, source.log[1:], strict=False):
        assert (before, after) != ("ack", "ack")


def test_a_second_ingest_on_the_same_data_is_refused(tmp_path: Path) -> None:
    config = some_config(tmp_path / "fleet")
    installation.create(config, now=NOW, chance=lambda count: b"\1" * count)
    with installation.only_ingest(config.layout), pytest.raises(ConfigError):
        run(config)


def test_an_ingest_without_its_certificate_says_so(tmp_path: Path) -> None:
    config = some_config(tmp_path / "fleet")
    installation.create(config, now=NOW, chance=lambda count: b"\1" * count)
    config.layout.certificate("ingest").unlink()
    engine = db.open_engine(config.database)
    with pytest.raises(OSError, match="No such file"):
        Ingest(config, engine)
    engine.dispose()
