"""`hydra/launcher=stacked`: the jobs of a sweep, trained together where they can be."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn


@dataclass
class StackedLauncherConf:
    """What `hydra.launcher.NAME=VALUE` sets."""

    _target_: str = "hydra_plugins.stacked.StackedLauncher"
    workers: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="stacked", node=StackedLauncherConf, provider="fmnist")


class StackedLauncher(BasicLauncher):
    """Runs the jobs one after another."""

    def __init__(self, workers: int | None) -> None:
        super().__init__()
        self.workers = workers

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See Launcher."""
        return super().launch(job_overrides, initial_job_idx)
