"""Each reader that is fuzzed takes the inputs of its corpus, whole and cut short: no error is none of ours."""

import sys
from contextlib import suppress

import pytest
from fuzz.fuzz import CORPUS, READERS, main, seeds

from fmnist import UserError


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_its_corpus(reader, tmp_path):
    read = READERS[reader](tmp_path)
    inputs = [*seeds(reader).values(), *(path.read_bytes() for path in sorted((CORPUS / reader).glob("*")))]
    assert inputs
    for data in inputs:
        for length in {len(data), *range(1, len(data), 1 + len(data) // 4)}:
            with suppress(UserError, OSError):
                read(data[:length])


def test_the_inputs_that_are_whole_are_accepted(tmp_path):
    """Otherwise fuzzing begins with files that are refused at once."""
    for reader, name in {"idx": "images", "gzip": "packed", "metrics": "rows", "result": "done", "archive": "run",
                         "study": "search", "overrides": "sweep", "config": "one"}.items():  # fmt: skip
        READERS[reader](tmp_path)((CORPUS / reader / name).read_bytes())
    for reader in ("checkpoint", "pictures"):
        for data in seeds(reader).values():
            READERS[reader](tmp_path)(data)


def test_without_atheris_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "idx", "--seconds", "1"])
    main()
    assert capsys.readouterr().out == "atheris is not installed: .venv/bin/pip install '.[fuzz]' brings it\n"
