"""A stand-in for `smartcard.scard` with a daemon, readers and cards that a test moves. Same calls, same quirks.

Blocking calls block, so it is used from the door's own threads. The hresults are those of pcsc-lite 1.9.9.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

OK = 0
CANCELLED = 0x80100002
UNKNOWN_READER = 0x80100009
TIMEOUT = 0x8010000A
SHARING = 0x8010000B
NO_CARD = 0x8010000C
NOT_TRANSACTED = 0x80100016
NO_SERVICE = 0x8010001D
NO_READERS = 0x8010002E
MUTE = 0x80100066
REMOVED = 0x80100069

PNP = "\\\\?PnP?\\Notification"
States = list[tuple[str, int, list[int]]]


@dataclass
class Slot:
    atr: bytes | None = None
    events: int = 0
    holder: int | None = None

    @property
    def state(self) -> int:
        return (self.events << 16) | (0x10 if self.atr is None else 0x20)


class FakeScard:
    SCARD_SCOPE_SYSTEM = 2
    SCARD_STATE_UNAWARE = 0
    SCARD_SHARE_EXCLUSIVE = 1
    SCARD_PROTOCOL_T0 = 1
    SCARD_PROTOCOL_T1 = 2
    SCARD_PCI_T0 = 1
    SCARD_PCI_T1 = 2
    SCARD_UNPOWER_CARD = 2

    def __init__(self, *readers: str) -> None:
        self.slots = {name: Slot() for name in readers}
        self.alive = True
        self.protocol = self.SCARD_PROTOCOL_T1
        self.answer: Callable[[bytes], bytes | int] = lambda _command: b"\x90\x00"
        self.contexts: dict[int, bool] = {}
        """Context to whether its wait was cancelled; only those that are not released."""
        self.handles: dict[int, tuple[str, int]] = {}
        self.transmitting = 0
        self.transmitting_most = 0
        self.busy = threading.Event()
        """Set when a command has reached the card."""
        self.threads: set[str] = set()
        self._numbers = itertools.count(1)
        self._moved = threading.Condition()

    # -- what a test does ----------------------------------------------------------------------------------------

    def insert(self, reader: str, atr: bytes = b"\x3b\x00") -> None:
        with self._moved:
            self.slots[reader].atr = atr
            self.slots[reader].events += 1
            self._moved.notify_all()

    def remove(self, reader: str) -> None:
        with self._moved:
            self.slots[reader].atr = None
            self.slots[reader].events += 1
            self._moved.notify_all()

    def exchange(self, reader: str) -> None:
        """Out and in again before anybody can look."""
        with self._moved:
            self.slots[reader].events += 2
            self._moved.notify_all()

    def plug(self, reader: str) -> None:
        with self._moved:
            self.slots[reader] = Slot()
            self._moved.notify_all()

    def unplug(self, reader: str) -> None:
        with self._moved:
            del self.slots[reader]
            self._moved.notify_all()

    def die(self) -> None:
        """The daemon's end: everybody's contexts and handles are dead."""
        with self._moved:
            self.alive = False
            self.handles.clear()
            for slot in self.slots.values():
                slot.events, slot.holder = 0, None
            self._moved.notify_all()

    def live(self) -> None:
        with self._moved:
            self.alive = True

    # -- the calls -----------------------------------------------------------------------------------------------

    def SCardEstablishContext(self, _scope: int) -> tuple[int, int]:  # noqa: N802 - the library's names
        self.threads.add(threading.current_thread().name)
        with self._moved:
            if not self.alive:
                return NO_SERVICE, 0
            context = next(self._numbers)
            self.contexts[context] = False
            return OK, context

    def SCardReleaseContext(self, context: int) -> int:  # noqa: N802
        with self._moved:
            if context not in self.contexts:
                raise SystemError("not a context")
            del self.contexts[context]
            return OK if self.alive else NO_SERVICE

    def SCardListReaders(self, _context: int, _groups: list[str]) -> tuple[int, list[str]]:  # noqa: N802
        with self._moved:
            if not self.alive:
                return NO_SERVICE, []
            return (OK, list(self.slots)) if self.slots else (NO_READERS, [])

    def SCardGetStatusChange(  # noqa: N802
        self, context: int, limit_ms: int, asked: list[tuple[str, int]]
    ) -> tuple[int, States]:
        with self._moved:
            readers = len(self.slots)
            while True:
                if not self.alive:
                    return NO_SERVICE, []
                if self.contexts.get(context):
                    self.contexts[context] = False
                    return CANCELLED, []
                if any(name not in self.slots for name, _ in asked if name != PNP):
                    return UNKNOWN_READER, []
                found = [(n, self.slots[n].state, list(self.slots[n].atr or b"")) for n, _ in asked if n != PNP]
                known = [state for name, state in asked if name != PNP]
                if [state for _, state, _ in found] != known or len(self.slots) != readers:
                    return OK, found
                if not self._moved.wait(limit_ms / 1000):
                    return TIMEOUT, found

    def SCardCancel(self, context: int) -> int:  # noqa: N802
        with self._moved:
            if context in self.contexts:
                self.contexts[context] = True
            self._moved.notify_all()
            return OK

    def SCardConnect(  # noqa: N802
        self, context: int, reader: str, _share: int, _protocols: int
    ) -> tuple[int, int, int]:
        with self._moved:
            slot = self.slots.get(reader)
            if not self.alive or slot is None:
                return NO_SERVICE if slot else UNKNOWN_READER, 0, 0
            if slot.atr is None or not slot.atr:
                return NO_CARD if slot.atr is None else MUTE, 0, 0
            if slot.holder is not None:
                return SHARING, 0, 0
            handle = next(self._numbers)
            slot.holder = context
            self.handles[handle] = (reader, slot.events)
            return OK, handle, self.protocol

    def SCardTransmit(self, handle: int, _pci: int, command: list[int]) -> tuple[int, list[int]]:  # noqa: N802
        with self._moved:
            if handle not in self.handles:
                return NO_SERVICE, []
            reader, events = self.handles[handle]
            if self.slots[reader].events != events:
                return REMOVED, []
            self.transmitting += 1
            self.transmitting_most = max(self.transmitting_most, self.transmitting)
        self.busy.set()
        try:
            said = self.answer(bytes(command))
        finally:
            with self._moved:
                self.transmitting -= 1
        return (said, []) if isinstance(said, int) else (OK, list(said))

    def SCardDisconnect(self, handle: int, _disposition: int) -> int:  # noqa: N802
        with self._moved:
            reader, _ = self.handles.pop(handle, ("", 0))
            if reader not in self.slots:
                raise SystemError("not a handle")
            self.slots[reader].holder = None
            return OK
