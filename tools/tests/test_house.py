"""The rules of the house hold for the tree, and each of them catches what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tools.house import lint, notices, requirements_page
from tools.house.lint import Source, Tree, Violation

RULES = pytest.mark.parametrize("rule", lint.RULES, ids=lambda rule: rule.__name__)
Rule = Callable[[Tree], Iterator[Violation]]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return lint.read_tree()


@RULES
def test_the_tree_keeps_the_rule(rule: Rule, tree: Tree) -> None:
    assert [str(violation) for violation in rule(tree)] == []


@RULES
def test_every_rule_says_why_it_is_there(rule: Rule) -> None:
    assert rule.__doc__


def test_the_tree_is_read_whole_and_without_what_tools_made(tree: Tree) -> None:
    assert {"run", "pyproject.toml", "wire/cbor.py", "wire/messages.cddl", "tools/tests/test_house.py"} <= tree.paths
    assert not [path for path in tree.paths if path.startswith((".git/", ".govah/")) or "__pycache__" in path]


def of(text: str, path: str = "wire/thing.py") -> Tree:
    return Tree((Source(path, text),), frozenset({path}))


def found(rule: Rule, tree: Tree) -> list[str]:
    """What the rule finds in a small tree, without the exceptions that belong to the real one."""
    exceptions = {*lint.LONGER_FILES, *(where.partition(":")[0] for where in lint.LONGER_FUNCTIONS)}
    return [str(violation) for violation in rule(tree) if violation.path not in exceptions]


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * 70
SHORT_FUNCTION = "def f():\n" + "    x = 1\n" * 69


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (lint.functions_are_short, of(LONG_FUNCTION), of(SHORT_FUNCTION)),
        (lint.functions_are_short, of("class C:\n async " + LONG_FUNCTION.replace("\n ", "\n  ")), of(SHORT_FUNCTION)),
        (lint.files_are_short, of("x = 1\n" * 401), of("x = 1\n" * 400)),
        (lint.files_are_short, of("a\n" * 401, "fleet_server/static/page.css"), of("a\n" * 401, "docs/page.md")),
        (lint.names_say_something, of("", "wire/utils.py"), of("", "wire/cbor.py")),
        (lint.names_say_something, of("", "edge_agent/service.py"), of("", "edge_agent/service_sheets.py")),
        (lint.print_only_in_tools, of("print(1)"), of("print(1)", "tools/x.py")),
        (lint.tests_are_sentences, of("def test_cbor(): ...", "wire/tests/test_x.py"), of("def test_cbor(): ...")),
        (lint.ignored_types_have_reasons, of("x = 1  # type: ignore[misc]"), of("x = 1  # type: ignore[misc]  # why")),
        (lint.ignored_types_have_reasons, of("x = 1  # type: ignore"), of("x = 1  # type: ignore # why")),
        (lint.nothing_foreign_in_the_tree, of('x = "/home/me/x"'), of('x = f"/proc/{pid}/root/run"')),
        (lint.nothing_foreign_in_the_tree, of("# Co-Authored-By: me"), of("# read by a person")),
        (lint.nothing_foreign_in_the_tree, of("# asked Chat" + "GPT"), of("# asked a colleague")),
        (
            lint.no_host_in_the_tree,
            of("--index-url x", "locks/dev.txt"),
            of("cbor2==1 --hash=sha256:0", "locks/dev.txt"),
        ),
        (lint.no_host_in_the_tree, of("https://mirror.example/simple/x"), of("https://cbor.io/x")),
    ],
)
def test_a_rule_catches_what_it_is_for_and_nothing_else(rule: Rule, bad: Tree, good: Tree) -> None:
    assert found(rule, bad)
    assert not found(rule, good)


@pytest.mark.parametrize(
    "call",
    [
        *('_log.info("read", pin=1)', '_log.info("read", national_number=1)', '_log.warning("x", token=1)'),
        *(
            'log.error("x", tracking_code=1)',
            "_log.bind(name=1)",
            'self._log.info("x", apdu=1)',
            '_log.info("x", nid=1)',
        ),
        *('_log.info(f"card {x}")', '_log.info("Card read")', "_log.info(event)", '_log.info("x", puk_tries=1)'),
    ],
)
def test_a_log_line_that_could_carry_a_person_is_caught(call: str) -> None:
    assert found(lint.logs_carry_no_person, of(f"import structlog\n{call}\n"))


@pytest.mark.parametrize(
    "call",
    [
        '_log.info("card_read", sw=1, apdu_count=3)',
        '_log.error("x", terminal=1)',
        "math.log(x, name=1)",
        "_log.bind(seq=1)",
    ],
)
def test_a_log_line_about_things_is_left_alone(call: str) -> None:
    assert not found(lint.logs_carry_no_person, of(f"import structlog\n{call}\n"))


def record(number: str, text: str) -> Source:
    return Source(f"docs/adr/{number}-a-thing.md", f"# {number} A thing\n\n{text}\n")


@pytest.mark.parametrize(
    ("records", "finds"),
    [
        ([record("0001", "**Enforced by** `wire/cbor.py`.")], None),
        ([record("0001", "**Enforced by** nothing yet: there is no code.")], None),
        ([record("0001", "**Decision.** Yes.")], "does not say"),
        ([record("0001", "**Enforced by** good will.")], "names no test"),
        ([record("0001", "**Enforced by** `wire/tests/test_gone.py`.")], "does not exist"),
        ([record("0001", "**Enforced by** `run`."), record("0003", "**Enforced by** `run`.")], "number 0002"),
        ([record("0001", "**Enforced by** `run`."), record("0001", "**Enforced by** `run`.")], "number 0002"),
        ([Source("docs/adr/0001-x.md", "# 1 X\n\n**Enforced by** `run`.\n")], "title"),
    ],
)
def test_a_record_of_a_decision_has_its_number_and_its_enforcement(records: list[Source], finds: str | None) -> None:
    said = found(lint.decisions_are_numbered_and_enforced, Tree(tuple(records), frozenset({"wire/cbor.py"})))
    assert (not said) if finds is None else any(finds in line for line in said)


def test_an_exception_that_is_not_needed_any_more_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "LONGER_FILES", {"wire/thing.py": "once"})
    assert "no exception" in str(next(lint.files_are_short(of("x = 1\n"))))


def test_the_third_party_notices_are_current() -> None:
    assert notices.FILE.read_text(encoding="utf-8") == notices.text(), "run ./run docs"


def test_every_package_that_ships_names_a_licence_and_most_carry_its_text() -> None:
    shipped = [package for package in notices.packages() if package.groups != ("dev",)]
    assert all(package.licence for package in shipped)
    assert sum(bool(package.texts) for package in shipped) > len(shipped) * 0.8


def test_every_file_kept_from_others_has_its_licence_beside_it(tree: Tree) -> None:
    kept = [path for path in tree.paths if "/vendor/" in path and path.endswith((".js", ".css", ".woff2", ".svg"))]
    stems = {path.name.split(".")[0] for path in notices.vendored()}
    assert [path for path in kept if path.rpartition("/")[2].split(".")[0] not in stems] == []


def test_the_page_of_requirements_is_current(tree: Tree) -> None:
    assert requirements_page.FILE.read_text(encoding="utf-8") == requirements_page.text(tree), "run ./run docs"


def test_the_rows_are_all_that_the_decrees_have() -> None:
    expected = [
        f"{letter}{n}" for letter, last in (("A", 17), ("B", 8), ("C", 13), ("D", 20)) for n in range(1, last + 1)
    ]
    assert list(requirements_page.rows()) == expected
    assert all(set(about) == {"decree", "meaning"} for about in requirements_page.rows().values())


CITING = """
import pytest
pytestmark = [pytest.mark.bench, pytest.mark.requirement("A1")]

@pytest.mark.requirement("B5")
@pytest.mark.parametrize("x", [1])
async def test_one_thing_is_so(x): ...

class TestCard:
    @pytest.mark.requirement("A2", "D3")
    def test_two_things_are_so(self): ...

def not_a_test(): ...
"""


def test_marks_are_found_on_modules_classes_and_functions() -> None:
    proofs = requirements_page.proofs(of(CITING, "wire/tests/test_x.py"))
    cited = {row: [test for _, test in tests] for row, tests in proofs.items() if tests}
    assert cited == {
        "A1": ["test_one_thing_is_so", "test_two_things_are_so"],
        "A2": ["test_two_things_are_so"],
        "B5": ["test_one_thing_is_so"],
        "D3": ["test_two_things_are_so"],
    }


def test_a_row_that_does_not_exist_cannot_be_cited() -> None:
    with pytest.raises(requirements_page.UnknownRowError, match="Z9"):
        requirements_page.proofs(of(CITING.replace("B5", "Z9"), "wire/tests/test_x.py"))
