"""The rules of the house that no ready-made linter knows. Run by `./run lint` and, rule by rule, by the tests.

Each rule is a function from the tree to its violations; its name is how records in docs/adr refer to it.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MAX_FUNCTION_LINES: Final = 70
MAX_FILE_LINES: Final = 400
MIN_TEST_WORDS: Final = 4

LONGER_FUNCTIONS: Final[dict[str, str]] = {
    "fleet_server/migrations/versions/0001_spine.py:upgrade": "a migration is one list of statements",
}
"""Path and function to why it is better longer than `MAX_FUNCTION_LINES`."""

LONGER_FILES: Final[dict[str, str]] = {}
"""Path to why it is better longer than `MAX_FILE_LINES`."""

_NOT_OURS: Final = frozenset({".git", ".govah", ".hypothesis", ".import_linter_cache", ".mypy_cache", ".ruff_cache"})
_COUNTED: Final = frozenset({".py", ".sh", ".js", ".css", ".html"})
_EMPTY_NAMES: Final = frozenset(
    {"util", "utils", "helper", "helpers", "manager", "managers", "service", "services", "common", "misc"}
)
_LOG_CALLS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical", "bind", "msg", "log"})
_PERSONAL_KEYS: Final = frozenset({"name", "tracking_code", "trk", "birth_date", "father_name", "photo"})
_PERSONAL_PARTS: Final = frozenset({"pin", "puk", "nid", "token", "apdu", "password", "secret", "national"})
_HARMLESS_KEYS: Final = frozenset({"token_bytes", "apdu_count"})
_FOREIGN_PATH: Final = re.compile(r"(?:^|[\s\"'`(=:,])/(?:work|root|home)/", re.MULTILINE)
_PACKAGE_HOST: Final = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|https?://[^\s\"']*/simple\b|file:///"
)
_AUTHORSHIP: Final = re.compile(r"(?i)co-?authored-by:|generated (?:with|by) an? |signed-off-by:")
_ABOUT_WORDS: Final = frozenset({"tools/house/lint.py", "tools/tests/test_house.py", "THIRD_PARTY_NOTICES.md"})
"""Files that speak of what they forbid, or quote what others wrote."""

# Words that say who or what wrote a line. Kept as digests, so that this file does not say what no file may say; add
# one as hashlib.sha256(word.encode()).hexdigest()[:16], in lower case.
_FOREIGN_WORDS: Final = frozenset(
    {
        "053ea4804ef1bb33",
        "3ea125d0bff386e6",
        "487b91042c7cf27a",
        "57de4cf40144bdf7",
        "60965168ce762e94",
        "7d3194f79e645c42",
        "94a168d2da574b00",
        "ba20768a02ee5327",
        "c70eca6b0f88f44d",
        "c857d09db23e6822",
        "c9ad8f2cc1294afa",
    }
)
_EVENT: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_TYPE_IGNORE: Final = re.compile(r"# type: ignore(?:\[[^\]]*\])?(?P<reason>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Violation:
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text} [{self.rule}]"


@dataclass(frozen=True)
class Source:
    """One file of the tree. `path` is relative to the root, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def test(self) -> bool:
        return self.python and Path(self.path).name.startswith("test_")


@dataclass(frozen=True)
class Tree:
    """All text files of the project. Tests build small ones by hand."""

    files: tuple[Source, ...]
    paths: frozenset[str] = field(default_factory=frozenset)

    @property
    def python(self) -> Iterator[Source]:
        return (source for source in self.files if source.python)


def read_tree(root: Path = ROOT) -> Tree:
    """Every file below `root` that is not made by a tool; binary ones count as paths only."""
    files, paths = [], set()
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if _NOT_OURS & set(parts) or "__pycache__" in parts or any(part.endswith(".egg-info") for part in parts):
            continue
        paths.add("/".join(parts))
        if path.is_file():
            try:
                files.append(Source("/".join(parts), path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    return Tree(tuple(files), frozenset(paths))


def functions_are_short(tree: Tree) -> Iterator[Violation]:
    """A function fits a screen. Exceptions are named with their reason, and only as long as they are needed."""
    long = {}
    for source in tree.python:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{source.path}:{node.name}"] = (node.lineno, lines)
    for where in sorted(long.keys() ^ LONGER_FUNCTIONS.keys()):
        path, _, name = where.partition(":")
        line, lines = long.get(where, (1, 0))
        text = f"{lines} lines, more than {MAX_FUNCTION_LINES}" if lines else "needs no exception any more"
        yield Violation(path, line, "functions_are_short", f"{name}: {text}")


def files_are_short(tree: Tree) -> Iterator[Violation]:
    """A file is one thought. Exceptions are named with their reason, and only as long as they are needed."""
    long = {}
    for source in tree.files:
        lines = source.text.count("\n")
        if lines > MAX_FILE_LINES and (Path(source.path).suffix in _COUNTED or source.path == "run"):
            long[source.path] = lines
    for path in sorted(long.keys() ^ LONGER_FILES.keys()):
        text = f"{long[path]} lines, more than {MAX_FILE_LINES}" if path in long else "needs no exception any more"
        yield Violation(path, 1, "files_are_short", text)


def names_say_something(tree: Tree) -> Iterator[Violation]:
    """No room for everything: such a name invites a file without a bound."""
    for path in sorted(tree.paths):
        if Path(path).suffix in ("", ".py") and Path(path).stem in _EMPTY_NAMES:
            yield Violation(path, 1, "names_say_something", "this name could hold anything")


def decisions_are_numbered_and_enforced(tree: Tree) -> Iterator[Violation]:
    """docs/adr has no gap and no double, and each record names what enforces it, or says that nothing does yet."""
    rule = "decisions_are_numbered_and_enforced"
    records = [source for source in tree.files if source.path.startswith("docs/adr/")]
    for number, source in enumerate(records, 1):
        if re.fullmatch(rf"docs/adr/{number:04d}-[a-z0-9-]+\.md", source.path) is None:
            yield Violation(source.path, 1, rule, f"is the record number {number:04d} and not named so")
        if not source.text.startswith(f"# {number:04d} "):
            yield Violation(source.path, 1, rule, "its title does not begin with its number")
        enforced = re.search(r"^\*\*Enforced by\*\* (.+?)(?:\n\n|\Z)", source.text, re.MULTILINE | re.DOTALL)
        if enforced is None:
            yield Violation(source.path, 1, rule, "does not say what enforces it")
            continue
        line = source.text[: enforced.start()].count("\n") + 1
        named = re.findall(r"`([^`]+)`", enforced[1])
        if not named and not enforced[1].startswith("nothing yet:"):
            yield Violation(source.path, line, rule, "names no test, lint or file")
        for name in named:
            path = name.split("::")[0].rstrip("/")
            if "/" in path and " " not in path and not path.startswith(".") and path not in tree.paths:
                yield Violation(source.path, line, rule, f"names {name}, which does not exist")


def no_host_in_the_tree(tree: Tree) -> Iterator[Violation]:
    """Locks and settings say what is installed, never from where."""
    for source in tree.files:
        if source.path not in _ABOUT_WORDS:
            yield from _found(source, _PACKAGE_HOST, "no_host_in_the_tree", "names a place that packages come from")


def nothing_foreign_in_the_tree(tree: Tree) -> Iterator[Violation]:
    """No paths of somebody's machine, no word on who or what wrote a line."""
    rule = "nothing_foreign_in_the_tree"
    for source in tree.files:
        if source.path in _ABOUT_WORDS:
            continue
        yield from _found(source, _FOREIGN_PATH, rule, "a path of somebody's machine")
        yield from _found(source, _AUTHORSHIP, rule, "says who wrote it")
        for word in set(re.findall(r"[a-z]{3,}", source.text.lower())):
            if hashlib.sha256(word.encode()).hexdigest()[:16] in _FOREIGN_WORDS:
                line = source.text[: source.text.lower().index(word)].count("\n") + 1
                yield Violation(source.path, line, rule, "a word that has no place here")


def _found(source: Source, pattern: re.Pattern[str], rule: str, text: str) -> Iterator[Violation]:
    for match in pattern.finditer(source.text):
        yield Violation(source.path, source.text[: match.end()].count("\n") + 1, rule, text)


def tests_are_sentences(tree: Tree) -> Iterator[Violation]:
    """The name of a test says what is true when it passes."""
    for source in tree.files:
        if source.test:
            for node in ast.walk(source.tree):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                    continue
                if len(node.name.split("_")) - 1 < MIN_TEST_WORDS:
                    yield Violation(source.path, node.lineno, "tests_are_sentences", f"{node.name} is no sentence")


def print_only_in_tools(tree: Tree) -> Iterator[Violation]:
    """What ships logs, with structlog."""
    for source in tree.python:
        if not source.path.startswith(("tools/", "hil_tests/")) and "/tests/" not in source.path:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    yield Violation(source.path, node.lineno, "print_only_in_tools", "print")


def logs_carry_no_person(tree: Tree) -> Iterator[Violation]:
    """A log line has a fixed event name, and no key under which a secret or a citizen could stand."""
    rule = "logs_carry_no_person"
    for source in tree.python:
        if "log" not in source.text:
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or not _is_log_call(node.func):
                continue
            for keyword in node.keywords:
                if keyword.arg is not None and _personal(keyword.arg):
                    yield Violation(source.path, node.lineno, rule, f"a log line with the key {keyword.arg}")
            for event in node.args[:1]:
                fixed = isinstance(event, ast.Constant) and _EVENT.fullmatch(str(event.value)) is not None
                if not fixed:
                    yield Violation(source.path, node.lineno, rule, "the event is not one short_snake word")


def _is_log_call(called: ast.expr) -> bool:
    if not isinstance(called, ast.Attribute) or called.attr not in _LOG_CALLS:
        return False
    owner = called.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return name.lstrip("_") in ("log", "logger")


def _personal(key: str) -> bool:
    if key in _HARMLESS_KEYS:
        return False
    return key in _PERSONAL_KEYS or bool(_PERSONAL_PARTS & set(key.lower().split("_")))


def ignored_types_have_reasons(tree: Tree) -> Iterator[Violation]:
    """Whoever silences the type checker says why, in the same line."""
    rule = "ignored_types_have_reasons"
    for source in tree.python:
        if source.path in _ABOUT_WORDS:
            continue
        for match in _TYPE_IGNORE.finditer(source.text):
            if not match["reason"].strip(" #"):
                line = source.text[: match.start()].count("\n") + 1
                yield Violation(source.path, line, rule, "a type that is ignored without a reason")


RULES: Final[tuple[Callable[[Tree], Iterator[Violation]], ...]] = (
    functions_are_short,
    files_are_short,
    names_say_something,
    decisions_are_numbered_and_enforced,
    no_host_in_the_tree,
    nothing_foreign_in_the_tree,
    tests_are_sentences,
    print_only_in_tools,
    logs_carry_no_person,
    ignored_types_have_reasons,
)


def main() -> int:
    """Print every violation; status 1 if there is one."""
    tree = read_tree()
    violations = [violation for rule in RULES for violation in rule(tree)]
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
