"""`hydra/launcher=stacked_slurm` without a cluster: SLURM's programs and submitit's executor are stood in for."""

import os
import stat
from types import SimpleNamespace

import pytest
import submitit
from helpers import make_config
from hydra.errors import CompactHydraException
from hydra_plugins.stacked_slurm import Array, StackedSlurmLauncher
from submitit.core.utils import FailedJobError, FailedSubmissionError

from fmnist.launch.pool import Task
from fmnist.launch.progress import Progress
from fmnist.record.result import Outcome

QUEUE = {"submitit_folder": "logs/%j", "max_num_timeout": 3, "array_parallelism": 6, "cpus_per_task": 2,
         "partition": "main", "setup": ["module load x"]}  # fmt: skip


class Job:
    """A job of submitit that has ended at once."""

    def __init__(self, number, given, result):
        self.job_id, self.given, self._result = number, given, result
        self.state, self.paths = Executor.state, SimpleNamespace(stderr="logs/err")

    def done(self, force_check):
        return True

    def result(self):
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class Executor:
    """Submitit's, as far as the launcher asks it; `arrays` has what was submitted."""

    state, arrays, refuse_from, answer = (
        "FAILED",
        [],
        99,
        staticmethod(lambda configs: [Outcome(0.5, {}) for _ in configs]),
    )

    def __init__(self, folder, cluster, slurm_max_num_timeout):
        self.folder, self.parameters = folder, {}

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def map_array(self, task, configs, directories, threads):
        if len(self.arrays) >= self.refuse_from:
            raise FailedSubmissionError("Invalid job array specification")
        assert type(task).__name__ == "StackTask"  # Hydra may have imported the module once more
        number = 100 + len(self.arrays)
        self.arrays.append((self.parameters, configs, threads))
        return [Job(f"{number}_{place}", each, self.answer(each)) for place, each in enumerate(configs)]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SLURM's programs: squeue knows of no job, scontrol of the largest array, scancel notes what it cancels."""
    programs = {
        "squeue": "exit 0", "scancel": f'echo "$@" >> {tmp_path}/cancelled',
        "scontrol": "printf 'MaxArraySize            = 10\\nMaxJobCount = 10000\\n'",
    }  # fmt: skip
    (tmp_path / "bin").mkdir()
    for name, does in programs.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Executor, "arrays", [])
    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    return tmp_path


def tasks_of(folder, count):
    return [Task([make_config(seed=run)], [folder / str(run)], [run]) for run in range(count)]


def train(folder, count, workers=6, variables=None):
    """What became of so many tasks, by their runs."""
    ended = {}
    array = Array(QUEUE, variables or {})
    with Progress([60] * count, [0] * count, 0, ended.__setitem__) as progress:
        assert array.train(tasks_of(folder, count), workers, 2, progress) is None
    return ended


@pytest.mark.parametrize(("tasks", "sizes", "at_once"), [(10, [10], 6), (25, [10, 10, 5], 2), (61, [10] * 6 + [1], 1)])
def test_more_tasks_than_an_array_may_have_are_several_arrays(slurm, tasks, sizes, at_once):
    assert sorted(train(slurm, tasks)) == list(range(tasks))
    assert [len(configs) for _, configs, _ in Executor.arrays] == sizes
    assert [config.seed for _, configs, _ in Executor.arrays for (config,) in configs] == list(range(tasks))
    assert {parameters["slurm_array_parallelism"] for parameters, _, _ in Executor.arrays} == {at_once}


def test_where_the_cluster_does_not_say_slurms_own_bound_holds(slurm):
    (slurm / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    train(slurm, 1002)
    assert [len(configs) for _, configs, _ in Executor.arrays] == [1001, 1]


def test_arrays_that_were_submitted_are_cancelled_if_a_later_one_is_refused(slurm, monkeypatch):
    monkeypatch.setattr(Executor, "refuse_from", 1)
    with pytest.raises(CompactHydraException, match="SLURM refuses the job array: Invalid job array specification"):
        train(slurm, 25)
    assert (slurm / "cancelled").read_text(encoding="utf-8") == "100\n"


def test_tasks_have_the_project_on_their_path_and_the_variables_of_the_jobs(slurm):
    train(slurm, 1, variables={"MARK": "it's a b"})
    ((parameters, _, threads),) = Executor.arrays
    assert threads == [2]
    setup = parameters["slurm_setup"]
    assert setup[0] == "module load x"
    assert """export MARK='it'"'"'s a b'""" in setup
    assert "export SRUN_CPUS_PER_TASK=2" in setup
    assert parameters["slurm_partition"] == "main"
    assert parameters["cpus_per_task"] == 2


def test_runs_of_a_task_that_was_killed_are_told_by_their_records(slurm, monkeypatch):
    (slurm / "0").mkdir()
    text = '{"status": "running", "error": null, "metrics": {}, "config": {}, "config_hash": "x", "epoch": 3}'
    (slurm / "0" / "result.json").write_text(text, encoding="utf-8")
    for run, status in ((1, '"damaged'), (2, '"done"')):
        (slurm / str(run)).mkdir()
        text = f'{{"status": {status}, "objective": 0.25, "config": {{}}, "config_hash": "x", "epoch": 3}}'
        (slurm / str(run) / "result.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(Executor, "answer", staticmethod(lambda configs: FailedJobError("killed")))
    ended = train(slurm, 4)
    died = "SLURM job 100_{} ended as FAILED without a result (logs/err)"
    assert [ended[run].error for run in range(4)] == [died.format(0), died.format(1), None, died.format(3)]
    assert ended[2].objective == 0.25
    assert '"interrupted"' in (slurm / "0" / "result.json").read_text(encoding="utf-8")
    for run in (0, 1, 3):
        assert (slurm / str(run) / "train.log").read_text(encoding="utf-8").endswith(f"error: {died.format(run)}\n")


def test_a_stack_that_was_killed_for_want_of_memory_goes_on_in_halves(slurm, monkeypatch, caplog):
    def answer(configs):
        return FailedJobError("killed") if len(configs) > 2 else [Outcome(0.5, {}) for _ in configs]

    monkeypatch.setattr(Executor, "state", "OUT_OF_MEMORY")
    monkeypatch.setattr(Executor, "answer", staticmethod(answer))
    (slurm / "0").mkdir()
    text = '{"status": "done", "objective": 0.25, "error": null, "config": {}, "config_hash": "x", "epoch": 3}'
    (slurm / "0" / "result.json").write_text(text, encoding="utf-8")
    task, ended = (
        Task([make_config(seed=run) for run in range(5)], [slurm / str(run) for run in range(5)], range(5)),
        {},
    )
    with Progress([60] * 5, [0] * 5, 0, ended.__setitem__) as progress:
        assert Array(QUEUE, {}).train([task], 6, 2, progress) is None
    assert {run: (outcome.objective, outcome.error) for run, outcome in sorted(ended.items())} == {
        run: (0.5 if run else 0.25, None) for run in range(5)
    }
    assert [[config.seed for config in stack] for _, stacks, _ in Executor.arrays for stack in stacks] == [
        [0, 1, 2, 3, 4], [1, 2], [3, 4],
    ]  # fmt: skip
    died = "SLURM job 100_0 ended as OUT_OF_MEMORY without a result (logs/err)"
    assert f"a stack of 4 runs, 1 to 4, was cut off: they go on as stacks of 2 and 2 ({died})" in caplog.messages


def test_a_single_run_that_was_killed_for_want_of_memory_fails(slurm, monkeypatch):
    monkeypatch.setattr(Executor, "state", "OUT_OF_MEMORY")
    monkeypatch.setattr(Executor, "answer", staticmethod(lambda configs: FailedJobError("killed")))
    assert train(slurm, 1)[0].error == "SLURM job 100_0 ended as OUT_OF_MEMORY without a result (logs/err)"


def test_what_a_cluster_says_may_have_any_bytes(slurm):
    text = "#!/bin/sh\nprintf 'ClusterName = caf\\351\\nMaxArraySize = 4\\n'\n"
    (slurm / "bin" / "scontrol").write_text(text, encoding="utf-8")
    train(slurm, 5)
    assert [len(configs) for _, configs, _ in Executor.arrays] == [4, 1]


@pytest.mark.parametrize(("setting", "says"), [
    ({"array_parallelism": 0}, "hydra.launcher.array_parallelism must be a whole number of at least 1, got 0"),
    ({"nodes": 2}, "hydra.launcher.nodes must be 1, got 2: one task trains a whole stack"),
    ({"tasks_per_node": 4}, "hydra.launcher.tasks_per_node must be 1, got 4: one task trains a whole stack"),
    ({"additional_parameters": {"ntasks-per-node": 2}}, "hydra.launcher.additional_parameters.ntasks-per-node must"),
])  # fmt: skip
def test_settings_with_which_nothing_or_each_run_twice_would_be_trained_are_refused(setting, says, capsys):
    settings = QUEUE | {"nodes": 1, "tasks_per_node": 1, "additional_parameters": {}} | setting
    launcher = StackedSlurmLauncher(workers=None, stack=None, dry_run=False, **settings)
    with pytest.raises(SystemExit) as refused:
        launcher.setup(hydra_context=None, task_function=None, config=None)
    assert refused.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")


def test_without_slurms_programs_the_launcher_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompactHydraException, match="needs a SLURM cluster: no squeue here"):
        train(tmp_path, 1)


@pytest.mark.parametrize(("queue", "expected"), [
    ({"cpus_per_task": 2}, (4, 2, 8)), ({"cpus_per_task": 2, "mem_gb": 1}, (4, 2, 8)),
    ({"gpus_per_node": 1}, (1, None, 32)), ({"gres": "gpu:1"}, (1, None, 32)), ({"array_parallelism": 3}, (3, 1, 8)),
])  # fmt: skip
def test_the_plan_is_for_nodes_as_they_are_asked_for(queue, expected, tmp_path):
    settings = {"submitit_folder": "x", "array_parallelism": 256} | queue
    launcher = StackedSlurmLauncher(workers=None, stack=None, dry_run=False, **settings)
    jobs = [SimpleNamespace(checked=make_config(seed=seed), epoch=0) for seed in range(32)]
    chosen = launcher._plan(jobs)
    assert (chosen.workers, chosen.threads, max(map(len, chosen.stacks))) == expected
    assert not chosen.measured
