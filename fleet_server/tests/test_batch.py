from __future__ import annotations

import pytest

from fleet_server.broker.door import Delivery, Token
from fleet_server.ingest import batch
from fleet_server.ingest.batch import TOPIC_MAX_CHARS, read
from fleet_server.tests.conftest import NOW_MS
from wire import topics
from wire.topics import Up


@pytest.mark.parametrize("length", [10, 150, 30_000])
def test_topics_that_are_not_ours_are_refused_and_leave_nothing_in_memory(length: int) -> None:
    before = batch._parsed.cache_info().currsize
    foreign = [Delivery(f"fl/v1/t-1/up/{number:0{length}}", b"", NOW_MS, Token(1)) for number in range(20)]
    assert [reject.kind for reject in read(foreign).rejects] == ["topic"] * 20
    assert batch._parsed.cache_info().currsize == before


def test_the_longest_topic_of_ours_is_read() -> None:
    for kind in Up:
        topic = topics.up("t" * 40, kind)
        assert len(topic) <= TOPIC_MAX_CHARS
        assert read([Delivery(topic, b"", NOW_MS, Token(1))]).rejects[0].kind == f"bad_{kind}"
