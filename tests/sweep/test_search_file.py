"""What a search keeps: the file of its trials, wherever it is killed, and whatever the file system is."""

import errno
import os

import optuna.storages.journal._file as journal
import pytest
from helpers import half_long, refuses
from hydra.errors import CompactHydraException
from hydra_plugins._search import FILE
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState
from sweep.searches import OPTUNA, SPACE, as_dict, drive, parabola, search_in, settings, trials_in


class Kill(BaseException):
    """Not an Exception: nothing may tidy up."""


SPACES = (SPACE, "optim=adam,sgd", "optim.momentum=interval(0,0.9)", "seed=0,1")
ASKED = {"n_trials": 15, "n_jobs": 5, "prune_at": [0.5]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A search that is never killed: its trials, and the lines of its file."""
    directory = tmp_path_factory.mktemp("straight")
    drive(directory, SPACES, parabola, **ASKED)
    lines = (directory / FILE).read_text(encoding="utf-8").count("\n")
    return trials_in(directory, SPACES), lines


@pytest.mark.long
@pytest.mark.parametrize("written", [False, True])
def test_a_search_that_is_killed_at_any_line_of_its_file_goes_on_as_if_it_had_not_been(
    written, straight, tmp_path, monkeypatch
):  # fmt: skip
    """Also while it asks for a proposal, and while it tells how the trials of a batch have ended."""
    append, (trials, lines) = journal.JournalFileBackend.append_logs, straight
    monkeypatch.setattr(journal.os, "fsync", lambda file: None)
    for last in range(1 + written, lines, 7):
        left = [last]

        def dying(self, logs, left=left):
            left[0] -= 1
            if left[0] or written:
                append(self, logs)
            if not left[0]:
                raise Kill

        directory = tmp_path / str(last)
        with monkeypatch.context() as patch:
            patch.setattr(journal.JournalFileBackend, "append_logs", dying)
            with pytest.raises(Kill):
                drive(directory, SPACES, parabola, **ASKED)
        drive(directory, SPACES, parabola, **ASKED)
        assert trials_in(directory, SPACES) == trials


def test_a_search_that_is_killed_while_it_trains_launches_the_same_runs_again(straight, tmp_path):
    for after in (0, 3, 15, 27, 45):
        ended = []

        def dying(job, after=after, ended=ended):
            if len(ended) == after:
                raise Kill
            ended.append(job)
            return parabola(job)

        directory = tmp_path / str(after)
        with pytest.raises(Kill):
            drive(directory, SPACES, dying, **ASKED)
        again = drive(directory, SPACES, parabola, **ASKED)
        assert {job["hydra.sweep.subdir"] for job in ended[-1:]} <= {
            as_dict(job)["hydra.sweep.subdir"] for job in again.jobs
        }
        assert trials_in(directory, SPACES) == straight[0]
    assert drive(directory, SPACES, parabola, **ASKED).jobs == []


def test_what_a_crash_leaves_behind_does_no_harm(tmp_path, monkeypatch):
    """Half a line, and Optuna's own lock, for which nothing waits; an older version had a symbolic link."""
    before = drive_small(tmp_path, n_trials=4)
    with open(tmp_path / FILE, "a", encoding="utf-8") as file:
        file.write('{"op_code":4,"worker_')
    os.symlink(FILE, tmp_path / f"{FILE}.lock")
    waits = []
    monkeypatch.setattr(journal.time, "sleep", waits.append)
    after = drive_small(tmp_path, n_trials=8)
    assert waits == []
    assert after[:4] == before
    assert len(after) == 8


def drive_small(directory, n_trials):
    """The trials of a search of so many, which goes on if it is there."""
    drive(directory, (SPACE,), parabola, n_trials=n_trials, n_jobs=4)
    return trials_in(directory)


def test_a_file_system_without_symbolic_links_will_do(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    assert len(drive_small(tmp_path, n_trials=4)) == 4


@pytest.mark.long
def test_another_search_is_not_mixed_in(sweep, capsys, tmp_path):
    asked = [*OPTUNA, *settings(n_trials=2, n_jobs=2)]
    assert sweep(*asked, SPACE, objective=parabola) == 0
    capsys.readouterr()
    assert sweep(*asked, SPACE, "device=cpu", objective=parabola) == 0
    assert sweep(*asked, SPACE, "epochs=2", objective=parabola) == 2
    assert "here holds another search (epochs=None there, 2 here)" in capsys.readouterr().err
    assert sweep(*asked, "lr=interval(0,1)", objective=parabola) == 2
    assert "lr=tag(log,interval(1e-4,1e1)) there, interval(0,1) here" in capsys.readouterr().err
    assert sweep(*asked, SPACE, "hydra.sweeper.direction=minimize", objective=parabola) == 2
    assert "maximize there, minimize here" in capsys.readouterr().err
    assert len(trials_in(tmp_path / "here")) == 2
    (settings_there,) = (tmp_path / "here").glob("multirun.yaml")
    assert "epochs" not in OmegaConf.load(settings_there).hydra.overrides.task  # of the search that is there


def test_a_search_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    drive_small(tmp_path, n_trials=4)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    for damaged in ('{"op_code":\n' + text, text.replace('"op_code":4', '"op_code":"x"'), "[]\n" + text):
        (tmp_path / FILE).write_text(damaged, encoding="utf-8")
        refuses(lambda: search_in(tmp_path), f"{tmp_path / FILE} is damaged", "choose another hydra.sweep.dir")


def test_a_search_of_an_older_version_that_chose_among_seeds_is_not_mixed_with_one_that_does_not(tmp_path):
    with search_in(tmp_path, (SPACE, "seed=0,1")) as search:
        search.optuna.ask({"seed": CategoricalDistribution(["0", "1"])})
    refuses(lambda: search_in(tmp_path, (SPACE, "seed=0,1")), "holds another search (its trials choose seed from 0, 1)")


@pytest.mark.parametrize("place", ["/proc/x/search", "file/search"])
def test_a_place_that_cannot_be_written_is_one_line(place, sweep, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert sweep("-m", "hydra/sweeper=optuna", f"hydra.sweep.dir={place}", SPACE) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: hydra.sweep.dir must be a folder to write to, got {place}: ")


def test_a_disk_that_is_full_ends_a_search_in_one_line_and_it_can_go_on(sweep, tmp_path, capsys, monkeypatch):
    append, left = journal.JournalFileBackend.append_logs, [12]

    def full(self, logs):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, logs)

    asked = [*OPTUNA, *settings(n_trials=4, n_jobs=2), SPACE]
    with monkeypatch.context() as patch:
        patch.setattr(journal.JournalFileBackend, "append_logs", full)
        assert sweep(*asked, objective=parabola) == 1
    assert capsys.readouterr().err == "error: here: No space left on device\n"
    assert sweep(*asked, objective=parabola) == 0
    assert len(trials_in(tmp_path / "here")) == 4


@pytest.mark.parametrize(("seeds", "code"), half_long([(), ("seed=0,1",)], [errno.ENOSPC, errno.EDQUOT, errno.EROFS]))
def test_runs_that_find_no_room_end_a_search_with_the_reason_and_are_tried_again(seeds, code, sweep, tmp_path, capsys):
    def full(job):
        where = f"here/{job['hydra.sweep.subdir']}/last.safetensors"
        return OSError(code, os.strerror(code), where) if "trial-001" in where else parabola(job)

    asked = [*OPTUNA, *settings(n_trials=6, n_jobs=2), SPACE, *seeds]
    assert sweep(*asked, "hydra.sweep.dir=straight", objective=parabola) == 0
    straight = [job["lr"] for job in map(as_dict, sweep.launcher.jobs) if "until" not in job]
    capsys.readouterr()
    assert sweep(*asked, objective=full) == 1
    file = "here/trial-001+seed-0/last.safetensors" if seeds else "here/trial-001/last.safetensors"
    words = f"trial 1: {'seed=0: ' if seeds else ''}{file}: {os.strerror(code)}"
    assert capsys.readouterr().err == f"error: {words}; once this is mended the same command goes on\n"
    assert sweep(*asked, objective=parabola) == 0
    assert [job["lr"] for job in map(as_dict, sweep.launcher.jobs) if "until" not in job] == straight
    assert {state for state, *_ in trials_in(tmp_path / "here", (SPACE, *seeds))} == {TrialState.COMPLETE}


@pytest.mark.long
@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EROFS, 2)])
def test_a_search_that_finds_no_room_for_its_file_says_so_as_any_command(code, status, sweep, capsys, monkeypatch):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(journal.JournalFileBackend, "append_logs", full)
    assert sweep(*OPTUNA, SPACE) == status
    knob = "" if status == 1 else "hydra.sweep.dir must be a folder to write to, got "
    assert capsys.readouterr().err == f"error: {knob}here: {os.strerror(code)}\n"


@pytest.mark.parametrize("again", [False, True])
def test_a_trial_whose_worker_was_killed_is_trained_once_more(again, sweep, tmp_path):
    """again: whether its worker dies of it each time, as of too little memory: then it has failed."""
    deaths = []

    def objective(job):
        if job["hydra.sweep.subdir"] == "trial-001" and (again or not deaths):
            deaths.append(job)
            return CompactHydraException("its worker process died (signal 9)")
        return 0.5

    search = settings(n_trials=3, n_jobs=3, prune_at=[])
    assert sweep(*OPTUNA, *search, SPACE, objective=objective) == 0
    assert sweep.launcher.first == [0, 1]
    assert len(deaths) == 1 + again
    states = [state for state, *_ in trials_in(tmp_path / "here")]
    assert states == [TrialState.COMPLETE, TrialState.FAIL if again else TrialState.COMPLETE, TrialState.COMPLETE]
