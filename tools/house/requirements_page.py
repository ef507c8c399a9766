"""docs/requirements.md: every row that the law asks, and the tests that prove it.

A test cites a row with ``@pytest.mark.requirement("B5")``. `python -m tools.house.requirements_page` compares,
`--write` makes the page anew. The rows and their meaning stand in `requirements.toml` beside this file.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.house.lint import ROOT, Source, Tree, read_tree

FILE: Final = ROOT / "docs" / "requirements.md"
_DATA: Final = Path(__file__).with_name("requirements.toml")
_HEAD: Final = """# What the law asks, and what proves it

Made by `./run docs` from the marks in the tests; a test holds it current. A row is proved as far as the named tests
go, and no further: their names are sentences and say how far that is.

Decrees: **000** the circular that forbids copies; **001** the news on it; **002** the e-services regulation of 1393;
**003** the smart card resolution of 1400; **004** the 38th session on interoperability, with the regulation of 1397.
"""


class UnknownRowError(Exception):
    """A test cites a row that is not in the list."""


def rows() -> dict[str, dict[str, str]]:
    """Id to ``decree`` and ``meaning``, in the order of the file."""
    with _DATA.open("rb") as file:
        return tomllib.load(file)


def proofs(tree: Tree) -> dict[str, list[tuple[str, str]]]:
    """Id to the (path, test) pairs that cite it.

    Raises:
        UnknownRowError: a test cites an id that `rows` does not have.
    """
    found: dict[str, list[tuple[str, str]]] = {row: [] for row in rows()}
    for source in tree.files:
        if source.test:
            for test, row in _cited(source):
                if row not in found:
                    raise UnknownRowError(f"{source.path}: {test} cites {row}, which is no row")
                if (source.path, test) not in found[row]:
                    found[row].append((source.path, test))
    return found


def _cited(source: Source) -> Iterator[tuple[str, str]]:
    for_all = [
        row
        for node in source.tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(to, ast.Name) and to.id == "pytestmark" for to in node.targets)
        for row in _ids(node.value)
    ]
    for node, above in _tests(source.tree, []):
        own = [row for decorator in node.decorator_list for row in _ids(decorator)]
        for row in [*for_all, *above, *own]:
            yield node.name, row


def _tests(
    inside: ast.Module | ast.ClassDef, above: list[str]
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, list[str]]]:
    for node in inside.body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node, [*above, *(row for decorator in node.decorator_list for row in _ids(decorator))])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node, above


def _ids(marks: ast.AST) -> Iterator[str]:
    """The texts inside every ``….requirement("…")`` below `marks`."""
    for node in ast.walk(marks):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


def text(tree: Tree | None = None) -> str:
    """The whole page."""
    found = proofs(tree or read_tree())
    proved = sum(bool(tests) for tests in found.values())
    lines = [_HEAD, f"{proved} of {len(found)} rows have a test.", "", "| row | decree | what it asks | proved by |"]
    lines.append("|---|---|---|---|")
    for row, about in rows().items():
        tests = "<br>".join(f"[{test}](../{path})" for path, test in sorted(found[row]))
        lines.append(f"| {row} | {about['decree']} | {about['meaning']} | {tests or 'no test yet'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    made = text()
    if parser.parse_args().write:
        FILE.write_text(made, encoding="utf-8")
        return 0
    current = FILE.exists() and FILE.read_text(encoding="utf-8") == made
    print(f"docs/{FILE.name}: {'current' if current else 'not current, run ./run docs'}")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
