"""Records the file operations of a process with `strace`, and reads the record. The only file that knows strace."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CALLS: Final = (
    *(
        "open",
        "openat",
        "creat",
        "write",
        "pwrite64",
        "writev",
        "pwritev",
        "pwritev2",
        "lseek",
        "ftruncate",
        "truncate",
    ),
    *("fsync", "fdatasync", "unlink", "unlinkat", "rename", "renameat", "renameat2", "close", "mmap"),
    *(
        "fallocate",
        "copy_file_range",
        "sendfile",
        "splice",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "mkdir",
        "mkdirat",
    ),
)
_CANNOT_REPLAY: Final = frozenset(
    {"fallocate", "copy_file_range", "sendfile", "splice", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat"}
)
_MAX_STRING_BYTES: Final = 1 << 24
_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)", re.DOTALL)
_FD = re.compile(r"(\d+|AT_FDCWD)<([^>]*)>(\(deleted\))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class PowerlossError(Exception):
    """The recording cannot be replayed faithfully, or the recorded program did not end."""


@dataclass(frozen=True, slots=True)
class Opened:
    name: str
    create: bool
    truncate: bool
    append: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class Written:
    """`offset` is None for a write at the file's own position."""

    name: str
    offset: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """The file position after lseek."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Resized:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A finished fsync or fdatasync. It covers the operations before number `began`, not those that ran beside it."""

    name: str
    began: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    name: str


@dataclass(frozen=True, slots=True)
class Renamed:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Announced:
    """Bytes with which the program told the outside what it had done. Counts from the moment the write began."""

    data: bytes


Operation = Opened | Written | Moved | Resized | Synced | Unlinked | Renamed | Announced


@dataclass(frozen=True, slots=True)
class Recording:
    """`before` is the directory as it was, taken as safe on disk; names are relative to it, ``.`` is itself."""

    before: dict[str, bytes]
    operations: tuple[Operation, ...]


def snapshot(directory: Path) -> dict[str, bytes]:
    """The files of `directory`, to be taken before the program starts."""
    return {entry.name: entry.read_bytes() for entry in sorted(directory.iterdir()) if entry.is_file()}


def traced(command: Sequence[str], log: Path) -> list[str]:
    """`command` under strace. The started process *is* the program: its id, signals and exit status are its own."""
    options = ["-D", "-f", "-y", "-xx", "--seccomp-bpf", "-q", "-e", "signal=none", "-s", str(_MAX_STRING_BYTES)]
    return ["strace", *options, "-e", f"trace={','.join(_CALLS)}", "-o", str(log), "--", *command]


def record(
    command: Sequence[str],
    directory: Path,
    log: Path,
    *,
    announce: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> Recording:
    """Run `command` to its end and record what it did to the files of `directory`.

    What it writes to `announce`, or to standard output without it, is its word to the outside.

    Raises:
        PowerlossError: it failed, did not end in time, or did something that cannot be replayed.
    """
    before = snapshot(directory)
    with subprocess.Popen(traced(command, log), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise PowerlossError(f"{command[0]} did not end within {timeout_s} s") from exc
    if process.returncode != 0:
        raise PowerlossError(f"{command[0]} ended with {process.returncode}: {said[-800:].decode(errors='replace')}")
    return parse(log, directory, before=before, announce=announce, process_id=process.pid)


def parse(
    log: Path,
    directory: Path,
    *,
    before: dict[str, bytes],
    process_id: int,
    announce: Path | None = None,
    timeout_s: float = 20,
) -> Recording:
    """Read the record of a program that has ended; waits for the tracer to finish writing it.

    Raises:
        PowerlossError: it is not complete, or holds what cannot be replayed.
    """
    _wait_for_end(log, process_id, timeout_s)
    reader = _Reader(directory.resolve(), announce.resolve() if announce is not None else None)
    with log.open(encoding="ascii", errors="strict") as lines:
        for line in lines:
            reader.feed(line.rstrip("\n"))
    return Recording(before, tuple(reader.operations))


def _wait_for_end(log: Path, process_id: int, timeout_s: float) -> None:
    """The tracer is a process of its own and may still be writing. Its last line about a process says how it ended."""
    end = re.compile(rf"^{process_id} +\+\+\+ (?:exited|killed)", re.MULTILINE)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if log.exists():
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 4096))
                if end.search(file.read().decode("ascii", errors="replace")):
                    return
        time.sleep(0.02)
    raise PowerlossError("the record does not say that the program ended")


class _Reader:
    """Turns lines into operations, in the order in which the calls finished."""

    def __init__(self, directory: Path, announce: Path | None) -> None:
        self._directory = str(directory)
        self._announce = None if announce is None else str(announce)
        self._open_calls: dict[str, tuple[str, int]] = {}
        self.operations: list[Operation] = []

    def feed(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise PowerlossError("not a line of strace")
        thread, text = match.groups()
        began = len(self.operations)
        if text.endswith(_UNFINISHED):
            text = text.removesuffix(_UNFINISHED)
            self._announced(text)
            self._open_calls[thread] = (text, len(self.operations))
            return
        resumed = _RESUMED.fullmatch(text)
        if resumed is not None:
            head, began = self._open_calls.pop(thread)
            text = head + resumed[2]
        else:
            self._announced(text)
        call = _CALL.match(text)
        if call is None or call[3] == "?" or call[3].startswith("-"):
            return  # an exit, or a call that failed and changed nothing
        self._finished(call[1], call[2], call[3], began)

    def _announced(self, text: str) -> None:
        name, _, arguments = text.partition("(")
        if name not in ("write", "writev"):
            return
        fd = _FD.match(arguments)
        if fd is None or self._relative(fd[2]) is not None:
            return
        if fd[1] == "1" if self._announce is None else _plain(fd[2]) == self._announce:
            self.operations.append(Announced(b"".join(_strings(arguments))))

    def _finished(self, call: str, arguments: str, result: str, began: int) -> None:
        names = list(self._names(call, arguments))
        if not names:
            return
        name = names[0]
        if call in _CANNOT_REPLAY or (call == "mmap" and _maps_for_writing(arguments) and not name.endswith("-shm")):
            raise PowerlossError(f"{call} on {name}: cannot be replayed")
        match call:
            case "open" | "openat" | "creat":
                self.operations.append(_opened(call, name, arguments))
            case "write" | "writev":
                self.operations.append(Written(name, None, b"".join(_strings(arguments))[: int(result)]))
            case "pwrite64" | "pwritev" | "pwritev2":
                data = b"".join(_strings(arguments))[: int(result)]
                self.operations.append(Written(name, _offset(call, arguments), data))
            case "lseek":
                self.operations.append(Moved(name, int(result, 0)))
            case "ftruncate" | "truncate":
                self.operations.append(Resized(name, int(arguments.rpartition(", ")[2])))
            case "fsync" | "fdatasync":
                self.operations.append(Synced(name, began))
            case "unlink" | "unlinkat":
                self.operations.append(Unlinked(name))
            case "rename" | "renameat" | "renameat2":
                if len(names) != 2:
                    raise PowerlossError(f"{call} of {name} into or out of the directory: cannot be replayed")
                self.operations.append(Renamed(names[0], names[1]))

    def _names(self, call: str, arguments: str) -> Iterator[str]:
        """The names inside the directory that a call is about, in order."""
        if call in ("open", "creat", "openat", "truncate", "rename", "renameat", "renameat2", "unlink", "unlinkat") or (
            call in _CANNOT_REPLAY and _STRING.search(arguments)
        ):
            bases = [_plain(match[2]) for match in _FD.finditer(arguments)] or [""]
            for number, path in enumerate(_strings(arguments)):
                full = Path(bases[min(number, len(bases) - 1)]) / os.fsdecode(path)
                if not full.is_absolute():
                    raise PowerlossError(f"{call} of a name relative to a directory that the tracer does not show")
                inside = self._relative(str(full))
                if inside is not None:
                    yield inside
            return
        for fd in _FD.finditer(arguments):
            inside = self._relative(fd[2])
            if inside is not None and fd[3] is None:
                yield inside

    def _relative(self, path: str) -> str | None:
        path = os.path.normpath(_plain(path))
        if path == self._directory:
            return "."
        return path.removeprefix(self._directory + "/") if path.startswith(self._directory + "/") else None


def _opened(call: str, name: str, arguments: str) -> Opened:
    given = "O_CREAT|O_TRUNC|O_WRONLY" if call == "creat" else _STRING.sub("", arguments)
    flags = set(re.split(r"[|, ]+", given))
    return Opened(
        name,
        create="O_CREAT" in flags,
        truncate="O_TRUNC" in flags,
        append="O_APPEND" in flags,
        readable="O_WRONLY" not in flags,
    )


def _offset(call: str, arguments: str) -> int:
    """The last argument; pwritev2 has flags behind it."""
    return int(arguments.rsplit(", ", 2)[1] if call == "pwritev2" else arguments.rpartition(", ")[2])


def _maps_for_writing(arguments: str) -> bool:
    return "PROT_WRITE" in arguments and "MAP_SHARED" in arguments


def _strings(arguments: str) -> list[bytes]:
    found = _STRING.findall(arguments)
    if any(cut for _, cut in found):
        raise PowerlossError("a write was longer than the tracer recorded")
    return [bytes.fromhex(text.replace("\\x", "")) for text, _ in found]


def _plain(path: str) -> str:
    """Newer tracers write paths of descriptors in hexadecimal too."""
    return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda match: os.fsdecode(bytes.fromhex(match[0].replace("\\x", ""))), path)
