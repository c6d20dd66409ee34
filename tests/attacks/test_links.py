"""Links that lead out of a directory, and names with `..`: nothing is written where they lead."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from attacks.hostile import bounded, gzip_bomb, nested, snapshot
from attacks.test_runs import box, resumed, trained  # noqa: F401 - fixtures
from helpers import refuses, said
from replication.made import made
from report.made_up import write_run
from training import quick_disk  # noqa: F401 - a fixture that serves each test

from fmnist import evaluate, figures
from fmnist.program.files import locked, replacing
from fmnist.replication.archive import MOST, pack, unpack
from fmnist.report import __main__ as report
from fmnist.report.leaderboard import LOCK, Leaderboard

PLAIN = "must be a plain file or folder, and is a link, a pipe or a device: remove it"


def linked(path: Path, target: Path) -> None:
    """A link in the place of whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "name", ["train.log", ".hydra", ".hydra/config.yaml", "figures", "validation", "train/projector"]
)
@pytest.mark.parametrize("target", ["diary.txt", "", "new"])
def test_a_run_whose_files_lead_elsewhere_does_not_go_on(name, target, trained, box):  # noqa: F811
    linked(box / "run" / name, box.parent / "sibling" / target)
    before = snapshot(box.parent / "sibling")
    assert resumed(trained[1], box / "run") == f"{box / 'run' / name} {PLAIN}"
    assert snapshot(box.parent / "sibling") == before


def test_a_run_whose_log_is_a_pipe_does_not_go_on(trained, box):  # noqa: F811
    os.mkfifo(box / "run" / "train.log")
    with bounded():
        assert resumed(trained[1], box / "run") == f"{box / 'run' / 'train.log'} {PLAIN}"


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "last.safetensors", "last.pt", "mistakes.json"])
def test_files_that_are_replaced_are_replaced_whatever_they_were(name, trained, box):  # noqa: F811
    """Also the part that is written first."""
    diary, run = box.parent / "sibling" / "diary.txt", box / "run"
    if (run / name).exists():
        shutil.copy(run / name, box.parent / "sibling" / name)
        linked(run / name, box.parent / "sibling" / name)
    linked(run / f"{name}.part", diary)
    before = snapshot(box.parent / "sibling")
    assert resumed(trained[1], run) == ""
    assert snapshot(box.parent / "sibling") == before
    assert not (run / name).is_symlink()


def test_a_link_is_replaced_and_never_written_through(tmp_path):
    (tmp_path / "other").write_text("kept", encoding="utf-8")
    linked(tmp_path / "file.part", tmp_path / "other")
    with replacing(tmp_path / "file") as file:
        file.write("new")
    assert (tmp_path / "other").read_text(encoding="utf-8") == "kept"
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"
    linked(tmp_path / "lock", tmp_path / "nothing")
    with pytest.raises(OSError, match="lock"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "nothing").exists()


def test_pictures_and_reports_are_not_put_where_a_link_leads(box, monkeypatch, capsys):  # noqa: F811
    sibling, run = box.parent / "sibling", box / "run"
    linked(run / "figures", sibling)
    linked(box / "report", sibling)
    linked(box / LOCK, sibling / "new")
    before = snapshot(sibling)
    for main, place in ((figures.main, run), (report.main, box)):
        status, _, error = said(monkeypatch, capsys, main, place)
        assert (status, error.count("\n")) == (2, 1)
        assert PLAIN in error
    with pytest.raises(OSError, match=LOCK):
        Leaderboard(box).write()
    assert snapshot(sibling) == before


def test_links_in_a_circle_are_not_followed(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "sweep" / "0", 0.5)
    for place in (tmp_path / "sweep", tmp_path / "sweep" / "more"):
        place.mkdir(exist_ok=True)
        for name in ("up", "again"):
            linked(place / name, tmp_path / "sweep")
    with bounded():
        (comparison,) = Leaderboard(tmp_path / "sweep").write()
        for main in (evaluate.main, report.main):
            assert said(monkeypatch, capsys, main, tmp_path / "sweep")[0] == 0
    assert len(comparison.runs) == 1


NAMES = ["../../sibling/diary.txt", "..", ".", "", "/etc/passwd", "a/b", 3, None, ["a"], {"a": 1}]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_an_archive_has_a_plain_name(name, tmp_path):
    file = tmp_path / "study.jsonl.gz"
    pack([made({1: {"a": 1.0}})], file)
    run = json.loads(gzip.decompress(file.read_bytes())) | {"run": name}
    file.write_bytes(gzip.compress(json.dumps(run).encode()))
    if "/" in str(name) or str(name) in ("", ".", ".."):
        refuses(lambda: unpack(file), f"{file} is damaged (ValueError: {str(name)!r} is no name of a run)")
    else:
        assert [run.directory.parent for run in unpack(file)] == [tmp_path]


ARCHIVES = {
    "a bomb": lambda run: gzip_bomb(b"", 1 << 10), "a bomb after a run": lambda run: gzip_bomb(run, 1 << 10),
    "nested": lambda run: gzip.compress(b"[" * 100_000), "a pickle": lambda run: b"\x80\x04.",
    "rows of text": lambda run: gzip.compress(run.replace(b'"a":[1.0]', b'"a":["<script>"]')),
    "rows of tables": lambda run: gzip.compress(run.replace(b'"a":[1.0]', b'"a":[{"b":1}]')),
    "a huge epoch": lambda run: gzip.compress(run.replace(b'"epoch":[1]', b'"epoch":[1' + 300 * b"0" + b"]")),
    "metrics of text": lambda run: gzip.compress(run.replace(b'"objective":0.5', b'"objective":"high"')),
    "knobs of tables": lambda run: gzip.compress(run.replace(b'"epochs":1', b'"epochs":[{}]')),
    "knobs that are nested": lambda run: gzip.compress(
        run.replace(b'"epochs":1', b'"epochs":' + json.dumps(nested(400)).encode())),
    "no model": lambda run: gzip.compress(run.replace(b'"mlp"', b'"<b>"')),
}  # fmt: skip


@pytest.mark.few(4)
@pytest.mark.parametrize("what", ARCHIVES)
def test_a_hostile_archive_is_one_line(what, tmp_path):
    file = tmp_path / "study.jsonl.gz"
    pack([made({1: {"a": 1.0}})], file)
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(ARCHIVES[what](whole))
    with bounded(3 * MOST):
        refuses(lambda: unpack(file), f"{file} must have at most" if "bomb" in what else f"{file} is damaged (")
