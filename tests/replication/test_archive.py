"""Records of runs kept in one small file, finished and failed runs alike."""

import gzip
import json
from dataclasses import replace

import pytest
from helpers import make_config
from replication.made import made

from fmnist import UserError
from fmnist.replication import pages
from fmnist.replication.archive import pack, unpack
from fmnist.replication.evidence import studied
from fmnist.report.comparison import read
from fmnist.train import engine


def test_records_come_back_as_they_went(tmp_path):
    knobs = {"data.limit": 300, "epochs": 2, "model.hidden": [10]}
    engine.fit([make_config(**knobs, seed=seed, watch="fit") for seed in (0, 1)], [tmp_path / "a", tmp_path / "b"])
    runs = read([tmp_path])
    pack(runs, tmp_path / "kept" / "study.jsonl.gz")
    back = unpack(tmp_path / "kept" / "study.jsonl.gz")
    assert [r.knobs for r in back] == [r.knobs for r in runs]
    assert [(r.commit, r.config_hash, r.seed) for r in back] == [(r.commit, r.config_hash, r.seed) for r in runs]
    told = [replace(run, earlier=commits) for run, commits in zip(runs, ((), ("a" * 40, "b" * 40)), strict=True)]
    pack(told, tmp_path / "told")
    assert [run.earlier for run in unpack(tmp_path / "told")] == [run.earlier for run in told]
    for one, other in zip(back, runs, strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-5)
        for row, original in zip(one.rows, other.rows, strict=True):
            assert row == pytest.approx(original, rel=1e-5)
    before = (tmp_path / "kept" / "study.jsonl.gz").read_bytes()
    pack(back, tmp_path / "kept" / "study.jsonl.gz")
    assert (tmp_path / "kept" / "study.jsonl.gz").read_bytes() == before


def test_a_run_that_failed_is_kept_with_its_error_and_the_rows_that_it_recorded(tmp_path):
    knobs = {"data.limit": 300, "epochs": 4, "model.hidden": [10], "schedule": "constant", "optim": "sgd"}
    configs = [make_config(**knobs, seed=seed, lr=lr) for seed, lr in ((0, 0.1), (1, 1e30))]
    engine.fit(configs, [tmp_path / "runs" / "good", tmp_path / "runs" / "bad"])
    pack(read([tmp_path / "runs"]), tmp_path / "study.jsonl.gz")
    bad, good = unpack(tmp_path / "study.jsonl.gz")
    assert (good.status, good.error, len(good.rows)) == ("done", None, 4)
    assert bad.status == "failed"
    assert "loss" in bad.error
    assert bad.rows == read([tmp_path / "runs" / "bad"])[0].rows
    assert [run.error for run in studied([bad]).failed] == [bad.error]


def test_runs_that_did_not_end_are_not_kept(tmp_path):
    runs = [made({1: {"a": 1.0}}, seed, status) for seed, status in enumerate(["done", "failed", "interrupted"])]
    pack([*runs, replace(runs[0], status="duplicate")], tmp_path / "study.jsonl.gz")
    assert [(run.seed, run.status) for run in unpack(tmp_path / "study.jsonl.gz")] == [
        ((0, 0), "done"),
        ((1, 1), "failed"),
    ]


def test_a_file_that_is_damaged_or_not_there_is_one_line(tmp_path):
    file = tmp_path / "study.jsonl.gz"
    with pytest.raises(UserError, match="no records"):
        unpack(file)
    pack([made({1: {"a": 1.0, "b": 2.0}})], file)
    whole, text = file.read_bytes(), gzip.decompress(file.read_bytes())
    run = json.loads(text)
    short = json.dumps(run | {"rows": {"epoch": [1, 2], "a": [1.0]}}).encode()
    for content in (whole[:-20], whole[:20] + b"\0" * 20 + whole[40:], b"", *map(gzip.compress, (
            b"[1, 2]", b"{}", text[:-9], b"\xff", short, json.dumps(run | {"rows": 3}).encode()))):  # fmt: skip
        file.write_bytes(content)
        if content:
            with pytest.raises(UserError, match=r"study.jsonl.gz is damaged"):
                unpack(file)


def test_committed_records_are_small_and_name_the_commit_of_each_run():
    for file in pages.RECORDS.glob("*.jsonl.gz"):
        assert file.stat().st_size < 1_000_000
        for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines():
            run = json.loads(line)
            assert len(run["commit"]) == 40, f"{run['run']} in {file.name} is of changed files"
