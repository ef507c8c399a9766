"""The calls of PC/SC that we make, and what their results mean: the only file that imports `smartcard`."""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import Any, Final, NamedTuple

from smartcard import scard

from edge_agent.cards.errors import CardError, CardGoneError, CardMuteError, CardUnsupportedError
from edge_agent.errors import ReaderError

_PNP: Final = "\\\\?PnP?\\Notification"
_CHANGED: Final = 0x0002
_PRESENT: Final = 0x0020


INSTALLED: Final[Any] = scard
"""pyscard's raw calls, the default where a fake may stand."""


class Blame(Enum):
    """Whose event an hresult is; decides which error the caller gets."""

    CARD = "card"
    MUTE = "mute card"
    UNSUPPORTED = "unsupported card"
    READER = "reader"
    SERVICE = "card service"


HRESULTS: Final[dict[int, Blame]] = {
    0x8010000C: Blame.CARD,  # SCARD_E_NO_SMARTCARD
    0x80100010: Blame.CARD,  # SCARD_E_NOT_READY
    0x80100016: Blame.CARD,  # SCARD_E_NOT_TRANSACTED: torn out before pcscd's next look, or the reader is mute
    0x8010002F: Blame.CARD,  # SCARD_E_COMM_DATA_LOST
    0x80100068: Blame.CARD,  # SCARD_W_RESET_CARD: somebody else reset it; our session with it is over
    0x80100069: Blame.CARD,  # SCARD_W_REMOVED_CARD
    0x80100015: Blame.MUTE,  # SCARD_E_INVALID_ATR
    0x80100066: Blame.MUTE,  # SCARD_W_UNRESPONSIVE_CARD
    0x80100067: Blame.MUTE,  # SCARD_W_UNPOWERED_CARD
    0x8010000F: Blame.UNSUPPORTED,  # SCARD_E_PROTO_MISMATCH
    0x8010001C: Blame.UNSUPPORTED,  # SCARD_E_CARD_UNSUPPORTED
    0x80100065: Blame.UNSUPPORTED,  # SCARD_W_UNSUPPORTED_CARD
    0x80100009: Blame.READER,  # SCARD_E_UNKNOWN_READER
    0x8010000B: Blame.READER,  # SCARD_E_SHARING_VIOLATION: another program holds the card
    0x80100017: Blame.READER,  # SCARD_E_READER_UNAVAILABLE
    0x8010002E: Blame.READER,  # SCARD_E_NO_READERS_AVAILABLE
    0x80100001: Blame.SERVICE,  # SCARD_F_INTERNAL_ERROR
    0x80100003: Blame.SERVICE,  # SCARD_E_INVALID_HANDLE: what a handle is once pcscd has restarted
    0x80100013: Blame.SERVICE,  # SCARD_F_COMM_ERROR: between us and pcscd, not between reader and card
    0x8010001D: Blame.SERVICE,  # SCARD_E_NO_SERVICE
    0x8010001E: Blame.SERVICE,  # SCARD_E_SERVICE_STOPPED
}
"""PC/SC part 5 and pcsclite.h. What is not here is blamed on the service: we do not guess on the card's account."""

_OK: Final = 0x00000000
_CANCELLED: Final = 0x80100002
_INVALID_HANDLE: Final = 0x80100003
_UNKNOWN_READER: Final = 0x80100009
_TIMEOUT: Final = 0x8010000A
_NOT_TRANSACTED: Final = 0x80100016
_NO_READERS: Final = 0x8010002E


class ReaderNow(NamedTuple):
    """One reader as the daemon sees it. `state` is dwEventState without its CHANGED bit."""

    name: str
    state: int
    atr: bytes

    @property
    def has_card(self) -> bool:
        return bool(self.state & _PRESENT)

    @property
    def events(self) -> int:
        """pcscd's count of insertions and removals in this reader, modulo 2^16; starts again with the daemon."""
        return self.state >> 16


class RefusedError(Exception):
    """A call did not succeed. Never leaves this folder."""

    def __init__(self, hresult: int) -> None:
        super().__init__(f"{hresult:08X}")
        self.hresult = hresult
        self.blame = HRESULTS.get(hresult, Blame.SERVICE)


class Pcsc:
    """The calls of PC/SC that we make, with hresults as `RefusedError`. `scard` is `smartcard.scard` or its fake."""

    def __init__(self, scard: Any) -> None:
        self._scard = scard

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        try:
            answer = getattr(self._scard, name)(*arguments)
        except SystemError as exc:  # how pyscard says that a handle or context is not one
            raise RefusedError(_INVALID_HANDLE) from exc
        hresult, *rest = answer if isinstance(answer, (list, tuple)) else [answer]
        if hresult & 0xFFFF_FFFF != _OK:
            raise RefusedError(hresult & 0xFFFF_FFFF)
        return rest

    def establish(self) -> int:
        return int(self._call("SCardEstablishContext", self._scard.SCARD_SCOPE_SYSTEM)[0])

    def release(self, context: int) -> None:
        with contextlib.suppress(RefusedError):  # a context of a daemon that died is refused, and freed all the same
            self._call("SCardReleaseContext", context)

    def readers(self, context: int) -> list[str]:
        try:
            return [str(name) for name in self._call("SCardListReaders", context, [])[0]]
        except RefusedError as refused:
            if refused.hresult == _NO_READERS:
                return []
            raise

    def look(self, context: int, names: list[str]) -> list[ReaderNow]:
        """The states now: for a reader of which nothing is known the call returns at once."""
        if not names:
            return []
        unaware = [(name, self._scard.SCARD_STATE_UNAWARE) for name in names]
        (found,) = self._call("SCardGetStatusChange", context, 0, unaware)
        return [ReaderNow(str(name), int(state) & ~_CHANGED, bytes(atr)) for name, state, atr in found]

    def wait(self, context: int, known: list[ReaderNow], limit_ms: int) -> bool:
        """Until something may differ from `known` (true) or the limit passes (false)."""
        asked = [(name, state) for name, state, _ in known] + [(_PNP, self._scard.SCARD_STATE_UNAWARE)]
        try:
            self._call("SCardGetStatusChange", context, limit_ms, asked)
        except RefusedError as refused:
            if refused.hresult in {_CANCELLED, _UNKNOWN_READER}:
                return True
            if refused.hresult == _TIMEOUT:
                return False
            raise
        return True

    def cancel(self, context: int) -> None:
        with contextlib.suppress(RefusedError):  # there is nothing to cancel: the caller asks again until it is so
            self._call("SCardCancel", context)

    def connect(self, context: int, reader: str) -> tuple[int, int]:
        """(handle, protocol), exclusive."""
        protocols = self._scard.SCARD_PROTOCOL_T0 | self._scard.SCARD_PROTOCOL_T1
        handle, protocol = self._call("SCardConnect", context, reader, self._scard.SCARD_SHARE_EXCLUSIVE, protocols)
        return int(handle), int(protocol)

    def transmit(self, handle: int, protocol: int, command: bytes) -> bytes:
        t0 = protocol == self._scard.SCARD_PROTOCOL_T0
        pci = self._scard.SCARD_PCI_T0 if t0 else self._scard.SCARD_PCI_T1
        answer = bytes(self._call("SCardTransmit", handle, pci, list(t0_form(command) if t0 else command))[0])
        if not answer:  # what some drivers make of a card torn out during a command
            raise RefusedError(_NOT_TRANSACTED)
        return answer

    def disconnect(self, handle: int) -> None:
        """End the card's session by taking its power. A reset would leave it powered, and pcscd takes the power later:
        a card exchanged in that moment stays unnoticed (seen with vpcd in 13 of 40 exchanges, with this in none).
        """
        with contextlib.suppress(RefusedError):  # the card or the daemon is gone, and the handle with it
            self._call("SCardDisconnect", handle, self._scard.SCARD_UNPOWER_CARD)


def t0_form(command: bytes) -> bytes:
    """A short command APDU as T=0 carries it: case 4 without Le; the card then says 61xx and the caller fetches.

    ISO/IEC 7816-3 clause 12.2. Raises `CardUnsupportedError` for an extended length, which T=0 has only by ENVELOPE:
    drivers have been seen to answer such a command with 9000 and no data.
    """
    if len(command) > 5 and command[4] == 0:
        raise CardUnsupportedError("the card speaks T=0, which has no extended length")
    return command[:-1] if len(command) > 5 and len(command) == command[4] + 6 else command


def error_of(hresult: int, during: str) -> CardError | ReaderError:
    """What a caller gets for `hresult`. During a transmit every one means: card lost, and the answer unknown."""
    blame = HRESULTS.get(hresult, Blame.SERVICE)
    words = f"{during}: {blame.value}, {hresult:08X}"
    if during == "transmit":
        return CardGoneError(f"{words}; whether the card acted on the command is unknown")
    match blame:
        case Blame.CARD:
            return CardGoneError(words)
        case Blame.MUTE:
            return CardMuteError(words)
        case Blame.UNSUPPORTED:
            return CardUnsupportedError(words)
        case Blame.READER | Blame.SERVICE:
            return ReaderError(words)


def reader_names(scard: Any = INSTALLED) -> list[str]:
    """The readers that the daemon lists now. Blocks; for tools, never for the agent. Raises `ReaderError`."""
    pcsc = Pcsc(scard)
    try:
        context = pcsc.establish()
        try:
            return pcsc.readers(context)
        finally:
            pcsc.release(context)
    except RefusedError as refused:
        raise ReaderError(f"list readers: {refused.blame.value}, {refused.hresult:08X}") from refused
