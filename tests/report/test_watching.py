"""A report that is kept up to date while runs train beside it."""

import os
import time
from contextlib import ExitStack

import pytest
from helpers import said
from report.made_up import change, write_run

from fmnist import UserError
from fmnist.launch.locks import alone
from fmnist.report import __main__ as program
from fmnist.report import page, watching
from fmnist.report.watching import QUIET, Runs, watch


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No pictures, which take most of the time."""
    monkeypatch.setattr(page, "pictures", lambda comparison: [])


REFRESH = '<meta http-equiv="refresh" content="3">'


class Sweep:
    """A sweep beside a watch: between two looks the next of some things happens; then its command ends."""

    def __init__(self, root, *events):
        self.root, self.events, self.pages, self.pauses, self.said = root, [*events], [], [], []
        self.lock = ExitStack()
        self.lock.enter_context(alone(root))

    @property
    def page(self):
        return self.root / "report" / "index.html"

    def text(self):
        return self.page.read_text(encoding="utf-8") if self.page.exists() else ""

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.pages.append(self.text())
        self.events.pop(0)() if self.events else self.lock.close()

    def watch(self, **options):
        watch([self.root], self.root / "report", every=2.5, say=self.said.append, pause=self.pause, **options)


def test_it_follows_a_sweep_to_its_end(tmp_path):
    """Runs begin, end and fail; nothing happens; the command ends: the page reloads itself until then, and no more."""
    root = tmp_path / "sweep"
    sweep = Sweep(
        root,
        lambda: write_run(root / "0", 0.5, "running"),
        lambda: write_run(root / "0", 0.5),
        lambda: None,
        lambda: write_run(root / "1", 0.6, seed=1),
        lambda: write_run(root / "2", 0.7, "failed", error="it broke", seed=2),
    )
    sweep.watch()
    nothing, begun, done, same, more, failed = sweep.pages
    assert nothing == ""
    assert REFRESH in begun
    assert "0 finished runs of 1" in begun
    assert "1 finished run of 1" in done
    assert same is not done
    assert same == done
    assert "2 finished runs of 2" in more
    assert "2 finished runs of 3" in failed
    assert REFRESH in failed
    assert sweep.text() == failed.replace(f"{REFRESH}\n", "")
    assert min(sweep.pauses) >= 2.5
    assert [line[10:].partition(";")[0] for line in sweep.said[1:]] == [
        "0 finished runs of 1", "1 finished run of 1", "2 finished runs of 2", "2 finished runs of 3"
    ]  # fmt: skip
    assert sweep.said[0].startswith("waiting: DIR must be a directory with runs in or below it")


def test_nothing_is_read_or_drawn_where_nothing_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "QUIET", 0.0)
    read, drawn = [], []
    real = watching.read_result, watching.compose
    monkeypatch.setattr(watching, "read_result", lambda directory: (read.append(directory.name), real[0](directory))[1])
    monkeypatch.setattr(watching, "compose", lambda *given: (drawn.append(1), real[1](*given))[1])
    write_run(tmp_path / "0", 0.5)
    write_run(tmp_path / "1", 0.6, "running", seed=1)
    again = lambda: change(tmp_path / "1", seconds=7.5)  # noqa: E731 - it saves, as a run that trains does
    sweep = Sweep(tmp_path, lambda: None, again, lambda: None)
    sweep.watch()
    assert len(drawn) == 1
    assert sorted(read) == ["0", "1", "1"]


def test_ctrl_c_ends_it_with_a_page_that_stays(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "0", 0.5)

    def interrupted(_):
        raise KeyboardInterrupt

    sweep = Sweep(tmp_path, lambda: interrupted(0))
    sweep.watch()
    assert REFRESH in sweep.pages[0]
    assert sweep.text() == sweep.pages[0].replace(f"{REFRESH}\n", "")
    monkeypatch.setattr(time, "sleep", interrupted)
    monkeypatch.setattr(watching.watch, "__defaults__", (*watching.watch.__defaults__[:-1], interrupted))
    status, out, err = said(monkeypatch, capsys, program.main, "--watch", tmp_path)
    sweep.lock.close()
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"report: {os.path.relpath(tmp_path / 'report' / 'index.html')}"


def test_a_baseline_that_has_not_finished_is_waited_for_and_must_be_there_in_the_end(tmp_path):
    write_run(tmp_path / "0", 0.5, lr=0.1)
    write_run(tmp_path / "1", 0.5, lr=0.2)
    sweep = Sweep(tmp_path, lambda: write_run(tmp_path / "2", 0.6, lr=0.3))
    sweep.watch(baseline=["lr=0.3"])
    assert sweep.said[0].startswith("waiting: --baseline must name a finished configuration")
    assert "3 finished runs" in sweep.said[1]
    with pytest.raises(UserError, match="--baseline must name a finished configuration, got lr=7"):
        Sweep(tmp_path).watch(baseline=["lr=7"])


def test_whose_runs_are_in_training(tmp_path):
    """A command holds the lock of the sweep, of a folder around it or of a run; or a run has just written that it
    trains, as one on another machine."""
    run = write_run(tmp_path / "outputs" / "sweep" / "0", 0.5)

    def looks(directory):
        runs = Runs([directory])
        runs.statuses()
        return runs.in_training()

    every = [run, run.parent, tmp_path]
    assert not any(map(looks, every))
    for held in every:
        with alone(held):
            assert looks(run.parent)
    change(run, status="running")
    assert all(map(looks, every))
    old = time.time() - 2 * QUIET
    os.utime(run / "result.json", (old, old))
    assert not any(map(looks, every))


@pytest.mark.parametrize(("words", "status", "message"), [
    (["--watch", "0"], 2, "error: --watch must be 0.1 to 86,400 seconds, got 0\n"),
    (["--watch", "nan"], 2, "error: --watch must be 0.1 to 86,400 seconds, got nan\n"),
    (["--watch", "nowhere"], 2,
     "error: DIR must be a directory with runs in or below it: there is no directory nowhere\n"),
    (["run", "--watch", "1"], 0, ""), (["--watch", "run"], 0, ""), (["--watch=2", "run"], 0, ""),
])  # fmt: skip
def test_the_command_takes_seconds_or_a_directory_after_watch(words, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", 0.5)
    found, out, err = said(monkeypatch, capsys, program.main, *words)
    assert (found, err) == (status, message)
    assert ("report: run/report/index.html" in out) == (status == 0)
