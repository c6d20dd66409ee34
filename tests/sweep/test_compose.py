"""A job is composed as Hydra composes it, at a fraction of the time; what is unusual is left to Hydra."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from hydra_plugins._compose import Composer

from fmnist import ROOT


@pytest.fixture(scope="module")
def loader():
    setup_globals()
    Plugins.instance()
    JobRuntime.instance().set("name", "train")
    return ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))


@pytest.mark.few(4)
@pytest.mark.parametrize("overrides", [
    [], ["seed=3"], ["+dropout=0.1"], ["++dropout=0.1", "lr=1e-2"], ["~log_every"], ["model.hidden=[30,20]", "seed=1"],
    ["model=deep", "model.depth=5", "skip=true"], ["model=vae", "+model.iwae_samples=5"], ["order_seed=5"],
    ["experiment=q1_4_2_wide", "epochs=3"], ["optim=sgd", "optim.momentum=0.5"], ["order_seed=${epochs}"],
    ["data=idx", "data.dir='/a b/c'"], ["++anomaly={normal:3}"], ["batch_size=null"],
], ids=str)  # fmt: skip
def test_a_job_is_composed_as_hydra_composes_it(overrides, loader):
    typed = ["lr=1e-3,1e-2", "seed=range(0,3)", "hydra.verbose=true", "hydra.sweep.dir=x"]
    master = loader.load_configuration("config", typed, RunMode.MULTIRUN)
    str(master.hydra.run.dir)  # the time in it is told once, and every job inherits it
    compose = Composer(loader, master)
    expected = loader.load_sweep_config(master, overrides)
    for _ in range(2):  # anew, and from a copy
        got = compose._quickly(overrides)
        assert got == expected
        assert got._get_full_key(None) == expected._get_full_key(None)
        for part in ("hydra", "model", None):
            flags = [(node if part is None else node[part])._metadata.flags for node in (got, expected)]
            assert flags[0] == flags[1]


@pytest.mark.parametrize(("overrides", "message"), [
    (["droput=1"], "Could not override 'droput'"), (["model=mlp9"], "mlp9"), (["lr=1,2"], "lr=1,2"),
])  # fmt: skip
def test_a_job_that_hydra_refuses_is_refused_by_hydra(overrides, message, loader):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    with pytest.raises(Exception, match=message):
        Composer(loader, master)(overrides)


def test_files_are_composed_once_for_each_choice_of_them(loader, monkeypatch):
    asked, original = [], ConfigLoaderImpl.load_sweep_config

    def noted(self, master_config, sweep_overrides):
        asked.append(sweep_overrides)
        return original(self, master_config, sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", noted)
    compose = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
    for seed in range(20):
        for model in ("mlp1", "deep"):
            compose([f"model={model}", f"seed={seed}", "+dropout=0.1"])
    assert asked == [["model=mlp1"], ["model=deep"]]
