"""A private card service: Debian's own `pcscd` with one simulated reader, in mount and network namespaces of its own.

So it never meets the machine's own daemon, several run side by side, and the simulated reader's port, which its driver
opens on *all* addresses, exists on no address of the host. Nothing of it outlives the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

READER_NAME: Final = "Govah Simulated Reader"
"""pcscd appends two numbers that depend on the order of start: match by prefix, never by the full name."""

PORT: Final = 35963
"""Where a simulated card connects, on 127.0.0.1 inside. The driver's second slot, one port higher, stays empty."""

_PACKAGES: Final = {
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "pcscd": "pcscd",
    "setpriv": "util-linux",
    "sh": "dash",
    "unshare": "util-linux",
}
_DRIVER: Final = "/run/pcscd/libifdvpcd.so"
"""Where the daemon finds the driver: inside the namespace, because reader.conf knows no path with a blank in it."""
_HOLD: Final = (
    "mkdir -p /run/pcscd && { mount --make-rprivate / 2>/dev/null"
    " || { mount --bind /run/pcscd /run/pcscd && mount --make-private /run/pcscd; }; }"
    " && mount -t tmpfs -o mode=755 tmpfs /run/pcscd"
    f' && cp "$1" {_DRIVER} && ip link set lo up && echo held && exec cat'
)
"""`cat` ends when its standard input closes, that is when we are gone; it holds the namespaces until then.

In a chroot, / is no mount of its own and cannot be made private; then the one directory is.
"""
_NAMES: Final = "from edge_agent.pcsc import reader_names; print(*reader_names(), sep='\\n')"
_LISTENING: Final = "0A"
_READY_S: Final = 15.0
_END_S: Final = 5.0
_LOOK_S: Final = 0.02


class PcscdError(Exception):
    """The private card service cannot run here; the text says what is missing."""


class PrivatePcscd:
    """One running private pcscd. Made by `start`.

    All of it must stay in the thread that called `start`: the processes end with that thread (PR_SET_PDEATHSIG).
    """

    def __init__(self, directory: Path, vpcd_library: Path, holder: Process) -> None:
        self._directory = directory
        self._library = vpcd_library
        self._holder = holder
        self._pcscd: Process | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, directory: Path, vpcd_library: Path) -> AsyncIterator[PrivatePcscd]:
        """Start, wait until the simulated reader is listed, and end everything on leaving.

        `directory` (made when absent) gets `reader.conf`, `pcscd.log` and `holder.log`. `vpcd_library` is
        `libifdvpcd.so`. Raises `PcscdError` when this machine cannot do it.
        """
        driver = _demand(vpcd_library)
        directory = _furnish(directory)
        with (directory / "holder.log").open("wb") as log:
            holder = await asyncio.create_subprocess_exec(
                *_dies_with_us(), "unshare", "-m", "-n", "--propagation", "unchanged", "--",
                "sh", "-c", _HOLD, "sh", str(driver),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment(),
            )  # fmt: skip
        here = cls(directory, vpcd_library, holder)
        try:
            await here._held()
            await here.restart()
            yield here
        finally:
            await here._end()

    @property
    def socket(self) -> str:
        """What `PCSCLITE_CSOCK_NAME` must be for a client; the same across restarts."""
        return f"/proc/{self._holder.pid}/root/run/pcscd/pcscd.comm"

    @property
    def port(self) -> int:
        """Where a simulated card connects, on 127.0.0.1, started with `enter` in front of its command."""
        return PORT

    @property
    def enter(self) -> list[str]:
        """Command prefix that runs a program inside the network namespace, as a child that dies with its parent."""
        return [*_dies_with_us(), "nsenter", "-t", str(self._holder.pid), "-n", "--"]

    @property
    def pid(self) -> int:
        """The daemon's process id. Raises `PcscdError` while it is killed."""
        if self._pcscd is None:
            raise PcscdError("the private pcscd is not running")
        return self._pcscd.pid

    def versions(self) -> dict[str, str]:
        """What is installed: `pcscd` (the daemon's own word) and `vpcd` (the driver library's number)."""
        said = subprocess.run(["pcscd", "--version"], capture_output=True, check=False, text=True, env=_environment())
        first = said.stdout.partition("\n")[0]
        return {
            "pcscd": first.removeprefix("pcsc-lite version ").rstrip("."),
            "vpcd": self._library.resolve().name.partition(".so.")[2] or "unknown",
        }

    async def kill(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        """End the daemon and wait for its end. The namespaces, and whoever entered them, stay."""
        if self._pcscd is not None:
            await _ended(self._pcscd, with_signal)
            self._pcscd = None

    async def restart(self) -> None:
        """Kill if needed, start, and wait until the simulated reader is listed.

        A card that was connected must connect anew. Raises `PcscdError` when the reader does not come.
        """
        await self.kill()
        with (self._directory / "pcscd.log").open("ab") as log:
            self._pcscd = await asyncio.create_subprocess_exec(
                *_dies_with_us(), "nsenter", "-t", str(self._holder.pid), "-m", "-r", "-n", "--",
                "pcscd", "--foreground", "--info", *_unguarded(), "--config", str(self._directory / "reader.conf"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=_environment() | {"PCSCLITE_HP_DROPDIR": str(self._directory / "drivers")},
            )  # fmt: skip
        async with _limit("the simulated reader did not appear", self._directory / "pcscd.log"):
            while not self._listening() or not await self._listed():
                if self._pcscd.returncode is not None:
                    raise PcscdError(f"pcscd ended at once: {_last_words(self._directory / 'pcscd.log')}")
                await asyncio.sleep(_LOOK_S)

    async def _held(self) -> None:
        log = self._directory / "holder.log"
        async with _limit("the namespaces were not made", log):
            said = await self._holder.stdout.readline() if self._holder.stdout else b""
        if said != b"held\n":
            raise PcscdError(f"this machine refuses a private namespace: {_last_words(log)}")

    def _listening(self) -> bool:
        lines = Path(f"/proc/{self._holder.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        fields = [line.split() for line in lines]
        return any(each[1].endswith(f":{PORT:04X}") and each[3] == _LISTENING for each in fields)

    async def _listed(self) -> bool:
        """Ask the daemon itself. In a process of its own, because libpcsclite reads the socket's name only once."""
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _NAMES,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_environment() | {"PCSCLITE_CSOCK_NAME": self.socket},
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        try:
            names, _ = await asking.communicate()
        finally:
            if asking.returncode is None:
                asking.kill()
                await asking.wait()
        return any(name.startswith(READER_NAME) for name in names.decode().splitlines())

    async def _end(self) -> None:
        try:
            await self.kill()
        finally:
            if self._holder.stdin is not None:
                self._holder.stdin.close()
            await _ended(self._holder, signal.SIGKILL)


def _dies_with_us() -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--"]


def _environment() -> dict[str, str]:
    """Ours, with the system directories on the path: pcscd and ip live there, and not everyone's path names them."""
    return dict(os.environ) | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}


def _unguarded() -> list[str]:
    """From Debian 13 on pcscd asks polkit about every client. Nobody but its own user reaches a private one."""
    said = subprocess.run(["pcscd", "--help"], capture_output=True, check=False, text=True, env=_environment())
    return ["--disable-polkit"] if "--disable-polkit" in said.stdout + said.stderr else []


def _demand(vpcd_library: Path) -> Path:
    """The driver's absolute path, once everything is there that is needed."""
    path = _environment()["PATH"]
    missing = {package for program, package in _PACKAGES.items() if shutil.which(program, path=path) is None}
    if missing:
        raise PcscdError(f"install these Debian packages first: {', '.join(sorted(missing))}")
    if not vpcd_library.is_file():
        raise PcscdError(f"the simulated reader's driver is not at {vpcd_library}; ./run unpacks it")
    if os.geteuid() != 0:
        raise PcscdError("a private card service needs root, for a namespace of its own; run this as root")
    return vpcd_library.resolve()


def _furnish(directory: Path) -> Path:
    directory = directory.resolve()
    (directory / "drivers").mkdir(parents=True, exist_ok=True)
    (directory / "reader.conf").write_text(
        f'FRIENDLYNAME "{READER_NAME}"\nDEVICENAME /dev/null:0x{PORT:04X}\nLIBPATH {_DRIVER}\nCHANNELID 0x{PORT:04X}\n',
        encoding="ascii",
    )
    return directory


@contextlib.asynccontextmanager
async def _limit(sentence: str, log: Path) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_READY_S):
            yield
    except TimeoutError as late:
        raise PcscdError(f"{sentence} within {_READY_S:.0f} s: {_last_words(log)}") from late


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "nothing was said"


async def _ended(process: Process, with_signal: signal.Signals) -> None:
    """Signal, wait, and after a limit kill."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(with_signal)
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
