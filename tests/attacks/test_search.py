"""A search's file of a stranger: Optuna's journal with hostile lines is one line that names it, or harmless."""

import json
import os

import pytest
from attacks.hostile import bounded, instead, nested, snapshot, sparse
from helpers import refuses
from hydra_plugins._search import FILE
from sweep.searches import SPACE, drive, parabola, search_in

from fmnist import UserError

DISTRIBUTION = {"name": "FloatDistribution", "attributes": {"step": None, "low": 1e-4, "high": 10.0, "log": True}}
ASKED = {"n_trials": 2, "n_jobs": 2}


def line(code, **values):
    """A step of the journal."""
    return json.dumps({"op_code": code, "worker_id": "w", "study_id": 0, **values})


def told(name, value, distribution):
    """A trial's value of a knob."""
    return line(5, trial_id=0, param_name=name, param_value_internal=value, distribution=json.dumps(distribution))


LINES = {
    "no JSON": "{", "a list": "[]", "a number": "7", "an unknown step": line(99), "text for a step": line("x"),
    "a study of nobody": line(4, study_id=9), "deep nesting": "[" * 100_000,
    "an unknown distribution": told("lr", 0.1, {"name": "os.system", "attributes": {}}),
    "a distribution of text": told("lr", 0.1, "x"), "a choice that is not there": told(
        "lr", 9, {"name": "CategoricalDistribution", "attributes": {"choices": ["a"]}}),
    "another knob": told("__class__", 0.1, DISTRIBUTION), "what was asked is text": line(2, user_attr={"asked": "x"}),
    "what was asked is nested": line(2, user_attr={"asked": nested(300)}),
    "a new trial without a date": line(4), "a trial of nobody": line(6, trial_id=99, state=1, values=[0.5]),
    "a trial without values": line(6, trial_id=0, state=1, values=None), "a state of nobody": line(
        6, trial_id=0, state=77, values=[0.5]),
}  # fmt: skip


def searched(directory):
    """What a search that goes on says, "" where it does."""
    try:
        with search_in(directory) as search:
            for trial in search.batch(4, 4):
                search.overrides(trial)
                search.in_words(trial)
    except UserError as error:
        return str(error)
    return ""


def test_a_finished_trial_that_chose_nothing_is_another_searchs(tmp_path):
    """Found by fuzzing: a trial that trains may lack a choice, since a process was killed; one that is done may not."""
    space = (SPACE, "optim=adam,sgd")
    drive(tmp_path, (SPACE,), parabola, **ASKED)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    instead(tmp_path / FILE, "\n".join(step for step in text.splitlines() if '"asked"' not in step) + "\n")
    refuses(lambda: search_in(tmp_path, space), f"{tmp_path} holds another search (its trials choose no optim)")


@pytest.mark.parametrize("what", LINES)
def test_a_hostile_line_of_a_search_is_one_line_or_nothing(what, tmp_path):
    drive(tmp_path / "here", (SPACE,), parabola, **ASKED)
    (tmp_path / "sibling").mkdir()
    with open(tmp_path / "here" / FILE, "a", encoding="utf-8") as file:
        file.write(LINES[what] + "\n")
    with bounded():
        told = searched(tmp_path / "here")
    assert "\n" not in told
    assert not told or str(tmp_path / "here") in told
    assert snapshot(tmp_path / "sibling") == {}


def test_a_search_of_ten_gigabytes_or_without_end_is_one_line(tmp_path):
    file = tmp_path / FILE
    sparse(file)
    with bounded():
        refuses(lambda: search_in(tmp_path), f"{file} must have at most")
    file.unlink()
    os.mkfifo(file)
    with bounded():
        refuses(lambda: search_in(tmp_path), f"{file} must be a plain file or folder")


def test_a_search_whose_file_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "here").mkdir()
    other = instead(tmp_path / "other", "diary")
    (tmp_path / "here" / FILE).symlink_to(other)
    refuses(lambda: search_in(tmp_path / "here"), f"{tmp_path / 'here' / FILE} must be a plain file or folder")
    assert other.read_text(encoding="utf-8") == "diary"
