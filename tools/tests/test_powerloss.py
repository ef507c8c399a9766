"""The tool must catch what a power cut breaks, and must not accuse what it does not break."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tools.powerloss import Crash, PowerlossError, Recording, crashes, disk, parse, record, replay, trace
from tools.powerloss.trace import Announced, Opened, Operation, Renamed, Resized, Synced, Unlinked, Written

SEED = 4711


def opened(name: str, *, truncate: bool = False) -> Opened:
    return Opened(name, create=True, truncate=truncate, append=False, readable=False)


def left_behind(*operations: Operation, before: dict[str, bytes] | None = None) -> set[tuple[tuple[str, bytes], ...]]:
    """Every directory that can be found after a cut at the very end."""
    recording = Recording(before or {}, operations)
    last = len(operations) - 1
    built = disk._Disk()
    for name, content in recording.before.items():
        inode = disk._Inode(safe=bytearray(content), size=len(content))
        built.names[name] = built.safe_names[name] = inode
    for number, operation in enumerate(operations):
        built.apply(number, operation)
    return {
        tuple(built.after_power_cut(contents, names, random.Random(seed)).items())
        for contents in disk.CONTENTS
        for names in disk.NAMES
        for seed in range(40)
        if last >= 0
    }


def contents_of(name: str, found: set[tuple[tuple[str, bytes], ...]]) -> set[bytes | None]:
    return {dict(files).get(name) for files in found}


def test_a_write_without_fsync_may_be_there_or_not() -> None:
    found = left_behind(opened("a"), Written("a", 0, b"word"), before={"a": b""})
    assert contents_of("a", found) == {b"", b"word"}


def test_a_write_with_fsync_is_always_there() -> None:
    found = left_behind(opened("a"), Written("a", 0, b"word"), Synced("a", 2), before={"a": b""})
    assert contents_of("a", found) == {b"word"}


def test_a_write_that_ran_beside_the_fsync_is_not_covered_by_it() -> None:
    found = left_behind(opened("a"), Written("a", 0, b"word"), Synced("a", 1), before={"a": b""})
    assert contents_of("a", found) == {b"", b"word"}


def test_a_new_file_may_be_gone_until_its_directory_is_synced() -> None:
    made = (opened("a"), Written("a", 0, b"word"), Synced("a", 2))
    assert contents_of("a", left_behind(*made)) == {None, b"word"}
    assert contents_of("a", left_behind(*made, Synced(".", 3))) == {b"word"}


def test_a_file_made_while_the_directory_was_being_synced_may_be_gone() -> None:
    made = (opened("a"), Written("a", 0, b"word"), Synced("a", 2), Synced(".", 0))
    assert contents_of("a", left_behind(*made)) == {None, b"word"}


def test_a_removed_file_may_come_back_with_what_was_safe() -> None:
    found = left_behind(opened("a"), Written("a", 0, b"new"), Unlinked("a"), before={"a": b"old"})
    assert {b"old", b"new", None} <= contents_of("a", found)
    assert contents_of("a", left_behind(Unlinked("a"), Synced(".", 1), before={"a": b"old"})) == {None}


def test_a_rename_over_a_file_without_fsync_may_leave_an_empty_one() -> None:
    swap = (opened("new"), Written("new", 0, b"2"), Renamed("new", "a"), Synced(".", 3))
    assert contents_of("a", left_behind(*swap, before={"a": b"1"})) == {b"", b"2"}
    safe = (opened("new"), Written("new", 0, b"2"), Synced("new", 2), Renamed("new", "a"))
    assert contents_of("a", left_behind(*safe, before={"a": b"1"})) == {b"1", b"2"}


def test_a_long_write_tears_at_sector_boundaries_only() -> None:
    data = bytes(range(1, 251)) * 8
    found = left_behind(opened("a"), Written("a", 100, data), before={"a": bytes(100)})
    ends = {len(content or b"") for content in contents_of("a", found)}
    assert ends == {100, 512, 1024, 1536, 2048, 2100}
    for content in contents_of("a", found):
        assert content is not None
        assert content[100:] == data[: len(content) - 100]


def test_of_several_unsynced_writes_any_may_be_missing() -> None:
    writes = [Written("a", place, bytes([place + 1])) for place in range(4)]
    found = contents_of("a", left_behind(opened("a"), *writes, before={"a": b""}))
    assert {b"", b"\x01\x02\x03\x04"} <= found
    assert any(content and content[0] == 0 for content in found), "a later write is there and the first is not"


def test_a_shorter_size_may_not_have_reached_the_disk() -> None:
    assert contents_of("a", left_behind(Resized("a", 1), before={"a": b"old"})) == {b"old", b"o"}
    assert contents_of("a", left_behind(opened("a", truncate=True), before={"a": b"old"})) == {b"old", b""}


def test_the_shared_memory_of_sqlite_is_never_found() -> None:
    assert left_behind(opened("a-shm"), Written("a-shm", 0, b"x"), Synced(".", 2), before={}) == {()}


def found(crash: Crash) -> tuple[tuple[str, bytes], ...]:
    return tuple((path.name, path.read_bytes()) for path in sorted(crash.directory.iterdir()))


def test_a_state_is_looked_at_once_and_the_same_seed_gives_the_same_states(tmp_path: Path) -> None:
    recording = Recording({}, (opened("a"), Written("a", 0, bytes(5000)), Announced(b"done\n"), Synced("a", 3)))
    first, again = (
        [(str(crash), crash.announced, found(crash)) for crash in crashes(recording, tmp_path, seed=SEED)]
        for _ in range(2)
    )
    assert first == again
    different = {(announced, files) for _, announced, files in first}
    assert len(first) == len(different) > 3
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_says_where_the_power_was_cut(tmp_path: Path) -> None:
    def refuse(crash: Crash) -> None:
        raise AssertionError("lost")

    with pytest.raises(AssertionError) as caught:
        replay(Recording({"a": b""}, (Written("a", 0, b"x"),)), tmp_path, refuse, seed=SEED)
    assert "after operation 0" in caught.value.__notes__[0]


def read(text: str, tmp_path: Path, announce: Path | None = None) -> tuple[Operation, ...]:
    log = tmp_path / "log"
    log.write_text(textwrap.dedent(text).lstrip() + "7 +++ exited with 0 +++\n")
    return parse(log, Path("/d"), before={}, process_id=7, announce=announce).operations


def hexed(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def test_lines_become_operations_in_the_order_in_which_the_calls_finished(tmp_path: Path) -> None:
    operations = read(
        f"""\
        7 openat(AT_FDCWD</home>, {hexed("/d/a")}, O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3</d/a>
        7 openat(AT_FDCWD</home>, {hexed("/etc/x")}, O_RDONLY) = 4</etc/x>
        7 openat(AT_FDCWD</d>, {hexed("b")}, O_WRONLY|O_APPEND) = 5</d/b>
        8 pwrite64(3</d/a>, {hexed("abc")}, 3, 10 <unfinished ...>
        7 fdatasync(3</d/a> <unfinished ...>
        8 <... pwrite64 resumed>) = 2
        7 <... fdatasync resumed>) = 0
        7 writev(5</d/b>, [{{iov_base={hexed("xy")}, iov_len=2}}, {{iov_base={hexed("z")}, iov_len=1}}], 2) = 3
        7 pwrite64(3</d/a>, {hexed("no")}, 2, 0) = -1 ENOSPC (No space left on device)
        7 write(1<pipe:[1]>, {hexed("done")}, 4) = 4
        7 close(3</d/a>) = 0
        7 rename({hexed("/d/a")}, {hexed("/d/c")}) = 0
        7 fsync(6</d>) = 0
        7 unlinkat(AT_FDCWD</d>, {hexed("c")}, 0) = 0
        7 write(3</d/c>(deleted), {hexed("late")}, 4) = 4
        """,
        tmp_path,
    )
    assert operations == (
        Opened("a", create=True, truncate=False, append=False, readable=True),
        Opened("b", create=False, truncate=False, append=True, readable=False),
        Written("a", 10, b"ab"),
        Synced("a", 2),
        Written("b", None, b"xyz"),
        Announced(b"done"),
        Renamed("a", "c"),
        Synced(".", 7),
        Unlinked("c"),
    )


def test_a_word_counts_as_given_when_its_write_began(tmp_path: Path) -> None:
    operations = read(
        f"""\
        7 write(1</tty>, {hexed("done")}, 4 <unfinished ...>
        8 fsync(3</d/a>) = 0
        7 <... write resumed>) = 4
        """,
        tmp_path,
    )
    assert operations == (Announced(b"done"), Synced("a", 1))


def test_only_the_named_file_announces_when_one_is_named(tmp_path: Path) -> None:
    lines = f"7 write(1</tty>, {hexed('no')}, 2) = 2\n        7 write(9</said>, {hexed('yes')}, 3) = 3\n"
    assert read(f"        {lines}", tmp_path, announce=Path("/said")) == (Announced(b"yes"),)


@pytest.mark.parametrize(
    "line",
    [
        "7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3</d/a>, 0) = 0x7f00",
        "7 fallocate(3</d/a>, 0, 0, 4096) = 0",
        "7 copy_file_range(3</etc/x>, NULL, 4</d/a>, NULL, 10, 0) = 10",
        f"7 linkat(AT_FDCWD</d>, {hexed('a')}, AT_FDCWD</d>, {hexed('b')}, 0) = 0",
        f"7 rename({hexed('/tmp/a')}, {hexed('/d/a')}) = 0",
        f"7 unlink({hexed('a')}) = 0",
        '7 pwrite64(3</d/a>, "\\x61"..., 100, 0) = 100',
        "strace: Process 7 attached",
    ],
)
def test_what_cannot_be_replayed_is_refused_and_not_left_out(line: str, tmp_path: Path) -> None:
    with pytest.raises(PowerlossError):
        read(line + "\n", tmp_path)


def test_sqlites_own_shared_memory_map_is_no_reason_to_refuse(tmp_path: Path) -> None:
    assert read("7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3</d/a-shm>, 0) = 0x7f00\n", tmp_path) == ()


def test_a_record_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("8 +++ exited with 0 +++\n")
    with pytest.raises(PowerlossError, match="ended"):
        parse(tmp_path / "log", Path("/d"), before={}, process_id=7, timeout_s=0.05)


def test_a_write_at_an_unknown_position_is_refused() -> None:
    recording = Recording(
        {"a": b""}, (Opened("a", create=False, truncate=False, append=False, readable=True), Written("a", None, b"x"))
    )
    with pytest.raises(PowerlossError, match="position"):
        list(disk.states(recording, seed=SEED))


# --- real programs under strace ---------------------------------------------------------------------------------------

TOY = """
    import os, sys
    directory, careful = sys.argv[1], set(sys.argv[2:])
    fd = os.open(os.path.join(directory, "records"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if "directory" in careful:
        above = os.open(directory, os.O_RDONLY)
        os.fsync(above)
    for number in range(4):
        os.write(fd, b"%04d" % number + b"." * 1020)
        if "file" in careful:
            os.fsync(fd)
        os.write(1, b"%d\\n" % number)
"""

SQLITE = """
    import os, sqlite3, sys
    directory, synchronous = sys.argv[1:]
    base = sqlite3.connect(os.path.join(directory, "facts.db"), isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA wal_autocheckpoint=6")
    base.execute(f"PRAGMA synchronous={synchronous}")
    base.execute("CREATE TABLE facts (seq INTEGER PRIMARY KEY, body BLOB)")
    for number in range(18):
        base.execute("BEGIN IMMEDIATE")
        base.execute("INSERT INTO facts (body) VALUES (?)", (b"%d" % number * 700,))
        base.execute("COMMIT")
        os.write(1, b"%d\\n" % (number + 1))
    base.close()
"""


def recorded(program: str, tmp_path: Path, *arguments: str) -> Recording:
    directory = tmp_path / "data"
    directory.mkdir()
    source = tmp_path / "program.py"
    source.write_text(textwrap.dedent(program))
    return record([sys.executable, "-I", str(source), str(directory), *arguments], directory, tmp_path / "log")


def replayed(recording: Recording, tmp_path: Path, check: Callable[[Crash], None]) -> int:
    return replay(recording, tmp_path / "crashes", check, seed=SEED)


def records_are_there(crash: Crash) -> None:
    path = crash.directory / "records"
    found = path.read_bytes() if path.exists() else b""
    for number in range(crash.announced.count(b"\n")):
        assert found[number * 1024 :][:4] == b"%04d" % number, f"record {number} was announced and is lost"


def facts_are_there(crash: Crash) -> None:
    """What was announced is in the file, nothing is in it twice or half, and what is there has no gap."""
    path = crash.directory / "facts.db"
    promised = crash.announced.count(b"\n")
    if not path.exists():
        assert not promised, "the file itself is lost"
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = base.execute("SELECT count(*) FROM sqlite_master WHERE name = 'facts'").fetchone()
        rows = base.execute("SELECT seq, body FROM facts ORDER BY seq").fetchall() if tables != (0,) else []
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
    assert all(body == b"%d" % (seq - 1) * 700 for seq, body in rows)
    assert len(rows) >= promised, f"{promised} commits were announced, {len(rows)} are left"


@pytest.mark.bench
def test_a_program_that_announces_without_fsync_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="announced and is lost"):
        replayed(recorded(TOY, tmp_path, "directory"), tmp_path, records_are_there)


@pytest.mark.bench
def test_a_program_that_forgets_the_directory_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="announced and is lost"):
        replayed(recorded(TOY, tmp_path, "file"), tmp_path, records_are_there)


@pytest.mark.bench
def test_a_program_that_syncs_file_and_directory_is_not_accused(tmp_path: Path) -> None:
    assert replayed(recorded(TOY, tmp_path, "file", "directory"), tmp_path, records_are_there) > 12


@pytest.mark.bench
def test_sqlite_in_wal_mode_with_full_never_loses_an_announced_commit(tmp_path: Path) -> None:
    assert replayed(recorded(SQLITE, tmp_path, "FULL"), tmp_path, facts_are_there) > 300


@pytest.mark.bench
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_sqlite_with_less_than_full_is_caught(synchronous: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        replayed(recorded(SQLITE, tmp_path, synchronous), tmp_path, facts_are_there)


@pytest.mark.bench
def test_sqlite_with_normal_loses_the_newest_commits_and_nothing_else(tmp_path: Path) -> None:
    def whole(crash: Crash) -> None:
        facts_are_there(Crash(crash.directory, b"", crash.after, crash.contents, crash.names))

    assert replayed(recorded(SQLITE, tmp_path, "NORMAL"), tmp_path, whole) > 200


@pytest.mark.bench
def test_a_program_that_fails_is_not_taken_for_a_recording(tmp_path: Path) -> None:
    with pytest.raises(PowerlossError, match="ended with 3"):
        recorded("raise SystemExit(3)", tmp_path)


@pytest.mark.bench
def test_the_recorded_program_has_its_own_process_id(tmp_path: Path) -> None:
    started = subprocess.Popen(trace.traced(["/bin/sleep", "60"], tmp_path / "log"))
    started.terminate()
    assert started.wait(timeout=20) == -15
