"""A real SLURM on this machine: two nodes of one processor each, on loopback, for as long as a command runs.

    python tests/cluster/onebox.py COMMAND [ARGUMENT ...]      e.g. bash, to try out what is to run on a cluster

Debian's slurm-wlm and munge are installed through apt where they are missing. Daemons, keys and state are this
cluster's own, in a temporary directory that is removed; another SLURM on the machine is not touched. Its logs are shown
if the cluster does not come up.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
PATIENCE = 30.0  # seconds for the nodes to become idle


class Refused(Exception):
    """What keeps the cluster from coming up, in one line."""


def missing() -> list[str]:
    """The packages whose programs are not here."""
    return sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})


def install() -> None:
    """Install what is missing through apt. Raises Refused where that cannot be done."""
    if not missing():
        return
    names = " ".join(missing())
    if not shutil.which("apt-get") or os.getuid() != 0:
        raise Refused(f"a cluster needs {names}: as root, apt-get install {names}")
    print(f"installing Debian's {names}", flush=True)
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60"]
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*apt, "update"], env=env, check=False)  # an unreachable list need not matter
    done = subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing()], env=env, stdout=sys.stderr)
    if done.returncode or missing():
        raise Refused(f"apt-get could not install {names}")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as closing:
        sockets = [closing.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configure(work: Path) -> None:
    """Write slurm.conf and the key its daemons share."""
    port, port1, port2 = free_ports(3)
    values = {
        "work": work, "host": socket.gethostname().split(".")[0], "user": pwd.getpwuid(os.getuid()).pw_name,
        "port": port, "port1": port1, "port2": port2,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21,  # half of it, in MB
    }  # fmt: skip
    (work / "slurm.conf").write_text(Template((HERE / "slurm.conf.in").read_text()).substitute(values))
    for folder in ("state", "spool.n1", "spool.n2", "log"):
        (work / folder).mkdir()
    key = work / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))


@contextlib.contextmanager
def daemon(work: Path, name: str, *command: str) -> Iterator[int]:
    """A daemon that ends with this block, and, by setpriv, with this process even if that is killed. Yields its id."""
    with (work / "log" / name).open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_idle(work: Path) -> None:
    """Wait for both nodes to be ready for jobs. Raises Refused, after the daemons' logs, if they do not get there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        asked = subprocess.run(["sinfo", "--noheader", "--Node", "-o", "%N %T"], capture_output=True, text=True)
        if asked.stdout.split() == ["n1", "idle", "n2", "idle"]:
            return
        time.sleep(0.2)
    for log in sorted((work / "log").iterdir()):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
    raise Refused(f"the nodes are not idle after {PATIENCE:.0f} s: {asked.stdout or asked.stderr}")


def end_jobs() -> None:
    """Cancel what waits, kill what runs, and see it gone: a job outlives the daemons otherwise."""
    everything = ["scancel", "--user", str(os.getuid())]
    subprocess.run(everything)
    subprocess.run([*everything, "--signal=KILL", "--full"])
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["squeue", "--noheader"], capture_output=True).stdout and time.monotonic() < deadline:
        time.sleep(0.2)


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """The cluster, for the block; os.environ has what its clients need."""
    with contextlib.ExitStack() as closing:
        work = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="onebox-")))
        work.chmod(0o755)  # munged insists that everybody can reach its socket
        configure(work)
        conf = str(work / "slurm.conf")
        os.environ |= {"SLURM_CONF": conf, "PATH": f"{HERE / 'bin'}:{os.environ['PATH']}"}
        munge = [f"--{what}-file={work / 'munge'}.{what}" for what in ("key", "pid", "seed", "log")]
        start = lambda name, *command: closing.enter_context(daemon(work, name, *command))  # noqa: E731
        pids = [start("munged", "munged", "--foreground", f"--socket={work / 'munge.socket'}", *munge)]
        pids.append(start("slurmctld", "slurmctld", "-D", "-f", conf))
        pids += [start(node, "slurmd", "-D", "-f", conf, "-N", node) for node in ("n1", "n2")]
        os.environ["ONEBOX_PIDS"] = " ".join(map(str, pids))
        wait_until_idle(work)
        try:
            yield
        finally:
            end_jobs()


def main() -> int:
    """Run a command in a cluster; its status is this program's."""
    os.environ["PATH"] += ":/usr/sbin"  # the daemons' place, which only root's path has
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the daemons end too
    try:
        install()
        with cluster():
            return subprocess.run(sys.argv[1:]).returncode
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
