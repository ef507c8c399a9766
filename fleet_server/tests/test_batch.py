from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.broker.door import Delivery, Token
from fleet_server.ingest import batch
from fleet_server.ingest.batch import TOPIC_MAX_CHARS, read
from fleet_server.tests.conftest import NOW_MS
from wire import cbor, fields, topics
from wire.messages import Fact
from wire.topics import Up


@pytest.mark.parametrize("length", [10, 150, 30_000])
def test_topics_that_are_not_ours_are_refused_and_leave_nothing_in_memory(length: int) -> None:
    before = batch._parsed.cache_info().currsize
    foreign = [Delivery(f"fl/v1/t-1/up/{number:0{length}}", b"", NOW_MS, Token(1)) for number in range(20)]
    assert [reject.kind for reject in read(foreign).rejects] == ["topic"] * 20
    assert batch._parsed.cache_info().currsize == before


KNOWN = st.fixed_dictionaries(
    {1: st.just(b"j" * 16), 2: st.integers(1, 2**40), 3: st.sampled_from([1, 2]), 4: st.integers(0, 2**53)},
    optional={5: st.text("abc", min_size=1), 6: st.integers(0, 4), 8: st.integers(0, 2**53), 9: st.just("1.0")},
)
MORE = st.dictionaries(st.integers(10, 99) | st.text(max_size=3), st.integers(-9, 9) | st.none(), max_size=30)


@given(KNOWN, MORE)
def test_whatever_else_a_fact_says_its_body_is_what_we_would_have_said(known: dict[int, Any], more: Any) -> None:
    payload = cbor.encode(known | more)
    found = read([Delivery("fl/v1/t-1/up/fact", payload, NOW_MS, Token(1))])
    (row,) = found.facts
    assert row.body == cbor.encode(known) == fields.encode(fields.decode(payload, Fact))
    assert row.body_hash == hashlib.sha256(payload).digest()
    assert bool(found.more_said) == bool(more)


def test_the_longest_topic_of_ours_is_read() -> None:
    for kind in Up:
        topic = topics.up("t" * 40, kind)
        assert len(topic) <= TOPIC_MAX_CHARS
        assert read([Delivery(topic, b"", NOW_MS, Token(1))]).rejects[0].kind == f"bad_{kind}"
