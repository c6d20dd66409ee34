"""What a process may use: cores and memory by the kernel and by control groups of both versions, in a made-up /."""

import gc
import math
import os
import resource

import pytest

from fmnist.launch.machine import Machine, available, cores, set_threads, this_machine, uncollected

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
GROUPS_V1 = "4:memory:{own}\n1:cpu,cpuacct:{own}\n0::/\n"


@pytest.fixture(autouse=True)
def _twelve_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)


def machine(root, own="/", top="/", version=2):
    """A file system in which this process is in the control group `own`; top: the group that is mounted."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text("MemTotal: 64000000 kB\nMemAvailable:  32000000 kB\n", encoding="utf-8")
    mounts, groups = (V2, "0::{own}\n") if version == 2 else (V1, GROUPS_V1)
    (root / "proc" / "self" / "mountinfo").write_text(mounts.format(top=top), encoding="utf-8")
    (root / "proc" / "self" / "cgroup").write_text(groups.format(own=own), encoding="utf-8")
    return root


def put(root, folder, **files):
    """Write the files of a control group; "__" in a name stands for a dot."""
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(f"{text}\n", encoding="utf-8")
    return root


def test_without_groups_all_that_is_free_is_ours(tmp_path):
    root = machine(tmp_path)
    assert cores(root) == 12
    assert available(root) == 32e9 * 1.024
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert this_machine(3, root) == Machine(12, 32e9 * 1.024, 3, files if files > 0 else math.inf)


@pytest.mark.parametrize(("quota", "expected"), [
    ("max 100000", 12), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 12),
    ("", 12), ("nonsense", 12),
])  # fmt: skip
@pytest.mark.parametrize("folder", ["", "jobs", "jobs/17"])
def test_a_quota_of_version_2_holds_wherever_it_is_above_us(tmp_path, quota, expected, folder):
    root = put(machine(tmp_path, own="/jobs/17"), folder, cpu__max=quota)
    put(root, "jobs/18", cpu__max="100000 100000")  # of another job
    assert cores(root) == expected


@pytest.mark.parametrize(("quota", "period", "expected"), [(-1, 100000, 12), (250000, 100000, 3), (10000, 50000, 1)])
@pytest.mark.parametrize("folder", ["", "slurm/job_7"])
def test_a_quota_of_version_1(tmp_path, quota, period, expected, folder):
    root = machine(tmp_path, own="/slurm/job_7", version=1)
    put(root, f"cpu,cpuacct/{folder}", cpu__cfs_quota_us=quota, cpu__cfs_period_us=period)
    assert cores(root) == expected


def test_memory_is_what_the_narrowest_group_leaves_and_cached_files_give_way(tmp_path):
    root = machine(tmp_path, own="/jobs/17")
    put(root, "jobs", memory__max=8_000_000_000, memory__current=7_000_000_000,
        memory__stat="anon 1\ninactive_file 2000000000\nfile 5")  # fmt: skip
    put(root, "jobs/17", memory__max="max", memory__current=1_000_000)
    assert available(root) == 3e9
    put(root, "jobs/17", memory__max=2_000_000_000)
    assert available(root) == 2e9 - 1e6
    put(root, "jobs/17", memory__current=3_000_000_000)  # a limit that was lowered
    assert available(root) == 0


@pytest.mark.parametrize(("most", "high", "expected"), [(9, 5, 4e9), (5, 9, 4e9), ("max", 5, 4e9), (5, "max", 4e9)])
def test_memory_beyond_which_a_group_is_slowed_down_is_not_planned_with(tmp_path, most, high, expected):
    files = {name: size if size == "max" else size * 1_000_000_000
             for name, size in (("memory__max", most), ("memory__high", high))}  # fmt: skip
    root = put(machine(tmp_path, own="/user.slice"), "user.slice", memory__current=1_000_000_000, **files)
    assert available(root) == expected


def test_memory_of_version_1(tmp_path):
    root = machine(tmp_path, own="/slurm/job_7", version=1)
    nothing = {"memory__limit_in_bytes": 9223372036854771712, "memory__usage_in_bytes": 5_000_000_000}
    put(root, "memory", **nothing)
    assert available(root) == 32e9 * 1.024
    put(root, "memory/slurm/job_7", memory__limit_in_bytes=4_000_000_000, memory__usage_in_bytes=1_000_000_000,
        memory__stat="cache 7\ntotal_inactive_file 500000000")  # fmt: skip
    assert available(root) == 3.5e9


@pytest.mark.parametrize("own", ["/docker/abc", "/docker/abc/inner", "/", "/elsewhere"])
def test_in_a_container_the_tree_begins_at_its_own_group(tmp_path, own):
    root = put(machine(tmp_path, own=own, top="/docker/abc"), "", cpu__max="300000 100000")
    assert cores(root) == 3
    put(root, "inner", cpu__max="100000 100000")
    assert cores(root) == (1 if own == "/docker/abc/inner" else 3)


@pytest.mark.parametrize(("version", "own"), [(2, "/jobs/17"), (1, "/jobs/17")])
def test_mount_points_may_have_any_bytes(tmp_path, version, own):
    root = machine(tmp_path, own=own, version=version)
    with open(root / "proc/self/mountinfo", "ab") as file:
        file.write(b"99 1 0:9 / /media/caf\xe9 rw - ext4 /dev/sda rw\n")
    with open(root / "proc/self/cgroup", "ab") as file:
        file.write(b"9:name=\xe9:/caf\xe9\n")
    put(root, "jobs/17", cpu__max="200000 100000")
    put(root, "cpu,cpuacct/jobs/17", cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)
    assert cores(root) == 2


@pytest.mark.parametrize(("given", "need", "expected"), [
    (Machine(12, 64e9), 1e9, 12), (Machine(12, 5e9), 1e9, 4), (Machine(12, 0.0), 1e9, 1),
    (Machine(200, 640e9, files=64), 1e9, 32), (Machine(200, 640e9, files=8), 1e9, 1),
])  # fmt: skip
def test_workers_are_the_least_of_cores_memory_and_open_files(given, need, expected):
    assert given.workers(need) == expected


def test_a_system_without_proc_has_its_own_numbers(tmp_path):
    assert cores(tmp_path) == 12
    assert available(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine_is_read():
    assert cores() >= 1
    assert 0 < available() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_is_imported_uncollected_is_never_collected_and_all_later_garbage_is():
    before = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, {"GOMP_SPINCOUNT"}),
        ({"OMP_WAIT_POLICY": "active"}, set()),
        ({"GOMP_SPINCOUNT": "7"}, set()),
    ],
)
def test_threads_wait_awake_for_a_short_time_unless_the_user_says_how_long(given, added):
    environment = dict(given)
    set_threads(environment)
    assert set(environment) - set(given) == added
    assert given.items() <= environment.items()


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "5"}, "5")])
def test_no_more_threads_than_a_quota_allows_unless_the_user_says_so(monkeypatch, given, expected):
    monkeypatch.setattr("fmnist.launch.machine.cores", lambda: 1)
    environment = dict(given)
    set_threads(environment)
    assert environment["OMP_NUM_THREADS"] == expected
