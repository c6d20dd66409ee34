"""Files that cannot be written are told in one line, whoever writes them."""

import errno
import os

import pytest
from hydra._internal import utils

from fmnist.launch.manual import advising
from fmnist.launch.runs import make_folder
from fmnist.launch.trouble import of_the_machine, trouble


@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_that_hydra_cannot_write_is_one_line(hidden, capsys):
    """hidden: as logging does it with the error of a file that it opens."""

    def job():
        error = OSError(errno.ENOSPC, "No space left on device", "run/train.log")
        if hidden:
            raise ValueError("Unable to configure handler 'file'") from error
        raise error

    with advising(["seed=0"]), pytest.raises(SystemExit) as left:
        utils.run_and_report(job)
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: run/train.log: No space left on device\n"


def test_what_is_no_file_is_told_by_hydra(capsys):
    def job():
        raise ValueError("of no file")

    with advising(["seed=0"]), pytest.raises(SystemExit) as left:
        utils.run_and_report(job)
    assert left.value.code == 1
    assert "ValueError: of no file" in capsys.readouterr().err


def test_the_names_of_new_folders_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("fmnist.launch.runs.sync_folder", synced.append)
    (tmp_path / "there").mkdir()
    make_folder(tmp_path / "there" / "new" / "run")
    assert (tmp_path / "there" / "new" / "run").is_dir()
    assert synced == [tmp_path / "there" / "new", tmp_path / "there"]
    make_folder(tmp_path / "there" / "new" / "run")
    assert len(synced) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EINTR, errno.EAGAIN])
def test_a_trial_is_not_to_blame_for_a_disk_or_for_want_of_processes(number):
    for names in ((), ("run/last.safetensors.part",)):
        assert of_the_machine(trouble(OSError(number, os.strerror(number), *names)).text)
    assert not of_the_machine(trouble(ValueError("loss is nan")).text)
