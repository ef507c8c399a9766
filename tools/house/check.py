"""What `./run test`, `lint`, `bench` and `docs` do, in order, each with the command that a person would type."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_BIN: Final = Path(sys.executable).parent
_KINDS: Final = ("unit", "fault", "seeded", "bench")
_MARKED: Final = {
    "unit": "not fault and not seeded and not bench",
    "fault": "fault and not bench",
    "seeded": "seeded and not bench",
    "bench": "bench",
}
_LINTS: Final = (
    (_BIN / "ruff", "format", "--check", "--no-cache", "."),
    (_BIN / "ruff", "check", "--no-cache", "."),
    (_BIN / "mypy", "--cache-dir", ".govah/mypy"),
    (_BIN / "lint-imports", "--no-cache"),
    (sys.executable, "-m", "tools.house.lint"),
    (sys.executable, "-m", "tools.house.notices"),
    (sys.executable, "-m", "tools.house.requirements_page"),
    (sys.executable, "-m", "tools.verifier.corpus"),
)
_BENCHMARKS: Final = ROOT / "tools" / "bench"


def main() -> int:
    """Exit status 0 only if everything held."""
    parser = argparse.ArgumentParser(prog="./run")
    verbs = parser.add_subparsers(dest="verb", required=True)
    test = verbs.add_parser("test", help="everything that must hold")
    # argparse holds an empty list against `choices` too, so the kinds are checked below
    test.add_argument("kinds", nargs="*", metavar="|".join(_KINDS), help="only these; without any: lint and all")
    test.add_argument("--long", action="store_true", help="with what takes longer than a change should wait for")
    test.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the kind seeded; printed")
    for verb in ("lint", "docs"):
        verbs.add_parser(verb)
    bench = verbs.add_parser("bench")
    bench.add_argument("names", nargs="*", help="only these benchmarks")
    arguments = parser.parse_args()
    unknown = set(getattr(arguments, "kinds", ())) - set(_KINDS)
    if unknown:
        parser.error(f"no such kind of test: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)
    match arguments.verb:
        case "lint":
            return _all(_LINTS)
        case "bench":
            return _benchmarks(arguments.names)
        case "docs":
            return _all([(sys.executable, "-m", "tools.house.docs")])
        case _:
            return _test(arguments.kinds, long=arguments.long, seed=arguments.seed)


def _test(kinds: Sequence[str], *, long: bool, seed: int) -> int:
    failed = 0
    if not kinds:
        failed |= _all(_LINTS)
    failed |= _all([(sys.executable, "-m", "tools.verifier.oracle", "--build")])
    for kind in kinds or _KINDS:
        failed |= _pytest(kind, long=long, seed=seed)
    return failed


def _pytest(kind: str, *, long: bool, seed: int) -> int:
    expression = f"({_MARKED[kind]})" + ("" if long else " and not long")
    command = [str(_BIN / "pytest"), "-q", "-m", expression]
    if kind == "unit":
        command += ["-n", "2"]
    if kind == "seeded":
        command += ["-n", "2", f"--hypothesis-seed={seed}", f"--hypothesis-profile={'long' if long else 'house'}"]
    return _run(command)


def _benchmarks(names: Sequence[str]) -> int:
    found = {path.stem: path for path in sorted(_BENCHMARKS.glob("[a-z]*.py"))}
    unknown = set(names) - set(found)
    if unknown:
        sys.stderr.write(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(found)}\n")
        return 2
    return _all([(sys.executable, "-m", f"tools.bench.{name}") for name in names or found])


def _all(commands: Sequence[Sequence[str | Path]]) -> int:
    """Run every command, also after one that failed, so that one look shows everything."""
    return max([_run(list(map(str, command))) for command in commands], default=0)


def _run(command: list[str]) -> int:
    sys.stderr.write(f"· {' '.join(Path(word).name if i == 0 else word for i, word in enumerate(command))}\n")
    started = time.monotonic()
    status = subprocess.run(command, check=False).returncode
    sys.stderr.write(f"  {'ok' if status == 0 else f'FAILED ({status})'}, {time.monotonic() - started:.0f} s\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
