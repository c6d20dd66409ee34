"""A test that is marked few(n) has n of its cases in `make test`."""

from pathlib import Path

import pytest


class Case:
    """What the hook asks of a test: its name and its marks."""

    def __init__(self, number: int, *marks: pytest.MarkDecorator) -> None:
        self.nodeid = f"tests/test_a.py::test_b[{number}]"
        self.marks = {mark.name: mark for mark in marks}

    def get_closest_marker(self, name: str) -> pytest.MarkDecorator | None:
        return self.marks.get(name)

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks[mark.name] = mark


@pytest.mark.parametrize(
    ("few", "kept"), [(1, [0]), (2, [0, 5]), (3, [0, 4, 7]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_few_cases_spread_over_all_are_left_and_the_others_are_long(few, kept, request):
    hook = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    marked = [Case(number, pytest.mark.few(few)) for number in range(10)]
    long, free = Case(99, pytest.mark.few(few), pytest.mark.long), Case(0)
    hook.pytest_collection_modifyitems([long, *marked, free])
    assert [number for number, case in enumerate(marked) if "long" not in case.marks] == kept
    assert "long" not in free.marks  # nor does one that is long already count among the few
