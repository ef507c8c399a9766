"""One child process: started so that it cannot outlive us, ready when it says so, ended by its own pid."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

READY_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 10.0


class ProcessFailedError(Exception):
    """A process did not become ready, or ended before it was told to. The tail of its log is in the message."""


class Process:
    """A running child. `ready` is the JSON object that it printed when it could be used."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.ready: dict[str, Any] = {}
        self._child = child
        self._drain: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Process:
        """Start `command` and wait for its ready line on standard output; standard error goes to `log`.

        `prefix` comes before the command, for example to enter a namespace. If this process dies, so does the child.

        Raises:
            ProcessFailedError: it ended, or said nothing within `READY_WITHIN_S`.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "--", *prefix, *map(str, command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        process = cls(name, child, log)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                process.ready = await process._ready_line()
        except (TimeoutError, ValueError) as exc:
            await process.kill()
            raise ProcessFailedError(f"{name} did not become ready: {process.tail()}") from exc
        process._drain = asyncio.create_task(process._forward())
        return process

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL if it does not end; harmless when it has ended."""
        if self.alive:
            self._child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._child.wait()
        except TimeoutError:
            await self.kill()
        await self._stop_draining()

    async def kill(self) -> None:
        """SIGKILL, as a power cut does to a process."""
        if self.alive:
            self._child.kill()
        await self._child.wait()
        await self._stop_draining()

    def tail(self) -> str:
        """The last words in the log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-800:].strip()

    async def _ready_line(self) -> dict[str, Any]:
        while True:
            line = await self._line()
            if line.startswith(b"{"):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found

    async def _line(self) -> bytes:
        if self._child.stdout is None:
            raise ValueError("no standard output")
        line = await self._child.stdout.readline()
        if not line:
            raise ValueError("ended")
        return line

    async def _forward(self) -> None:
        """What it says later goes to the log too, so that its pipe never fills."""
        if self._child.stdout is None:
            return
        while chunk := await self._child.stdout.read(65536):
            with self.log.open("ab") as log:
                log.write(chunk)

    async def _stop_draining(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.wait({self._drain})
            self._drain = None
