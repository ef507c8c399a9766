"""What the watcher thread does. No PC/SC library, no clock: the calls and the pause are arguments.

Learnt from the source of pcsc-lite 1.9.9, and not in its manual:

- a reader that appears between listing and waiting raises no event, and one does at every start of the daemon, because
  pcscd lists readers only after it accepts clients: so a wait has a limit, short after a change;
- libpcsclite keeps the reader states in one array for the whole process, so a second thread that asks for them can
  hide an event from the first: so only the watcher asks;
- `SCardCancel` does nothing when it comes between two waits: so it is repeated;
- the event counter is compared only while it is not 0: so what is a new insertion is decided here.

pyscard's own monitors are not used: they die with pcscd and say nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

import structlog

from edge_agent.pcsc.calls import Pcsc, ReaderNow, RefusedError
from wire.messages import ReaderState

_log = structlog.get_logger(__name__)

_READERS_MAX: Final = 15
"""pcsc-lite takes 16 names in one wait, and one of them asks for changes of the list."""
LOOK_FIRST_MS: Final = 250
LOOK_LAST_MS: Final = 5_000
"""How long one wait lasts at most; doubles from the first to the last while nothing happens."""
BREATH_S: Final = 0.01
"""Between two looks, so that a reader gone mad costs a hundred looks a second and not a core."""
BACK_OFF_FIRST_S: Final = 0.05
BACK_OFF_LAST_S: Final = 2.0


@dataclass(frozen=True)
class CardPresent:
    """A card in a reader. `insertion` grows by every insertion, also by one that the same card makes."""

    reader: str
    atr: bytes
    """Empty for a mute card."""
    insertion: int


@dataclass(frozen=True)
class Seen:
    """One look at all readers."""

    state: ReaderState
    cards: tuple[CardPresent, ...] = ()


class Watcher:
    """What the watcher thread does: look, tell, wait, until `closing`, whatever PC/SC answers."""

    def __init__(
        self,
        pcsc: Pcsc,
        closing: threading.Event,
        *,
        allow: Callable[[str], bool],
        chance: Callable[[], float],
        tell: Callable[[Seen], None],
    ) -> None:
        self._pcsc = pcsc
        self._closing = closing
        self._allow = allow
        self._chance = chance
        self._tell = tell
        self._context: int | None = None
        self._told: Seen | None = None
        self._known: dict[str, tuple[int, int]] = {}
        """Reader to (event counter, insertion) of the card in it."""
        self._doubted: SimpleQueue[str] = SimpleQueue()
        self._insertions = 0
        self._fruitless = 0

    def run(self) -> None:
        while not self._closing.is_set():
            try:
                context = self._context = self._pcsc.establish()
                try:
                    self._follow(context)
                finally:
                    self._context = None
                    self._pcsc.release(context)
            except RefusedError as refused:
                self._lose(refused)
                self._back_off()

    def wake(self) -> None:
        """From any thread: end the wait in progress, if there is one just now."""
        context = self._context
        if context is not None:
            self._pcsc.cancel(context)

    def doubt(self, reader: str) -> None:
        """From any thread: whatever is in `reader` at the next look is a new insertion."""
        self._doubted.put(reader)
        self.wake()

    def _follow(self, context: int) -> None:
        before: list[ReaderNow] | None = None
        limit_ms, changed = LOOK_FIRST_MS, True
        while not self._closing.is_set():
            names = [name for name in self._pcsc.readers(context) if self._allow(name)][:_READERS_MAX]
            states = self._pcsc.look(context, names)
            self._publish(states)
            if states != before:
                self._fruitless = 0
                limit_ms = LOOK_FIRST_MS
                self._closing.wait(BREATH_S)
            elif changed:
                self._back_off()
            else:
                limit_ms = min(limit_ms * 2, LOOK_LAST_MS)
                self._closing.wait(BREATH_S)
            before = states
            if not self._closing.is_set():
                changed = self._pcsc.wait(context, states, limit_ms)

    def _publish(self, states: list[ReaderNow]) -> None:
        known: dict[str, tuple[int, int]] = {}
        cards: list[CardPresent] = []
        while not self._doubted.empty():
            self._known.pop(self._doubted.get(), None)
        for reader in states:
            if not reader.has_card:
                continue
            events, insertion = self._known.get(reader.name, (None, 0))
            if events != reader.events:
                self._insertions += 1
                insertion = self._insertions
            known[reader.name] = (reader.events, insertion)
            cards.append(CardPresent(reader.name, reader.atr, insertion))
        self._known = known
        state_now = ReaderState.CARD_PRESENT if cards else ReaderState.EMPTY if states else ReaderState.NO_READER
        self._say(Seen(state_now, tuple(cards)))

    def _lose(self, refused: RefusedError) -> None:
        """Nothing is known any more; a card that is there afterwards is a new insertion, for its session is dead."""
        self._known = {}
        if self._told is None or self._told.state is not ReaderState.NO_SERVICE:
            _log.warning("card_service_lost", hresult=f"{refused.hresult:08X}")
        self._say(Seen(ReaderState.NO_SERVICE))

    def _say(self, seen: Seen) -> None:
        if seen != self._told:
            self._told = seen
            self._tell(seen)

    def _back_off(self) -> None:
        """Wait between half and all of a time that doubles with every fruitless round, to a limit."""
        longest_s = min(BACK_OFF_FIRST_S * 2.0 ** min(self._fruitless, 10), BACK_OFF_LAST_S)
        self._fruitless += 1
        self._closing.wait(longest_s * (0.5 + self._chance() / 2))
