"""A second opinion on tokens from the `cwt` library, in a virtual environment of its own.

It cannot live in ours: it needs cbor2 below 6, and pip would silently take an ancient `cwt` to please both. The
environment is built once from `oracle.txt` (exact versions and hashes); `oracle_peer.py` runs in it and speaks lines
of JSON. `python -m tools.verifier.oracle --build` makes it ready beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parent.parent
REQUIREMENTS: Final = _HERE / "oracle.txt"
ENVIRONMENT: Final = _ROOT / ".govah" / "oracle"
_PEER: Final = _HERE / "oracle_peer.py"
_TIMEOUT_S: Final = 60
_BUILD_TIMEOUT_S: Final = 600


class OracleError(Exception):
    """The environment could not be built, or its program ended without an answer. `str()` has its last words."""


def build() -> Path:
    """The Python of the oracle's environment, built first if it is missing or not of these requirements.

    Raises:
        OracleError: pip could not install it.
    """
    stamp = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    held = ENVIRONMENT / "stamp"
    python = ENVIRONMENT / "bin" / "python"
    if held.is_file() and held.read_text() == stamp:
        return python
    # built beside and moved into place: a broken download or a second builder never leaves half an environment
    fresh = ENVIRONMENT.with_name(f"oracle.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(fresh)])
    install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(REQUIREMENTS)]
    _run([str(fresh / "bin" / "python"), *install])
    (fresh / "stamp").write_text(stamp)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    fresh.rename(ENVIRONMENT)
    return python


def ask(questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer per question, in order; see `oracle_peer.py` for both.

    Raises:
        OracleError: no environment, or fewer answers than questions.
    """
    lines = [json.dumps(question) for question in questions]
    output = _run([str(build()), "-I", str(_PEER)], given="\n".join(lines) + "\n", timeout_s=_TIMEOUT_S)
    answers = [json.loads(line) for line in output.splitlines()]
    if len(answers) != len(lines):
        raise OracleError(f"{len(answers)} answers to {len(lines)} questions")
    return answers


def _run(command: list[str], *, given: str | None = None, timeout_s: float = _BUILD_TIMEOUT_S) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s, check=True)
    except subprocess.CalledProcessError as exc:
        raise OracleError(f"{command[0]} ended with {exc.returncode}: {exc.stderr[-500:]}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise OracleError(f"{command[0]}: {exc}") from exc
    return done.stdout


def main() -> None:
    """Build the environment and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", action="store_true", required=True, help="build the environment if it is not there")
    parser.parse_args()
    print(build())


if __name__ == "__main__":
    main()
