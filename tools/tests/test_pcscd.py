"""The private card service: alone, side by side, and gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tools import pcscd as module
from tools.pcscd import PORT, READER_NAME, PcscdError, PrivatePcscd

ROOT = Path(__file__).parents[2]
VPCD = ROOT / ".govah/vpcd/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
START_AND_STAY = f"""
import asyncio, subprocess, sys
from pathlib import Path
from tools.pcscd import PrivatePcscd
async def main():
    async with PrivatePcscd.start(Path(sys.argv[1]), Path({str(VPCD)!r})) as pcscd:
        inside = subprocess.Popen([*pcscd.enter, "sleep", "600"])
        print(pcscd.pid, pcscd.socket.split("/")[2], inside.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def said_by(*command: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | environment
    )
    said, _ = await process.communicate()
    return said.decode()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def network_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def mounts_here() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def ends(pid: int) -> None:
    async with asyncio.timeout(10):
        while alive(pid):  # noqa: ASYNC110 - somebody else's child has no event
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def started(directory: Path) -> AsyncIterator[PrivatePcscd]:
    async with PrivatePcscd.start(directory, VPCD) as pcscd:
        yield pcscd


# -- what is missing is said ---------------------------------------------------------------------------------------


async def test_missing_programs_are_named_by_their_debian_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name in {"pcscd", "ip"} else f"/usr/bin/{name}")
    with pytest.raises(PcscdError, match="iproute2, pcscd"):
        async with PrivatePcscd.start(tmp_path, VPCD):
            pytest.fail("started")


async def test_a_missing_driver_is_named_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: f"/usr/bin/{name}")
    with pytest.raises(PcscdError, match=r"nowhere\.so"):
        async with PrivatePcscd.start(tmp_path, tmp_path / "nowhere.so"):
            pytest.fail("started")


async def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "driver.so").touch()
    with pytest.raises(PcscdError, match="root"):
        async with PrivatePcscd.start(tmp_path, tmp_path / "driver.so"):
            pytest.fail("started")


# -- on the real parts ---------------------------------------------------------------------------------------------


@pytest.mark.bench
async def test_a_machine_that_refuses_namespaces_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HOLD", "echo 'mount: permission denied' >&2; exit 1")
    with pytest.raises(PcscdError, match="permission denied"):
        async with started(tmp_path):
            pytest.fail("started")


@pytest.mark.bench
async def test_a_driver_that_is_none_is_reported_with_the_daemons_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READY_S", 1.0)
    (tmp_path / "driver.so").write_text("not a library")
    with pytest.raises(PcscdError, match="did not appear"):
        async with PrivatePcscd.start(tmp_path, tmp_path / "driver.so"):
            pytest.fail("started")


@pytest.mark.bench
async def test_two_run_side_by_side_and_no_port_of_theirs_is_on_the_host(tmp_path: Path) -> None:
    async with started(tmp_path / "a") as first, started(tmp_path / "b") as second:
        assert first.socket != second.socket
        for pcscd in (first, second):
            assert READER_NAME in await said_by("opensc-tool", "-l", PCSCLITE_CSOCK_NAME=pcscd.socket)
            assert f":{PORT} " in await said_by(*pcscd.enter, "ss", "-ltn")
        on_the_host = await said_by("ss", "-ltn")
        assert "State" in on_the_host
        assert f":{PORT} " not in on_the_host
        assert f":{PORT + 1} " not in on_the_host


@pytest.mark.bench
async def test_a_restart_brings_the_reader_back_at_the_same_socket(tmp_path: Path) -> None:
    async with started(tmp_path) as pcscd:
        socket, pid = pcscd.socket, pcscd.pid
        await pcscd.kill()
        assert not alive(pid)
        with pytest.raises(PcscdError):
            _ = pcscd.pid
        for _ in range(3):
            await pcscd.restart()
            assert pcscd.socket == socket
            assert READER_NAME in await said_by("opensc-tool", "-l", PCSCLITE_CSOCK_NAME=socket)
        await pcscd.kill(signal.SIGTERM)


@pytest.mark.bench
async def test_it_leaves_no_process_no_mount_and_no_namespace(tmp_path: Path) -> None:
    mounts = mounts_here()
    async with started(tmp_path) as pcscd:
        holder, daemon = int(pcscd.socket.split("/")[2]), pcscd.pid
        assert network_of(daemon) == network_of(holder)
        assert network_of(daemon) != network_of(os.getpid())
        assert mounts_here() == mounts
    assert mounts_here() == mounts
    assert not alive(holder)
    assert not alive(daemon)
    assert (tmp_path / "pcscd.log").stat().st_size > 0


@pytest.mark.bench
@pytest.mark.fault
async def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START_AND_STAY, str(tmp_path), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await parent.stdout.readline()).split()]
    assert len(pids) == 3
    assert all(map(alive, pids))
    parent.kill()
    await parent.wait()
    for pid in pids:
        await ends(pid)


@pytest.mark.bench
async def test_the_versions_are_the_daemons_own_word(tmp_path: Path) -> None:
    async with started(tmp_path) as pcscd:
        versions = pcscd.versions()
    assert versions["pcscd"][0].isdigit()
    assert versions["vpcd"][0].isdigit()
