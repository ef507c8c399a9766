from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.simulators.card.memory import CardState, FileMemory, MemoryRefusedError


def test_what_is_committed_is_there_after_the_process(tmp_path: Path) -> None:
    with FileMemory.opened(tmp_path, 1) as memory:
        assert memory.state == CardState()
        memory.commit(CardState(pin1_tries=1, verdicts=7))
    with FileMemory.opened(tmp_path, 1) as memory:
        assert memory.state == CardState(pin1_tries=1, verdicts=7)


def test_the_file_is_whole_and_synced_before_commit_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    with FileMemory.opened(tmp_path, 1) as memory:
        synced.clear()
        memory.commit(CardState(pin1_tries=2))
        assert synced == [tmp_path / "card.json.new", tmp_path]


def test_a_crash_before_the_rename_leaves_the_old_state(tmp_path: Path) -> None:
    with FileMemory.opened(tmp_path, 1) as memory:
        memory.commit(CardState(pin1_tries=2))
    (tmp_path / "card.json.new").write_text('{"num')
    with FileMemory.opened(tmp_path, 1) as memory:
        assert memory.state.pin1_tries == 2


def test_two_processes_do_not_share_one_card(tmp_path: Path) -> None:
    with FileMemory.opened(tmp_path, 1), pytest.raises(MemoryRefusedError), FileMemory.opened(tmp_path, 1):
        pass


def test_the_state_of_another_card_is_refused(tmp_path: Path) -> None:
    with FileMemory.opened(tmp_path, 1):
        pass
    with pytest.raises(MemoryRefusedError), FileMemory.opened(tmp_path, 2):
        pass


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"number": 1, "other": 1}', '{"number": 1, "pin1_tries": 9}', '{"number": 1, "verdicts": "x"}'],
)
def test_a_file_that_is_no_state_is_refused_and_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(MemoryRefusedError), FileMemory.opened(tmp_path, 1):
        pass
    assert (tmp_path / "card.json").read_text() == content
