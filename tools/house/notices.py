"""THIRD_PARTY_NOTICES.md: whose work is in ours, made from the lock files and what the installed packages say.

`python -m tools.house.notices` compares, `--write` makes the file anew. The environment must be the development one,
because only that holds every package of every lock.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "THIRD_PARTY_NOTICES.md"
_LOCKS: Final = ("edge", "server", "tools", "dev")
_SHIPPED: Final = ("edge", "server", "tools")
_SHIPPED_FOLDERS: Final = ("wire", "edge_agent", "fleet_server", "tools")
_ORACLE: Final = ROOT / "tools" / "verifier" / "oracle.txt"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
_LICENCE_FILE = re.compile(r"(?i)(^|/)(licen[cs]e|copying|notice)[^/]*$")
_MAX_TEXT_BYTES: Final = 64 * 1024
_HEAD: Final = """# Third-party notices

Made by `./run docs` from `locks/*.txt` and from what each installed package says of itself; a test holds it current.

Govah is distributed under the Apache License 2.0 (`LICENSE`). It is distributed without these packages: they are
installed from the lock files. Debian's own packages (pcscd, Mosquitto, OpenSC and others) are installed by apt and
carry their licences in `/usr/share/doc`.
"""


class NoticesError(Exception):
    """A locked package is not installed, or in another version, or names no licence."""


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    groups: tuple[str, ...]
    licence: str
    home: str
    texts: tuple[str, ...]


def packages() -> list[Package]:
    """Every package of every lock, by name.

    Raises:
        NoticesError: see the class.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for group in _LOCKS:
        for name, version in _PINNED.findall((ROOT / "locks" / f"{group}.txt").read_text(encoding="utf-8")):
            groups.setdefault((name, version), []).append(group)
    return [_package(name, version, tuple(where)) for (name, version), where in sorted(groups.items())]


def _package(name: str, version: str, groups: tuple[str, ...]) -> Package:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError as exc:
        raise NoticesError(f"{name} is locked and not installed") from exc
    if distribution.version != version:
        raise NoticesError(f"{name} {version} is locked and {distribution.version} is installed")
    shipped = bool(set(groups) & set(_SHIPPED))
    texts = tuple(_texts(distribution)) if shipped else ()
    return Package(distribution.name, version, groups, _licence(distribution), _home(distribution), texts)


def _licence(distribution: metadata.Distribution) -> str:
    expression = _first(distribution, "License-Expression")
    if expression:
        return expression
    classified = [
        value.rpartition(" :: ")[2]
        for value in distribution.metadata.get_all("Classifier", [])
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    if classified:
        return ", ".join(classified)
    said = _first(distribution, "License")
    if said and "\n" not in said and len(said) <= 60:
        return said
    raise NoticesError(f"{distribution.name} names no licence")


def _first(distribution: metadata.Distribution, key: str) -> str:
    return str(next(iter(distribution.metadata.get_all(key, [])), "")).strip()


def _home(distribution: metadata.Distribution) -> str:
    links = {}
    for entry in distribution.metadata.get_all("Project-URL", []):
        label, _, link = entry.partition(",")
        links[re.sub(r"[^a-z]", "", label.lower())] = link.strip()
    wanted = ("homepage", "home", "source", "sourcecode", "repository", "github", "code", "documentation")
    found = [_first(distribution, "Home-page"), *(links.get(label, "") for label in wanted)]
    return next((link for link in found if link.startswith("https://")), "")


def _texts(distribution: metadata.Distribution) -> Iterator[str]:
    for file in sorted(distribution.files or [], key=str):
        if ".dist-info" not in str(file) or _LICENCE_FILE.search(str(file)) is None:
            continue
        path = Path(str(distribution.locate_file(file)))
        if path.is_file() and path.stat().st_size <= _MAX_TEXT_BYTES:
            yield _trimmed(path)


def _trimmed(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def vendored() -> list[Path]:
    """The licences beside the files that are kept in folders named ``vendor``."""
    found = (path for top in _SHIPPED_FOLDERS for path in (ROOT / top).rglob("vendor/*LICENSE*"))
    return sorted(found)


def text() -> str:
    """The whole file. A licence text that several packages share stands there once.

    Raises:
        NoticesError: see the class.
    """
    found = packages()
    numbers: dict[str, int] = {}
    for package in found:
        for licence in package.texts:
            numbers.setdefault(licence, len(numbers) + 1)
    lines = [
        _HEAD,
        "## Packages",
        "",
        "| package | version | group | licence | text | home |",
        "|---|---|---|---|---|---|",
    ]
    for package in found:
        where = ", ".join(f"[{numbers[licence]}](#text-{numbers[licence]})" for licence in package.texts)
        group = ", ".join(group for group in package.groups if group != "dev") or "dev"
        row = (package.name, package.version, group, package.licence, where or "with the package", package.home)
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "## Kept in the tree", "", "Other people's files that are part of this repository, unchanged.", ""]
    for path in vendored():
        lines += [f"### `{path.relative_to(ROOT).as_posix()}`", "", "````text", _trimmed(path), "````", ""]
    lines += ["## Only for a test", "", "Installed apart by the verifier's second opinion, in exact versions:", ""]
    lines += [f"- {name} {version}" for name, version in _PINNED.findall(_ORACLE.read_text(encoding="utf-8"))]
    lines += ["", "## Licence texts of what the terminal, the server and the tools install", ""]
    for licence, number in numbers.items():
        of = ", ".join(package.name for package in found if licence in package.texts)
        lines += [f"### Text {number}", "", f"Of {of}.", "", "````text", licence, "````", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Compare or write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    made = text()
    if parser.parse_args().write:
        FILE.write_text(made, encoding="utf-8")
        return 0
    current = FILE.exists() and FILE.read_text(encoding="utf-8") == made
    print(f"{FILE.name}: {'current' if current else 'not current, run ./run docs'}")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
