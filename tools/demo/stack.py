"""Every process of the system, each real, each startable and killable by name. Nothing here knows what is played."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tools.demo.process import Process
from tools.pcscd import READER_NAME, PrivatePcscd
from tools.simulators import issuer

ROOT: Final = Path(__file__).resolve().parents[2]
VPCD_LIBRARY: Final = ROOT / ".govah/vpcd/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
AUDIENCE: Final = "10380284790/0417"
SERVICE: Final = "notary.identity"
MARK_INTERVAL_S: Final = 2
HEALTH_INTERVAL_S: Final = 2
CONTROL_ANSWER_WITHIN_S: Final = 5.0
OFFICE_ANSWER_WITHIN_S: Final = 70.0
"""Longer than the longest long poll."""


class StackError(Exception):
    """A command of ours failed while the stack was put together; its last words are in the message."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """`fast` takes the simulators' realistic delays away."""

    directory: Path
    seed: int
    fast: bool = False
    terminal: str = "demo-0001"
    vpcd_library: Path = VPCD_LIBRARY


@dataclass(frozen=True, slots=True)
class _Spec:
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)


class Stack:
    """The running system. Processes are named card, registry, nix, broker, ingest, est, web, agent."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self.directory = options.directory
        self.fleet_dir = options.directory / "fleet"
        self.agent_dir = options.directory / "terminal"
        self.office_token = secrets.token_urlsafe(24)
        self.fleet: dict[str, Any] = {}
        self.processes: dict[str, Process] = {}
        self._specs: dict[str, _Spec] = {}
        self._pcscd: PrivatePcscd | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, options: StackOptions) -> AsyncIterator[Stack]:
        """An empty stack; leaving ends every process that was started through it."""
        stack = cls(options)
        try:
            yield stack
        finally:
            for process in reversed(list(stack.processes.values())):
                await process.stop()

    @property
    def pcscd(self) -> PrivatePcscd:
        if self._pcscd is None:
            raise StackError("the card service is not started")
        return self._pcscd

    @property
    def kiosk(self) -> str:
        """Base URL of the terminal's page and office API."""
        return str(self.processes["agent"].ready["kiosk"])

    @property
    def card_socket(self) -> Path:
        return self.directory / "card.sock"

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[None]:
        """The private card service, with an empty reader."""
        async with PrivatePcscd.start(self.directory / "pcscd", self.options.vpcd_library) as pcscd:
            self._pcscd = pcscd
            yield

    async def start_card(self) -> None:
        """The citizen's card, still in the hand."""
        command = self._govah("sim", "card", "--port", self.pcscd.port, "--number", self.options.seed, "--absent")
        command += ["--state", str(self.directory / "card"), "--control", str(self.card_socket)]
        await self.launch("card", _Spec(command + self._fast(), prefix=self.pcscd.enter))

    async def start_registry(self) -> None:
        """The civil registry, and the national exchange in front of it."""
        terminal_ca = str(self.fleet["ca"])
        # ports are fixed for the life of the stack, so that each can be killed and started again in its place
        command = self._govah("sim", "registry", "--data", self.directory / "registry", "--port", free_port())
        registry = await self.launch("registry", _Spec([*command, "--terminal-ca", terminal_ca, *self._fast()]))
        command = self._govah("sim", "nix", "--data", self.directory / "nix", "--port", free_port())
        command += ["--registry", registry.ready["url"], "--registry-ca", registry.ready["ca"]]
        command += ["--registry-client", registry.ready["client"]]
        await self.launch("nix", _Spec([*command, "--terminal-ca", terminal_ca, *self._fast()]))

    async def start_fleet(self) -> None:
        """The fleet server, made anew, then its four processes; the ingest is ready once the broker has let it in."""
        intervals = ("--mark-interval", MARK_INTERVAL_S, "--health-interval", HEALTH_INTERVAL_S)
        self.fleet = await self.govah_json("fleet", "init", "--data-dir", self.fleet_dir, *intervals, "--json")
        for role in ("broker", "ingest", "est", "web"):
            await self.launch(role, _Spec(self._govah("fleet", "serve", role, "--data-dir", self.fleet_dir)))

    async def enrol(self, terminal: str, directory: Path) -> None:
        """List `terminal`, take its one-time code, and have the agent make its key and get its certificate."""
        config = self._write_agent_config(terminal, directory)
        listed = await self.govah_json("fleet", "add", terminal, "--data-dir", self.fleet_dir, "--json")
        command = [sys.executable, "-m", "edge_agent", "enrol", str(config), "--est", str(self.fleet["est"])]
        await run_to_end(command, stdin=listed["code"] + "\n")

    async def start_agent(self) -> None:
        """The terminal, enrolled before."""
        command = [sys.executable, "-m", "edge_agent", "run", str(self.agent_dir / "agent.toml")]
        await self.launch("agent", _Spec(command, env={"PCSCLITE_CSOCK_NAME": self.pcscd.socket}))

    async def launch(self, name: str, spec: _Spec | None = None) -> Process:
        """Start process `name`, or start it again as it was started before."""
        spec = spec or self._specs[name]
        self._specs[name] = spec
        env = {"PYTHONPATH": str(ROOT), **spec.env}
        log = self.directory / "logs" / f"{name}.log"
        process = await Process.start(name, spec.command, log=log, env=env, prefix=spec.prefix)
        self.processes[name] = process
        return process

    async def kill(self, name: str) -> None:
        """SIGKILL, and nothing is told to anyone."""
        await self.processes[name].kill()

    async def card(self, **order: Any) -> dict[str, Any]:
        """Give the card simulator an order (`do="insert"`, `"pull"`, `"pull_at"`, `"status"`, …); its answer."""
        async with asyncio.timeout(CONTROL_ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_unix_connection(str(self.card_socket))
            try:
                writer.write(json.dumps(order).encode() + b"\n")
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
                await writer.wait_closed()
        if not isinstance(answer, dict):
            raise StackError("the card simulator gave no object")
        return answer

    async def office(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of the terminal's office API, as the office's own software makes it.

        Raises:
            StackError: it was refused.
            httpx.TransportError: the terminal cannot be reached.
        """
        headers = {"authorization": f"Bearer {self.office_token}"}
        async with httpx.AsyncClient(base_url=self.kiosk, headers=headers, trust_env=False) as client:
            answer = await client.request(method, path, json=body, timeout=OFFICE_ANSWER_WITHIN_S)
        if answer.is_error:
            raise StackError(f"{method} {path}: HTTP {answer.status_code} {answer.text[:300]}")
        found = answer.json()
        if not isinstance(found, dict):
            raise StackError("the office API gave no object")
        return found

    async def govah_json(self, *words: object) -> dict[str, Any]:
        """Run a `govah` command to its end and read the JSON object that it prints."""
        printed = json.loads(await run_to_end(self._govah(*words)))
        if not isinstance(printed, dict):
            raise StackError("the command printed no object")
        return printed

    def _govah(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "tools", *map(str, words)]

    def _fast(self) -> list[str]:
        return ["--fast"] if self.options.fast else []

    def _write_agent_config(self, terminal: str, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "trust-list.pem").write_bytes(issuer.trust_list_pem())
        registry, nix = self.processes["registry"].ready, self.processes["nix"].ready
        sections: dict[str, dict[str, object]] = {
            "": {"terminal": terminal, "journal_file": "journal.db"},
            "fleet": {
                "host": self.fleet["broker"]["host"],
                "port": self.fleet["broker"]["port"],
                "ca": str(self.fleet["ca"]),
                "certificate": "terminal.pem",
                "key": "terminal.key",
                "health_interval_s": HEALTH_INTERVAL_S,
                "retry_base_s": 0.5,
                "retry_cap_s": 10,
            },
            "registry": {
                "nix_url": nix["url"],
                "nix_ca": nix["ca"],
                "nix_key": nix["key"],
                "registry_key": registry["registry_key"],
                "trust_list": "trust-list.pem",
                "agency": "notary-association",
            },
            "reader": {"name_prefix": READER_NAME},
            "kiosk": {"port": 0},
        }
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]"] if name else []
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        path = directory / "agent.toml"
        path.write_text("\n".join(lines) + "\n" + self._office_toml(), encoding="utf-8")
        return path

    def _office_toml(self) -> str:
        digest = hashlib.sha256(self.office_token.encode()).hexdigest()
        return f"""
[[offices]]
name = "دفتر اسناد رسمی ۴۱۷ تهران"
audience = "{AUDIENCE}"
office_class = "notary"
token_sha256 = "{digest}"

[[offices.services]]
id = "{SERVICE}"
title_fa = "احراز هویت برای تنظیم سند"
title_en = "Identity for a notarial deed"
legal_basis = "1400-55282-3"
min_loa = 2
"""


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def run_to_end(command: list[str], stdin: str = "") -> str:
    """Run to the end; its standard output.

    Raises:
        StackError: it failed.
    """
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    said, complained = await child.communicate(stdin.encode())
    if child.returncode:
        raise StackError(f"{' '.join(command[2:5])}: {complained.decode(errors='replace')[-600:].strip()}")
    return said.decode()
