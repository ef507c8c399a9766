"""What the registry asks of its own card office: whose card is this, and what do these proofs prove?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from wire.loa import Evidence


@dataclass(frozen=True, slots=True, repr=False)
class Citizen:
    """Who holds a card, by the register. Without a repr: it is personal data."""

    document_number: str
    national_number: str
    card_expires: date


@dataclass(frozen=True, slots=True, repr=False)
class Proofs:
    """What the terminal brought, and the challenge that the registry recomputed for itself."""

    card_certificate: bytes
    security_object: bytes
    group_hashes: dict[int, bytes]
    challenge: bytes
    verdict_status: bytes
    verdict_signature: bytes


class CardOffice(Protocol):
    """Knows every card that was issued. `at_s` is the registry's time in Unix seconds."""

    def citizen(self, card_certificate: bytes, *, at_s: int) -> Citizen | None:
        """Whose card the certificate of key 03 names; None for a card that the register does not hold.

        Raises:
            CardError: not a certificate of the card issuer, or not valid now.
        """

    def prove(self, citizen: Citizen, proofs: Proofs, *, at_s: int) -> Evidence:
        """The bits that the proofs prove for the card of `citizen`. What the card or the host only says adds none.

        Raises:
            CardError: a proof does not hold, or is of another card.
        """
