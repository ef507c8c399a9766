"""The event loop's side of the card readers: `Readers`, and a `Connection` with its worker thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, TypeVar

import structlog

from edge_agent.cards.errors import CardGoneError, CardMuteError
from edge_agent.errors import ReaderError
from edge_agent.pcsc.calls import INSTALLED, Pcsc, RefusedError, error_of
from edge_agent.pcsc.watcher import CardPresent, Seen, Watcher
from wire.messages import ReaderState

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_Jobs = SimpleQueue[tuple[bytes, Future[bytes]] | None]

_CANCEL_EVERY_S: Final = 0.05
_CANCELS_MAX: Final = 100
_END_LIMIT_S: Final = 5.0
_SW_BYTES: Final = 2


class _Thread:
    """A daemon thread whose end can be awaited. A daemon, so that a driver that never answers cannot keep us alive."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as bug:  # noqa: BLE001 - carried to whoever waits for the end
            self._ended.set_exception(bug)
        else:
            self._ended.set_result(None)

    def is_over(self, after_s: float) -> bool:
        self._thread.join(after_s)
        return not self._thread.is_alive()

    async def ended(self) -> None:
        """Wait for the end, for a limited time; after it the thread is left to end by itself. Raises what it raised."""
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                await asyncio.shield(asyncio.wrap_future(self._ended))
        except TimeoutError:
            _log.warning("pcsc_thread_left", thread=self._thread.name)
        else:
            self._thread.join()


class Connection:
    """An exclusive connection with one card, made by `Readers.connect`; dead once a transmit has failed."""

    def __init__(self, jobs: _Jobs, answer_s: float) -> None:
        self._answer_s = answer_s
        self._jobs: _Jobs | None = jobs

    async def transmit(self, command: bytes) -> bytes:
        """Send one command APDU; gives data and status word (ISO/IEC 7816-4). 61xx and 6Cxx are the caller's.

        One at a time, whoever calls. Cancelled in flight it goes on to its end on the card, and nobody gets the answer.
        Raises `CardGoneError` when card, reader or daemon is lost, and then whether the card acted on the command is
        unknown; `CardMuteError` when no answer came in time, unknown likewise; `CardUnsupportedError` (not sent) for an
        extended length on a T=0 card.
        """
        if self._jobs is None:
            raise CardGoneError("transmit: the connection is closed")
        answered: Future[bytes] = Future()
        self._jobs.put((command, answered))
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await asyncio.wrap_future(answered)
        except TimeoutError as late:
            raise CardMuteError("transmit: no answer; whether the card acted on the command is unknown") from late
        except RefusedError as refused:
            _log.debug("apdu_lost", header=command[:4].hex(), hresult=f"{refused.hresult:08X}")
            raise error_of(refused.hresult, "transmit") from refused
        if len(answer) < _SW_BYTES:
            # the driver gives this for a card that left in the middle of its answer
            raise CardGoneError("transmit: an answer without a status word")
        _log.debug("apdu", header=command[:4].hex(), sw=answer[-_SW_BYTES:].hex())
        return answer

    def close(self) -> None:
        """Let the worker disconnect after what is in flight. Leaving `Readers.connect` does this."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


class _Session:
    """What a connection's worker does: connect, answer jobs in order, disconnect.

    pcscd looks for cards every 400 ms. A card that is lost in a command and back before that look can stay unnoticed,
    and a power-down that fails before that look makes pcscd blind for the card until it is out again. So after a loss
    the worker lets that look pass before it disconnects, and then has the watcher `doubt` what is in the reader.
    """

    def __init__(self, pcsc: Pcsc, reader: str, settle: Callable[[], object], doubt: Callable[[str], None]) -> None:
        self._pcsc = pcsc
        self._reader = reader
        self._settle = settle
        self._doubt = doubt
        self._lost = False
        self.jobs: _Jobs = SimpleQueue()
        self.opened: Future[None] = Future()
        self.opened.set_running_or_notify_cancel()

    def run(self) -> None:
        try:
            context = self._pcsc.establish()
            try:
                handle, protocol = self._pcsc.connect(context, self._reader)
                self.opened.set_result(None)
                try:
                    self._answer(handle, protocol)
                finally:
                    if self._lost:
                        self._settle()
                    self._pcsc.disconnect(handle)
            finally:
                self._pcsc.release(context)
                if self._lost:
                    self._doubt(self._reader)
        except Exception as exc:
            if self.opened.done():
                raise
            self.opened.set_exception(exc)

    def _answer(self, handle: int, protocol: int) -> None:
        while (job := self.jobs.get()) is not None:
            command, answered = job
            if not answered.set_running_or_notify_cancel():
                continue
            try:
                answered.set_result(self._pcsc.transmit(handle, protocol, command))
            except Exception as exc:  # noqa: BLE001 - carried to whoever waits for the answer
                self._lost = self._lost or isinstance(exc, RefusedError)
                answered.set_exception(exc)


class Readers:
    """The card readers, followed from entering to leaving the context.

    `allow` chooses readers by name (match a prefix: the numbers behind it depend on the order of start); `chance`
    gives numbers from 0 to 1 for the jitter of the back-off; `settle_s` is longer than pcscd's polling interval;
    `answer_s` is the longest wait for a card, longer than any that a reader grants (ISO/IEC 7816-3 waiting times).
    Belongs to the event loop that entered it.
    """

    def __init__(
        self,
        *,
        allow: Callable[[str], bool],
        chance: Callable[[], float],
        settle_s: float = 0.5,
        answer_s: float = 60.0,
        scard: Any = INSTALLED,
    ) -> None:
        self._pcsc = Pcsc(scard)
        self._allow = allow
        self._chance = chance
        self._settle_s = settle_s
        self._answer_s = answer_s
        self._seen = Seen(ReaderState.NO_SERVICE)
        self._served = 0
        self._news = asyncio.Event()
        self._over = False
        self._closing = threading.Event()

    async def __aenter__(self) -> Readers:
        loop = asyncio.get_running_loop()

        def tell(seen: Seen | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
                loop.call_soon_threadsafe(self._take, seen)

        def watch() -> None:
            try:
                self._watcher.run()
            finally:
                tell(None)

        self._watcher = Watcher(self._pcsc, self._closing, allow=self._allow, chance=self._chance, tell=tell)
        self._thread = _Thread("pcsc-watcher", watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        waker = _Thread("pcsc-waker", self._wake_until_over)
        await self._thread.ended()
        await waker.ended()

    def _wake_until_over(self) -> None:
        for _ in range(_CANCELS_MAX):
            self._watcher.wake()
            if self._thread.is_over(after_s=_CANCEL_EVERY_S):
                return

    def _take(self, seen: Seen | None) -> None:
        """In the loop: what the watcher posted; None is its end."""
        if seen is None:
            self._over = True
        else:
            self._seen = seen
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, found: Callable[[], _T | None]) -> _T:
        while (value := found()) is None:
            if self._over:
                await self._thread.ended()
                raise ReaderError("the readers are closed")
            await self._news.wait()
        return value

    @property
    def state(self) -> ReaderState:
        """The newest state; `NO_SERVICE` until the watcher has looked for the first time."""
        return self._seen.state

    @property
    def cards(self) -> tuple[CardPresent, ...]:
        """The cards in the readers now."""
        return self._seen.cards

    async def next_card(self) -> CardPresent:
        """Wait for an insertion that this method has not yet given. Raises `ReaderError` only when closed."""

        def fresh() -> CardPresent | None:
            cards = [card for card in self._seen.cards if card.insertion > self._served]
            return min(cards, key=lambda card: card.insertion, default=None)

        card = await self._until(fresh)
        self._served = card.insertion
        return card

    async def gone(self, card: CardPresent) -> None:
        """Wait until that insertion is over. Losing reader or daemon ends it too."""
        await self._until(lambda: None if self._holds(card) else True)

    async def changes(self) -> AsyncIterator[ReaderState]:
        """The state now, and then every time it is another; who comes late for one gets the newest only."""
        told: ReaderState | None = None
        while True:
            told = await self._until(lambda: None if self._seen.state is told else self._seen.state)  # noqa: B023
            yield told

    @contextlib.asynccontextmanager
    async def connect(self, card: CardPresent) -> AsyncIterator[Connection]:
        """Connect with that insertion of a card, alone; take its power on leaving.

        Leaving waits for a command in flight, for a limited time. Raises `CardGoneError`, `CardMuteError`,
        `CardUnsupportedError`, or `ReaderError` when reader or daemon is not usable or another program holds the card,
        which is also what a reader that hangs looks like.
        """
        if not self._holds(card):
            raise CardGoneError("connect: the card has left the reader")
        session = _Session(
            self._pcsc, card.reader, settle=lambda: self._closing.wait(self._settle_s), doubt=self._watcher.doubt
        )
        thread = _Thread(f"pcsc-card-{card.insertion}", session.run)
        connection = Connection(session.jobs, self._answer_s)
        try:
            try:
                async with asyncio.timeout(self._answer_s):
                    await asyncio.wrap_future(session.opened)
            except TimeoutError as late:
                raise ReaderError("connect: the reader does not answer") from late
            except RefusedError as refused:
                raise error_of(refused.hresult, "connect") from refused
            if not self._holds(card):
                raise CardGoneError("connect: the card was exchanged meanwhile")
            yield connection
        finally:
            connection.close()
            await thread.ended()

    def _holds(self, card: CardPresent) -> bool:
        return any(each.insertion == card.insertion for each in self._seen.cards)
