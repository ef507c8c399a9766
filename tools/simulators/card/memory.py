"""What a simulated card remembers without power. Written through to the disk before an answer leaves the card."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

PIN1_TRIES: Final = 3
_FILE: Final = "card.json"
_LOCK: Final = "lock"
_MAX_BYTES: Final = 4096


class MemoryRefusedError(Exception):
    """The state directory is in use, of another card, or not a card's at all."""


@dataclass(frozen=True, slots=True)
class CardState:
    """All that changes in a card's life."""

    pin1_tries: int = PIN1_TRIES
    verdicts: int = 0


class Memory(Protocol):
    """Where a card keeps its state."""

    @property
    def state(self) -> CardState:
        """The last state that was committed."""
        ...  # pragma: no cover

    def commit(self, state: CardState) -> None:
        """Keep `state`; when this returns, it survives loss of power."""
        ...  # pragma: no cover


class VolatileMemory:
    """A memory for tests that do not pull the power."""

    def __init__(self, state: CardState | None = None) -> None:
        self.state = state or CardState()

    def commit(self, state: CardState) -> None:
        """As `Memory.commit`, but only until the process ends."""
        self.state = state


class FileMemory:
    """A memory in a directory: one small file, replaced whole."""

    def __init__(self, directory: Path, seed: int, state: CardState) -> None:
        """For `opened`, which holds the lock."""
        self._directory = directory
        self._seed = seed
        self.state = state

    @classmethod
    @contextmanager
    def opened(cls, directory: Path, seed: int) -> Iterator[FileMemory]:
        """The memory of card `seed` in `directory`, made new if there is none; nobody else can open it meanwhile.

        Raises:
            MemoryRefusedError: in use, of another card, or unreadable.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (directory / _LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise MemoryRefusedError("another simulated card is using this state directory") from exc
            memory = cls(directory, seed, _load(directory / _FILE, seed))
            memory.commit(memory.state)
            yield memory

    def commit(self, state: CardState) -> None:
        """Write beside, sync, rename, sync the directory: loss of power leaves the old file or the new one."""
        fresh = self._directory / f"{_FILE}.new"
        with fresh.open("w", encoding="ascii") as file:
            json.dump({"number": self._seed, **asdict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._directory / _FILE)
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self.state = state


def _load(path: Path, seed: int) -> CardState:
    if not path.exists():
        return CardState()
    try:
        values = json.loads(path.read_bytes()[:_MAX_BYTES])
        number, state = values.pop("number"), CardState(**values)
        possible = 0 <= state.pin1_tries <= PIN1_TRIES and 0 <= state.verdicts < 1 << 32
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise MemoryRefusedError("the state directory does not hold a card's state") from exc
    if number != seed:
        raise MemoryRefusedError("the state directory belongs to another card")
    if not possible:
        raise MemoryRefusedError("the state directory holds an impossible state")
    return state
