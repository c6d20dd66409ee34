"""What this process may use of the machine: cores, memory and files, by the kernel and all control groups around it.

A control group is how Linux bounds a container or a cluster's job. Version 2 has one tree of groups, version 1 has one
for each kind of resource: https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/memory.html.
"""

import gc
import math
import os
import resource
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")  # of the file system; a test has another
USED = 0.8  # share of the free memory that is planned with
SPINS = "20000"  # turns of a loop in which GNU's OpenMP waits awake, half a millisecond or so; its default is 300,000
OWN_FILES = 32  # that a launcher has open itself, at most: ten, and some while a worker starts


@dataclass(frozen=True)
class Machine:
    """What workers may use. memory: bytes; devices: cuda devices; files: that a process may have open."""

    cores: int
    memory: float
    devices: int = 0
    files: float = math.inf

    def workers(self, need: float) -> int:
        """The most workers that make sense on the CPU, where each takes so many bytes. A launcher has one file open for
        each worker; a worker itself needs few."""
        return max(1, int(min(self.cores, self.memory * USED / need, self.files - OWN_FILES)))


def this_machine(devices: int = 0, root: Path = ROOT) -> Machine:
    """The one that this process runs on. Its cuda devices are counted by torch, which is not imported here."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(cores(root), available(root), devices, math.inf if files == resource.RLIM_INFINITY else files)


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell libraries that are loaded from now on, in a process with this environment, how many threads to start and how
    long one waits awake for another. What the user has set stays.

    By themselves they count the processors, whatever a quota of this process allows; and wait so long that beside other
    work a thread spends its share of a processor on waiting for one that is not running. See docs/speed.md.
    """
    if (bound := cores()) < _processors():
        environment.setdefault("OMP_NUM_THREADS", str(bound))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it modules are imported without the garbage collector, which never looks at them: that is an eighth of the
    time that torch takes. In processes that are forked, the memory of these modules stays shared."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def cores(root: Path = ROOT) -> int:
    """The cores that this process may keep busy: a quota of one and a half is two."""
    own = _processors()
    shares = [_quota(group) for group in _groups("cpu", root)]
    return max(1, min([own, *(math.ceil(share) for share in shares if share < own)]))


def _processors() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available(root: Path = ROOT) -> float:
    """Bytes of memory that this process could still take."""
    free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = float(line.split()[1]) * 1024
    return max(0.0, min([free, *map(_left, _groups("memory", root))]))


def _quota(group: Path) -> float:
    """Cores that a group may use; infinite without a quota."""
    quota, period = [*_read(group / "cpu.max").split(), "", ""][:2]
    if not quota:
        quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else math.inf


def _left(group: Path) -> float:
    """Bytes that a group may still take; infinite without a limit. Cached files count as free: they give way."""
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines() if len(line.split()) == 2)
    left = math.inf
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.high", "memory.current", "inactive_file"),  # beyond it a process is slowed down to a crawl
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _read(group / limit).strip(), _read(group / used).strip()
        if most.isdecimal() and taken.isdecimal():
            left = min(left, int(most) - int(taken) + int(stat.get(cached, 0)))
    return left


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control group and of all groups around it, for one kind of resource."""
    own: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)  # of version 2 the name is empty
    for line in _read(root / "proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        top, mount = place.split()[3:5]
        v2 = kind.startswith("cgroup2 ")
        if not v2 and not (kind.startswith("cgroup ") and controller in kind.split()[2].split(",")):
            continue
        path = own.get("" if v2 else controller, top)
        inner = os.path.relpath(path, top)  # in a container the tree may be mounted from a group downwards
        folder = root / mount.lstrip("/")
        if inner != "." and not inner.startswith(".."):
            for depth in range(inner.count("/") + 1, 0, -1):
                yield folder.joinpath(*inner.split("/")[:depth])
        yield folder


def _read(path: Path) -> str:
    """The text of a file, "" where there is none. Paths may be in it, which have any bytes."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
