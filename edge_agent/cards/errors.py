"""What can go wrong with a card, by what the catcher does."""

from __future__ import annotations

from wire.failures import Failure


class CardError(Exception):
    """Base: the visit ends and the person is told `failure`. Never retried by machine, never called a wrong PIN."""

    failure: Failure = Failure.CARD_READ_ERROR


class CardGoneError(CardError):
    """The card left the reader, or reader or card service left with it. Any answer in flight is unknown."""

    failure = Failure.CARD_GONE


class CardMuteError(CardError):
    """There is something in the reader, and it does not answer: no card, or the wrong way round."""

    failure = Failure.CARD_MUTE


class CardInUseError(CardError):
    """Another program holds the card, or the reader refuses to open it."""

    failure = Failure.CARD_IN_USE


class CardRefusedError(CardError):
    """The card answered with a status word that ends the visit."""

    def __init__(self, sw: int, during: str) -> None:
        super().__init__(f"{during}: {sw:04X}")
        self.sw = sw
        self.during = during


class CardUnsupportedError(CardError):
    """No profile fits this card."""

    failure = Failure.CARD_UNSUPPORTED


class CardDataError(CardError):
    """Bytes from the card are not what the standard says: length, structure, depth. Carries no data."""


class CardNotAuthenticError(CardError):
    """Passive authentication failed; `check` names which check."""

    failure = Failure.CARD_DATA_NOT_AUTHENTIC

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


class CardNotGenuineError(CardError):
    """The chip did not prove that it holds the key that its certificate names."""

    failure = Failure.CARD_NOT_GENUINE


class CardExpiredError(CardError):
    """The date on the card has passed."""

    failure = Failure.CARD_EXPIRED


class TrustListRefusedError(Exception):
    """The trust list of card issuers cannot be used: no visit starts until there is one."""

    failure: Failure = Failure.TRUST_LIST_MISSING
