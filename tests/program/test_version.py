"""The commit that a command runs from."""

import errno
import subprocess

import pytest

from fmnist.program import version


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *who, "-C", folder, *arguments], capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository that looks like this one, in the place of this one, and its commit."""
    folder = tmp_path / "checkout"
    for name in ("train.py", "README.md", "fmnist/nn/layers.py", "fmnist/speed/integers.c", "conf/config.yaml",
                 "fmnist/speed/native/native.h", "sweep/study/lr.yaml"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/outputs/\n", encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    monkeypatch.setattr(version, "ROOT", folder)
    return folder, git(folder, "rev-parse", "HEAD")


CHANGES = {
    "train.py": "+", "fmnist/nn/layers.py": "+", "fmnist/speed/integers.c": "+", "conf/config.yaml": "+",
    "fmnist/speed/native/native.h": "+", "sweep/study/lr.yaml": "+",
    "README.md": "",  # these are tracked, those that follow are new
    "fmnist/ideas/mine.py": "+", "conf/experiment/mine.yaml": "+", "sweep/study/mine.yaml": "+", "notes.py": "",
    "fmnist/notes.txt": "", "outputs/run/result.json": "",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_commit_has_a_plus_where_code_or_configs_differ_from_it(name, checkout):
    folder, commit = checkout
    assert version.commit.__wrapped__() == commit
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("2\n", encoding="utf-8")
    assert version.commit.__wrapped__() == commit + CHANGES[name]


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_a_variable_of_git_misleads_nobody(variable, checkout, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert version.commit.__wrapped__() == checkout[1]


def test_a_worktree_is_a_checkout(checkout, tmp_path, monkeypatch):
    git(checkout[0], "worktree", "add", "-q", str(tmp_path / "tree"))
    monkeypatch.setattr(version, "ROOT", tmp_path / "tree")
    assert version.commit.__wrapped__() == checkout[1]


def test_the_repository_around_a_wheel_is_not_ours(checkout, monkeypatch):
    packages = checkout[0] / ".venv" / "lib"
    packages.mkdir(parents=True)
    monkeypatch.setattr(version, "ROOT", packages)
    assert version.commit.__wrapped__() is None


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_there_is_no_commit(error, checkout, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("subprocess.run", fails)
    assert version.commit.__wrapped__() is None


def test_versions_are_asked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr("importlib.metadata.version", lambda name: asked.append(name) or "1.0")
    version.versions.cache_clear()
    try:
        assert version.versions() == version.versions()
    finally:
        version.versions.cache_clear()
    assert asked == ["torch", "hydra-core", "tensorboard"]
