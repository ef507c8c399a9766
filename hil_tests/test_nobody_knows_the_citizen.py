"""Nothing that the card says of its holder reaches the broker, the fleet's files, the terminal's disk or any log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.bench import Bench
from tools.simulators import issuer

pytestmark = [pytest.mark.bench, pytest.mark.asyncio(loop_scope="session")]


def spellings(value: str) -> Iterator[bytes]:
    """The ways in which a value could have been written down."""
    persian = value.translate({ord("0") + n: 0x06F0 + n for n in range(10)})
    for text in {value, value.upper(), persian, value.replace("-", "")}:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            raw = text.encode(encoding)
            yield raw
            yield raw.hex().encode()
            yield text.encode("unicode-escape")


def found_in(directory: Path, values: dict[str, str]) -> list[str]:
    """Which value stands in which file, by name of the value only."""
    hits = []
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            hits += [
                f"{name} in {path.relative_to(directory)}"
                for name, value in values.items()
                if any(spelling in content for spelling in spellings(value))
            ]
    return hits


@pytest.mark.requirement("A9")
async def test_no_value_of_the_card_and_no_tracking_code_reaches_fleet_broker_or_log(bench: Bench) -> None:
    end = await bench.whole_visit()
    assert end.state == "done"
    await bench.until_stored_visits(1)
    personal = dict(issuer.personalise(bench.description.citizen).printed)
    personal.pop("expiry")
    secret = personal | {"tracking code": end.body["tracking_code"], "act": "1405/1"}
    assert found_in(bench.stack.fleet_dir, secret) == []
    assert found_in(bench.stack.directory / "logs", secret) == []
    assert found_in(bench.stack.directory / "pcscd", personal) == []
    assert found_in(bench.stack.agent_dir, personal) == []


async def test_the_search_finds_a_value_that_is_planted(bench: Bench, tmp_path: Path) -> None:
    personal = dict(issuer.personalise(bench.description.citizen).printed)
    for number, spelling in enumerate(spellings(personal["national_number"])):
        planted = tmp_path / str(number)
        planted.mkdir()
        (planted / "file").write_bytes(b"..." + spelling + b"...")
        assert found_in(planted, personal) != []
