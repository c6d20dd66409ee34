"""docs/reliability.md says nothing without a test: each row of a table, and each paragraph that introduces none, names
files of tests/ that are there and functions that are in them."""

import ast
import re
from functools import cache
from itertools import groupby, pairwise

import pytest

from fmnist import ROOT

KINDS = {"|": "row", "#": "heading", " ": "code", "": "nothing"}  # of lines, by how they begin


@cache
def functions(file):
    """The names of all functions of a Python file; of other files there are none."""
    if file.suffix != ".py":
        return set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def statements(page):
    """The rows of all tables, and the paragraphs that no table follows. Text before the first section is about the
    page."""
    for section in page.split("\n## ")[1:]:
        lines = section.splitlines()[1:]
        blocks = [(kind, list(block)) for kind, block in groupby(lines, lambda line: KINDS.get(line[:1], "text"))]
        blocks = [block for block in blocks if block[0] != "nothing"]
        for (kind, block), (following, _) in pairwise([*blocks, ("nothing", [])]):
            if kind == "row":
                yield from block[2:]  # without header and rule
            elif kind == "text" and following != "row":
                yield " ".join(block)


def faults(statement):
    """What is wrong with the tests that a statement names."""
    names = re.findall(r"`([\w./-]+\.(?:py|sh|c))`", statement)
    found = {name: [path for path in (ROOT / "tests" / name, ROOT / name) if path.exists()] for name in names}
    known = set().union(*(functions(path) for paths in found.values() for path in paths))
    tests = re.findall(r"`(test_\w+)(?:\[[^`]*\])?`", statement)
    return [
        *(f"{name} is not there" for name, paths in found.items() if not paths),
        *(f"{name} is in no file that is named" for name in tests if name not in known),
        *([] if names and tests else ["no test is named as `folder/test_file.py`: `test_function`"]),
    ]


PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("statement", [*statements(PAGE)], ids=lambda text: text.strip("| ").split(" |")[0][:60])
def test_what_the_page_says_names_a_test_that_is_there(statement):
    assert not faults(statement), statement


def test_a_statement_without_a_test_or_with_one_that_is_gone_is_found():
    page = (
        "# Page\nabout it\n\n## Section\nAn introduction.\n\n| a | test |\n|---|---|\n| row | none |\n"
        "| other | `test_reliability.py`: `test_that_is_gone` |\n| third | `nowhere.py`: `test_x` |\n"
        "| good | `tests/test_reliability.py`: `test_what_the_page_says_names_a_test_that_is_there` |\n\nA claim.\n"
    )
    found = {statement: bool(faults(statement)) for statement in statements(page)}
    assert [*found.values()] == [True, True, True, False, True]
    assert [*found][-1] == "A claim."
