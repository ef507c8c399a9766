"""The configuration file is right, or every one of its problems is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load
from edge_agent.errors import ConfigError

GOOD = """
terminal = "t-1"
journal_file = "journal.db"
[fleet]
host = "localhost"
port = 8883
ca = "ca.pem"
certificate = "t.pem"
key = "t.key"
[registry]
nix_url = "https://nix"
nix_ca = "pem"
nix_key = "pem"
registry_key = "pem"
trust_list = "trust.pem"
agency = "notary-association"
[reader]
name_prefix = "Reader"
[kiosk]
port = 0
[[offices]]
name = "دفتر ۴۱۷"
audience = "10380284790/0417"
office_class = "notary"
token_sha256 = "TOKEN"
[[offices.services]]
id = "notary.identity"
title_fa = "احراز هویت"
title_en = "Identity"
legal_basis = "basis"
min_loa = 2
""".replace("TOKEN", "0" * 64)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pem").write_text("a file")
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text))
    return refused.value.problems


def test_a_good_file_is_read_and_its_paths_begin_at_its_own_directory(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD))
    assert config.offices[0].services[0].min_loa == 2
    assert config.path("journal.db") == tmp_path / "journal.db"


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    wrong = GOOD.replace("port = 8883", "port = 0\ncolour = 1").replace('terminal = "t-1"', 'terminal = "T.1"')
    wrong = wrong.replace('trust_list = "trust.pem"\n', "").replace("min_loa = 2", "min_loa = 5")
    found = " | ".join(problems(tmp_path, wrong))
    for named in ("terminal: ", "fleet.port", "fleet.colour: unknown key", "registry.trust_list: missing", "offices"):
        assert named in found


@pytest.mark.parametrize("terminal", ["T-1", "a.b", "-a", "a/b", "x" * 41, "ترمینال"])
def test_a_terminal_id_that_could_not_be_a_topic_level_is_refused(tmp_path: Path, terminal: str) -> None:
    assert any("terminal" in problem for problem in problems(tmp_path, GOOD.replace("t-1", terminal)))


@pytest.mark.parametrize("text", ["", "not toml [", "x = 1\n" * 20_000])
def test_rubbish_and_too_much_of_it_is_a_problem_and_no_crash(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD.replace('nix_key = "pem"', 'nix_key = "gone"')) == ["registry: gone is not a file"]
