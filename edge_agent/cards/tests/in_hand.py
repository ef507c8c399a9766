"""Simulated cards in hand: the real card system behind a `Transmit`, without transport, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from edge_agent.cards.apdu import Transmit
from edge_agent.cards.channel import PlainChannel
from edge_agent.cards.errors import CardGoneError
from edge_agent.cards.national import NationalCard
from edge_agent.cards.profile import SPINE_0
from tools.simulators.card.memory import VolatileMemory
from tools.simulators.card.system import CardSystem
from tools.simulators.issuer import CardImage

AT = 1_800_000_000
"""15 January 2027: within every certificate and every card that is not meant to have expired."""
CHALLENGE = bytes(range(32))

Spoil = Callable[[int, bytes], bytes]
"""(number of the exchange from 1, the card's answer) to what arrives."""


def powered(image: CardImage) -> CardSystem:
    """The chip of `image`, fresh."""
    return CardSystem(image, VolatileMemory())


def contact(system: CardSystem, spoil: Spoil | None = None) -> Transmit:
    """The way to `system`."""
    count = 0

    async def transmit(apdu: bytes) -> bytes:
        nonlocal count
        count += 1
        answer = system.process(apdu).to_bytes()
        return answer if spoil is None else spoil(count, answer)

    return transmit


def scripted(answers: Iterable[bytes]) -> tuple[Transmit, list[bytes]]:
    """A card that gives these answers whatever it is asked, and the commands that it got."""
    waiting, asked = iter(answers), []

    async def transmit(apdu: bytes) -> bytes:
        asked.append(apdu)
        return next(waiting)

    return transmit, asked


def gone_at(number: int) -> Spoil:
    """The card is pulled while exchange `number` is under way."""

    def spoil(count: int, answer: bytes) -> bytes:
        if count >= number:
            raise CardGoneError("pulled")
        return answer

    return spoil


def opened(transmit: Transmit) -> Awaitable[NationalCard]:
    """A session over `transmit`."""
    return NationalCard.open(PlainChannel(transmit), SPINE_0)
