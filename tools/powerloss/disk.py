"""The disk: what is safe, what is only in memory, and what may be left of it after a power cut."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.powerloss.trace import (
    Announced,
    Moved,
    Opened,
    Operation,
    PowerlossError,
    Recording,
    Renamed,
    Resized,
    Synced,
    Unlinked,
    Written,
)

SECTOR_BYTES: Final = 512
CONTENTS: Final = ("dropped", "kept", "torn", "some")
"""What becomes of writes that no fsync covered: none, all, all but the end of the last, or a random part of them."""

NAMES: Final = ("safe", "all")
"""Which creations, renames and removals hold: those that an fsync of the directory covered, or all of them."""

_REBUILT: Final = "-shm"


@dataclass(frozen=True, slots=True)
class Crash:
    """One directory as a disk could hold it. `announced` is everything that the program had told the outside."""

    directory: Path
    announced: bytes
    after: int
    contents: str
    names: str

    def __str__(self) -> str:
        return f"power cut after operation {self.after}: unsynced writes {self.contents}, names {self.names}"


@dataclass(eq=False, slots=True)
class _Inode:
    safe: bytearray = field(default_factory=bytearray)
    unsafe: list[tuple[int, Written | Resized]] = field(default_factory=list)
    size: int = 0
    position: int = 0
    append: bool = False
    readable: bool = False


@dataclass(slots=True)
class _Disk:
    """`names` is what the program sees, `safe_names` what a directory fsync has covered."""

    names: dict[str, _Inode] = field(default_factory=dict)
    safe_names: dict[str, _Inode] = field(default_factory=dict)
    unsafe_names: list[tuple[int, str, _Inode | None]] = field(default_factory=list)

    def apply(self, number: int, operation: Operation) -> bool:
        """Carry out one operation; whether a power cut after it may look different from one before it."""
        match operation:
            case Opened():
                return self._open(number, operation)
            case Moved(name, position):
                if name in self.names:
                    self.names[name].position = position
                return False
            case Written(name, offset, data):
                self._write(number, name, offset, data)
            case Resized(name, size):
                inode = self.names[name]
                inode.unsafe.append((number, operation))
                inode.size = size
            case Synced(".", began):
                self._sync_names(began)
            case Synced(name, began):
                _sync(self.names[name], began)
            case Unlinked(name):
                del self.names[name]
                self.unsafe_names.append((number, name, None))
            case Renamed(old, new):
                inode = self.names.pop(old)
                self.names[new] = inode
                self.unsafe_names += [(number, new, inode), (number, old, None)]
            case Announced():
                pass
        return True

    def _open(self, number: int, opened: Opened) -> bool:
        if opened.name == ".":
            return False
        if opened.name not in self.names:
            if not opened.create:
                raise PowerlossError(f"{opened.name} was opened, but nobody made it")
            self.names[opened.name] = _Inode()
            self.unsafe_names.append((number, opened.name, self.names[opened.name]))
        inode = self.names[opened.name]
        inode.position, inode.append, inode.readable = 0, opened.append, opened.readable
        if opened.truncate and inode.size:
            inode.unsafe.append((number, Resized(opened.name, 0)))
            inode.size = 0
        return True

    def _write(self, number: int, name: str, offset: int | None, data: bytes) -> None:
        inode = self.names[name]
        if offset is None:
            if inode.readable and not inode.append:
                # reads move the position too, and they are not recorded
                raise PowerlossError(f"{name}: a write at a position that is not known")
            offset = inode.size if inode.append else inode.position
            inode.position = offset + len(data)
        inode.unsafe.append((number, Written(name, offset, data)))
        inode.size = max(inode.size, offset + len(data))

    def _sync_names(self, began: int) -> None:
        covered = [change for change in self.unsafe_names if change[0] < began]
        self.unsafe_names = [change for change in self.unsafe_names if change[0] >= began]
        for _, name, inode in covered:
            if inode is None:
                self.safe_names.pop(name, None)
            else:
                self.safe_names[name] = inode

    def after_power_cut(self, contents: str, names: str, chance: random.Random) -> dict[str, bytes]:
        """The files that are found."""
        found = self.safe_names if names == "safe" else self.names
        return {
            name: _left_of(inode, contents, chance)
            for name, inode in sorted(found.items())
            if not name.endswith(_REBUILT)
        }


def _sync(inode: _Inode, began: int) -> None:
    for number, change in inode.unsafe:
        if number < began:
            _put(inode.safe, change)
    inode.unsafe = [change for change in inode.unsafe if change[0] >= began]


def _put(content: bytearray, change: Written | Resized) -> None:
    if isinstance(change, Resized):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    offset = change.offset or 0
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(change.data)] = change.data


def _left_of(inode: _Inode, contents: str, chance: random.Random) -> bytes:
    left = bytearray(inode.safe)
    changes = [change for _, change in inode.unsafe]
    if contents == "dropped":
        changes = []
    elif contents == "torn" and changes:
        changes[-1:] = _torn(changes[-1], chance)
    elif contents == "some":
        changes = [part for change in changes for part in _perhaps(change, chance)]
    for change in changes:
        _put(left, change)
    return bytes(left)


def _perhaps(change: Written | Resized, chance: random.Random) -> list[Written | Resized]:
    match chance.randrange(5):
        case 0 | 1:
            return [change]
        case 2:
            return _torn(change, chance)
        case _:
            return []


def _torn(change: Written | Resized, chance: random.Random) -> list[Written | Resized]:
    """The write as far as a sector boundary of the file. Inside one sector, and for a size, there is no half way."""
    if isinstance(change, Resized):
        return []
    offset = change.offset or 0
    first = offset // SECTOR_BYTES + 1
    boundaries = range(first, (offset + len(change.data) - 1) // SECTOR_BYTES + 1)
    if not boundaries:
        return []
    return [Written(change.name, offset, change.data[: chance.choice(boundaries) * SECTOR_BYTES - offset])]


def states(
    recording: Recording, *, seed: int, draws: int = 4
) -> Iterator[tuple[dict[str, bytes], bytes, int, str, str]]:
    """Every different (files, announced, operation number, contents, names) that the recording can leave behind.

    Random choices are drawn `draws` times for each moment.
    """
    disk = _Disk()
    for name, content in recording.before.items():
        inode = _Inode(safe=bytearray(content), size=len(content))
        disk.names[name] = disk.safe_names[name] = inode
    announced = b""
    seen: set[bytes] = set()
    for number, operation in enumerate(recording.operations):
        if not disk.apply(number, operation):
            continue
        if isinstance(operation, Announced):
            announced += operation.data
        for contents, draw, names in _choices(draws):
            files = disk.after_power_cut(contents, names, random.Random(f"{seed} {number} {contents} {draw}"))
            key = _key(files, len(announced))
            if key not in seen:
                seen.add(key)
                yield files, announced, number, contents, names


def _choices(draws: int) -> Iterator[tuple[str, int, str]]:
    for contents in CONTENTS:
        for draw in range(draws if contents in ("torn", "some") else 1):
            for names in NAMES:
                yield contents, draw, names


def _key(files: dict[str, bytes], announced_bytes: int) -> bytes:
    key = hashlib.sha256(str(announced_bytes).encode())
    for name, content in files.items():
        key.update(f"{len(name)} {name} {len(content)} ".encode(errors="surrogateescape"))
        key.update(content)
    return key.digest()


def crashes(recording: Recording, scratch: Path, *, seed: int, draws: int = 4) -> Iterator[Crash]:
    """Each state as a directory below `scratch`, removed again when the next one is asked for."""
    for count, (files, announced, number, contents, names) in enumerate(states(recording, seed=seed, draws=draws)):
        directory = scratch / f"{count}-{number}-{contents}-{names}"
        directory.mkdir(parents=True)
        try:
            for name, content in files.items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield Crash(directory, announced, number, contents, names)
        finally:
            shutil.rmtree(directory)


def replay(recording: Recording, scratch: Path, check: Callable[[Crash], None], *, seed: int, draws: int = 4) -> int:
    """Let `check` look at every crash; how many there were. What it raises carries a note that says which one."""
    count = 0
    for crash in crashes(recording, scratch, seed=seed, draws=draws):
        count += 1
        try:
            check(crash)
        except Exception as exc:
            exc.add_note(f"{crash} (seed {seed})")
            raise
    return count
