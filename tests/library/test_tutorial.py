"""docs/tutorial.ipynb: its kept outputs, and the same run again. `jupyter execute --inplace` keeps new ones."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient

from fmnist import ROOT

FILE = ROOT / "docs" / "tutorial.ipynb"
PLACE = re.compile(r"(?<![\w.])/(home|root|tmp|work|usr|var|opt|mnt|srv|data|Users)/")  # paths of a machine


def cells(book):
    """The cells of code."""
    return [cell for cell in book.cells if cell.cell_type == "code"]


def printed(book):
    """All text that the cells have printed."""
    return "".join(output.get("text", "") for cell in cells(book) for output in cell.outputs)


def assert_whole(book):
    """Every cell was run, in order, without an error or a warning."""
    assert [cell.execution_count for cell in cells(book)] == list(range(1, len(cells(book)) + 1))
    outputs = [output for cell in cells(book) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not re.search("Traceback|Warning|^error: ", printed(book), re.MULTILINE)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    accuracy = re.search(r"accuracy (0\.\d+) on 6,000 test images", printed(book))
    assert accuracy
    assert float(accuracy[1]) > 0.78
    assert "trousers.png,0,Trouser," in printed(book)
    assert "turned over" in printed(book)


def test_the_kept_outputs_are_whole_and_of_no_machine():
    book = nbformat.read(FILE, as_version=4)
    nbformat.validate(book)
    assert_whole(book)
    for cell in cells(book):
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)  # its letters spell anything
            assert not PLACE.search(json.dumps(output))
    assert FILE.stat().st_size < 300_000


@pytest.mark.long
def test_it_runs_again(tmp_path):
    book = nbformat.read(FILE, as_version=4)
    (first,) = [cell for cell in cells(book) if 'FOLDER = "outputs/tutorial"' in cell.source]
    first.source = first.source.replace("outputs/tutorial", str(tmp_path))
    NotebookClient(book, timeout=600, coalesce_streams=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert_whole(book)
