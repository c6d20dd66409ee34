"""fmnist.sources.mirrors: the official mirrors by torchvision, one that hangs, and the Debian package."""

import functools
import hashlib
import http.server
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import FILES

from fmnist.sources import fetch, mirrors


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler] | functools.partial) -> Iterator[str]:
    """A web server of this machine; its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def mirrored(monkeypatch: pytest.MonkeyPatch, address: str, folder: Path) -> None:
    """Let torchvision download from this address alone, and expect the files of that folder."""
    packed = [(f"{name}.gz", (folder / f"{name}.gz").read_bytes()) for name in FILES]
    md5 = [(name, hashlib.md5(content, usedforsecurity=False).hexdigest()) for name, content in packed]
    patch = f"from torchvision.datasets import FashionMNIST as F\nF.mirrors, F.resources = {[address]!r}, {md5!r}\n"
    monkeypatch.setattr(mirrors, "DOWNLOAD", patch + mirrors.DOWNLOAD)
    monkeypatch.setattr(fetch, "SOURCES", {"the mirrors": mirrors.mirrors})


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.long
def test_mirrors_are_read_by_torchvision_without_a_word(
    small: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(functools.partial(Quiet, directory=str(small))) as address:
        mirrored(monkeypatch, address, small)
        assert fetch.fashion(None)[FILES[0]].shape == (20, 3, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.long  # torchvision is imported for it, as for the next
def test_a_mirror_without_the_files_says_so_in_one_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty := small.parent / "empty").mkdir()
    with serving(functools.partial(Quiet, directory=str(empty))) as address:
        mirrored(monkeypatch, address, small)
        with pytest.raises(fetch.UserError) as caught:
            fetch.fashion(None)
    assert f"the mirrors: Error downloading {FILES[0]}.gz: Tried {address}, got: HTTP Error 404" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_mirror_that_hangs_is_left(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Hanging(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"the first bytes")
            released.wait(120)  # if this is what ends the download, the reason is another one

    monkeypatch.setattr(mirrors, "PATIENCE", 0.2)
    with serving(functools.partial(Hanging, directory=str(small))) as address:
        mirrored(monkeypatch, address, small)
        try:
            with pytest.raises(OSError, match="timed out"):
                mirrors.mirrors(tmp_path)
        finally:
            released.set()


def test_a_program_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []
    kill = subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: killed.append(self) or kill(self))
    monkeypatch.setattr(mirrors, "LIMIT", 0.2)
    monkeypatch.setattr(mirrors, "DOWNLOAD", "import threading; threading.Event().wait()")
    with pytest.raises(OSError, match="did not end within"):
        mirrors.mirrors(tmp_path)
    assert [process.returncode for process in killed] == [-signal.SIGKILL]


def test_package_lists_are_updated_once_by_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(next(word for word in command if word in ("download", "update", "-x")))
        failed = calls == ["download"]
        return subprocess.CompletedProcess(command, 100 if failed else 0, "", "E: no such package\n")

    monkeypatch.setattr(mirrors.subprocess, "run", run)
    calls: list[str] = []
    monkeypatch.setattr(mirrors.os, "geteuid", lambda: 0)
    assert mirrors.package(tmp_path) == tmp_path / "usr/share/datasets/fashion-mnist"
    assert calls == ["download", "update", "download", "-x"]
    calls.clear()
    monkeypatch.setattr(mirrors.os, "geteuid", lambda: 1000)
    with pytest.raises(OSError, match="E: no such package"):
        mirrors.package(tmp_path)
    assert calls == ["download"]
