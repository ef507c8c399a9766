"""Channels: each sends a command one way and gives back a whole answer. They stack; the session sees only the top one.

`PlainChannel` is the bottom: it knows the transport's habits (61xx, 6Cxx). Secure messaging is another `Channel` that
wraps what it is given, hands it to the channel below and unwraps the answer; the session above does not change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from edge_agent.cards.apdu import SHORT_LE, Command, Response, Trace, Transmit, describe
from edge_agent.cards.errors import CardDataError

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_ROUNDS: Final = 300
"""GET RESPONSE rounds for one command: 64 KiB in pieces of 256 bytes, and some."""

_INS_GET_RESPONSE: Final = 0xC0


class Channel(Protocol):
    """One way to reach the card."""

    async def send(self, command: Command) -> Response:
        """Send `command`, return the whole answer whatever its status word.

        Raises:
            CardGoneError: the card left.
            CardDataError: the answer breaks the protocol or a limit.
        """
        ...  # pragma: no cover


class PlainChannel:
    """Commands in the clear over a `Transmit`, with the two habits of ISO/IEC 7816-4 clause 5.1.3 taken care of.

    61xx: more is waiting, fetched with GET RESPONSE. 6Cxx: wrong Le, the same command is sent once more with the right
    one. A card that never comes to an end is cut off after `MAX_ROUNDS` or `max_answer_bytes`.
    """

    def __init__(self, transmit: Transmit, trace: Trace | None = None, *, max_answer_bytes: int = MAX_ANSWER_BYTES):
        self._transmit = transmit
        self._trace = trace
        self._max_answer_bytes = max_answer_bytes

    async def send(self, command: Command) -> Response:
        """As `Channel.send`."""
        response = await self._send_with_right_le(command)
        collected = response.data
        rounds = 0
        while response.sw >> 8 == 0x61:
            rounds += 1
            if rounds > MAX_ROUNDS:
                raise CardDataError("the card promises more data without end")
            follow_up = Command(command.cla & 0x03, _INS_GET_RESPONSE, 0, 0, le=response.sw & 0xFF or SHORT_LE)
            response = await self._send_with_right_le(follow_up)
            if response.sw >> 8 == 0x61 and not response.data:
                raise CardDataError("the card promises more data and gives none")
            collected += response.data
            if len(collected) > self._max_answer_bytes:
                raise CardDataError("an answer is longer than the limit")
        if len(collected) > self._max_answer_bytes:
            raise CardDataError("an answer is longer than the limit")
        return Response(collected, response.sw)

    async def _send_with_right_le(self, command: Command) -> Response:
        response = await self._exchange(command)
        if response.sw >> 8 != 0x6C:
            return response
        # 6C00 means 256 (ISO/IEC 7816-4 table 5); a card that corrects its own correction is refused
        response = await self._exchange(replace(command, le=response.sw & 0xFF or SHORT_LE))
        if response.sw >> 8 == 0x6C:
            raise CardDataError("the card does not accept the length that it asked for")
        return response

    async def _exchange(self, command: Command) -> Response:
        response = Response.parse(await self._transmit(command.to_bytes()))
        if self._trace is not None:
            self._trace(describe(command, response))
        return response
