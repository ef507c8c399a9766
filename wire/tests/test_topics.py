from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import topics

IDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)

HOSTILE = [
    *("", "+", "#", "/", "a/b", "a+", "#a", "../a", "a\x00", "\x00", "a b", " a", "a ", "a\n", "\na", "$SYS", "%u"),
    *("A", "aB", "TERMINAL-1", "a.b", "a_b", "a:b", "a@b", "a%2fb", "-", "-a", "a-", "a" * 41, "a" * 10_000),
    *("ترمینال", "۱۲", "٣", "é", "ａ", "а", "a\u200c", "\u202ea", "ⅳ", "ſ"),  # look-alikes on purpose
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_id_never_becomes_a_topic_level(text: str) -> None:
    with pytest.raises(topics.TopicRefusedError):
        topics.terminal_id(text)
    with pytest.raises(topics.TopicRefusedError):
        topics.up(text, topics.Up.FACT)
    with pytest.raises(topics.TopicRefusedError):
        topics.down(text, topics.Down.MARK)
    with pytest.raises(topics.TopicRefusedError):
        topics.down_filter(text)
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_up(f"fl/v1/{text}/up/fact")
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_down(f"fl/v1/{text}/dn/mark")


@given(IDS, st.sampled_from(list(topics.Up)))
def test_who_tells_what_is_read_from_the_topic_as_it_was_put_in(terminal: str, kind: topics.Up) -> None:
    topic = topics.up(terminal, kind)
    assert topics.parse_up(topic) == topics.UpTopic(terminal, kind)
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_down(topic)


@given(IDS, st.sampled_from(list(topics.Down)))
def test_who_is_told_what_is_read_from_the_topic_as_it_was_put_in(terminal: str, kind: topics.Down) -> None:
    topic = topics.down(terminal, kind)
    assert topics.parse_down(topic) == topics.DownTopic(terminal, kind)
    assert topic.startswith(topics.down_filter(terminal).removesuffix("#"))
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_up(topic)


@given(st.text(max_size=40))
def test_no_text_but_an_id_names_a_terminal(text: str) -> None:
    try:
        named = topics.terminal_id(text)
    except topics.TopicRefusedError:
        return
    assert named == text
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    "topic",
    [
        *("", "/", "fl", "fl/v1", "fl/v1/t1", "fl/v1/t1/up", "fl/v1/t1/up/", "/fl/v1/t1/up/fact", "fl/v1/t1/up/fact/"),
        *("fl/v2/t1/up/fact", "fl/v1/t1/up/FACT", "fl/v1/t1/up/facts", "fl/v1/t1/up/mark", "fl/v1/t1/dn/fact"),
        *("fl/v1/t1/up/fact/x", "fl/v1//up/fact", "FL/v1/t1/up/fact", "fl/v1/t1/up/#", "fl/v1/t1/up/+", "fl/v1/+/up/#"),
        *("$share/g/fl/v1/t1/up/fact", "fl/v1/t1/up/fact\n", "fl/v1/t1/up/fact\x00", "fl/v1/" + "a" * 70_000),
    ],
)
def test_a_topic_of_another_shape_is_refused(topic: str) -> None:
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_up(topic)
    with pytest.raises(topics.TopicRefusedError):
        topics.parse_down(topic)


@given(st.text(max_size=60), st.lists(st.sampled_from(["fl", "v1", "t1", "up", "dn", "fact", "mark", "+", "#", ""])))
def test_no_text_makes_parsing_raise_anything_else(text: str, levels: list[str]) -> None:
    for topic in (text, "/".join(levels), "/".join([*levels, text])):
        for parse in (topics.parse_up, topics.parse_down):
            try:
                parse(topic)
            except topics.TopicRefusedError:
                continue


def test_every_topic_keeps_to_what_any_broker_carries() -> None:
    longest = "a" * 40
    built = [topics.up(longest, up) for up in topics.Up] + [topics.down(longest, down) for down in topics.Down]
    for topic in built:
        levels = topic.split("/")
        assert len(levels) == 5
        assert all(0 < len(level) <= 40 for level in levels)
        assert not set(topic) & set("+#$. \x00")
