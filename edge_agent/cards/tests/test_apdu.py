from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards.apdu import Command, Response, describe
from edge_agent.cards.errors import CardDataError
from tools.simulators.card import commands

BYTES = st.integers(0, 255)


@pytest.mark.parametrize(
    ("command", "encoded"),
    [
        (Command(0, 0xA4, 0, 0x0C), "00a4000c"),
        (Command(0, 0xB0, 0x9D, 0, le=256), "00b09d0000"),
        (Command(0, 0xB0, 0, 0, le=1), "00b0000001"),
        (Command(0, 0xA4, 4, 0x0C, b"\xa0\x00"), "00a4040c02a000"),
        (Command(0, 0x88, 0, 3, b"\x01", 256), "00880003010100"),
        (Command(0, 0xB0, 0, 0, le=257), "00b00000000101"),
        (Command(0, 0xB0, 0, 0, le=65536), "00b00000000000"),
        (Command(0, 0xD6, 0, 0, bytes(256), 2), "00d60000" + "000100" + "00" * 256 + "0002"),
    ],
)
def test_each_case_has_the_encoding_of_the_standard(command: Command, encoded: str) -> None:
    assert command.to_bytes().hex() == encoded


@given(st.builds(Command, BYTES, BYTES, BYTES, BYTES, st.binary(max_size=600), st.none() | st.integers(1, 65536)))
def test_what_a_terminal_encodes_a_card_decodes(command: Command) -> None:
    assert commands.parse(command.to_bytes()) == command


@pytest.mark.parametrize(("cla", "data", "le"), [(256, b"", None), (-1, b"", None), (0, b"", 0), (0, b"", 65537)])
def test_a_command_without_an_encoding_is_a_bug(cla: int, data: bytes, le: int | None) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Command(cla, 0, 0, 0, data, le)


@given(st.binary(max_size=4))
def test_an_answer_shorter_than_a_status_word_is_refused(answer: bytes) -> None:
    if len(answer) >= 2:
        assert Response.parse(answer) == Response(answer[:-2], int.from_bytes(answer[-2:]))
    else:
        with pytest.raises(CardDataError):
            Response.parse(answer)


def test_data_never_shows_in_a_repr_or_a_trace() -> None:
    command, response = Command(0, 0x20, 0, 0x81, b"SECRET12"), Response(b"PERSONAL", 0x9000)
    shown = f"{command} {response} {describe(command, response)}"
    assert "SECRET" not in shown
    assert "PERSONAL" not in shown
    assert describe(command, response) == ("00200081", 8, None, 0x9000, 8)
