"""What a search may try: Hydra's syntax, knobs that some choices have, and that nothing grows with all combinations."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins._space import distribution
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sweep.searches import OPTUNA, SPACE, as_dict, parabola, settings, space_of, trials_in

from fmnist import UserError


@pytest.mark.parametrize(("text", "expected"), [
    ("x=interval(0,1)", FloatDistribution(0, 1)),
    ("x=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
    ("x=int(interval(1,5))", IntDistribution(1, 5)),
    ("x=tag(log,int(interval(8,512)))", IntDistribution(8, 512, log=True)),
    ("x=range(1,5)", IntDistribution(1, 4)),
    ("x=range(16,64,16)", IntDistribution(16, 48, step=16)),
    ("x=range(0.25,1.25,0.25)", FloatDistribution(0.25, 1.0, step=0.25)),
    ("x=adam,sgd", CategoricalDistribution(["adam", "sgd"])),
    ("x=1,[2,3],null", CategoricalDistribution(["1", "[2,3]", "null"])),
    ("x='a (b)','é, c'", CategoricalDistribution(["'a (b)'", "'é, c'"])),  # as one types them
    ("x=choice(a,b)", CategoricalDistribution(["a", "b"])),
    ("x=shuffle(1,2,3,4,5,6)", CategoricalDistribution(list("123456"))),  # the same again: it may go on
    ("x=shuffle(range(1,5))", IntDistribution(1, 4)),
    ("x=range(5,1,-2)", IntDistribution(3, 5, step=2)),
    ("x=range(0,1000000000000)", IntDistribution(0, 999999999999)),
])  # fmt: skip
def test_hydras_syntax_as_optunas_distributions(text, expected):
    assert distribution(OverridesParser.create().parse_override(text)) == expected


@pytest.mark.parametrize("text", [
    "x=tag(log,interval(0,1))", "x=tag(wide,interval(0,1))", "x=interval(1,0)", "x=range(0)", "x=range(0,3,0)",
    "x=range(0.0,3.0,0)", "x=tag(log,range(1,9,2))", "x=tag(log,choice(1,2))", "x=interval(0,inf)", "x=interval(nan,1)",
])  # fmt: skip
def test_a_space_that_is_none_is_refused_by_name(text):
    with pytest.raises(UserError) as caught:
        distribution(OverridesParser.create().parse_override(text))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def keys(space, **chosen):
    """The knobs that are proposed with these choices of groups."""
    return space.knobs(chosen)


def test_a_knob_that_some_choices_have_is_proposed_with_these_alone():
    space = space_of("lr=interval(0,1)", "optim.momentum=interval(0,0.9)", "+optim.betas=[0.9,0.99],[0.8,0.9]",
                     "optim=adam,adamw,sgd")  # fmt: skip
    assert keys(space, optim="sgd") == ["lr", "optim.momentum"]
    assert keys(space, optim="adam") == keys(space, optim="adamw") == ["lr", "+optim.betas"]


def test_a_knob_that_a_kind_of_model_has_no_use_for_is_proposed_with_the_others_alone():
    space = space_of("model=mlp1,linear", "dropout=interval(0.0,0.5)", "model.hidden=[8],[16]", "lr=interval(0.1,1)")
    assert keys(space, model="mlp1") == ["dropout", "model.hidden", "lr"]
    assert keys(space, model="linear") == ["lr"]


def test_what_has_one_value_is_set_where_it_can_be_set():
    space = space_of("optim=adam,sgd", "model=mlp1,linear", "+optim.momentum=0.5", "+dropout=0.3", "~data.split")
    assert space.fixed({"optim": "sgd", "model": "mlp1"}) == ["+optim.momentum=0.5", "+dropout=0.3", "~data.split"]
    assert space.fixed({"optim": "adam", "model": "linear"}) == ["~data.split"]


def test_a_knob_that_no_choice_accepts_is_proposed_so_that_its_runs_say_why():
    space = space_of("model=mlp1,linear", "select=average", "+unheard.of=1,2", "noise=interval(0.1,1)")
    for model in ("mlp1", "linear"):
        assert keys(space, model=model) == ["+unheard.of", "noise"]
        assert space.fixed({"model": model}) == ["select=average"]


def test_nothing_grows_with_the_product_of_all_lists():
    lists = [f"+x{place}=1,2,3,4,5" for place in range(12)]
    space = space_of("optim=adam,adamw,sgd", "model=mlp1,linear", "data.split=0.5,0.8", *lists, SPACE)
    corners = [*space.corners(telling=("data.split",))]  # there are three billion combinations
    assert len(corners) == 2 * (1 + 2 + 1)
    chosen = {(str(c.optim), str(c.model)) for c in corners}
    assert len(chosen) == 4  # not all six
    assert {c.data.split for c in corners} == {0.5, 0.8}


CONDITIONAL = ("optim=adam,sgd", "optim.momentum=interval(0.1,0.99)", SPACE)


@pytest.mark.long
def test_a_search_with_knobs_of_one_choice(sweep, tmp_path, capsys, recwarn):
    """On the project's own configs: proposed, pruned, killed and started again, reported; Optuna warns of nothing."""

    def objective(job):
        assert ("optim.momentum" in job) == (job["optim"] == "sgd")
        return parabola(job) + float(job.get("optim.momentum", 0)) / 100

    asked = [*OPTUNA, *CONDITIONAL, "hydra.sweeper.prune_at=[0.5]"]
    assert sweep(*asked, "hydra.sweeper.n_trials=12", objective=objective) == 0
    assert sweep(*asked, "hydra.sweeper.n_trials=24", objective=objective) == 0
    trials = trials_in(tmp_path / "here", CONDITIONAL)
    assert {state for state, *_ in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert {params["optim"] for _, _, params, _ in trials} == {"adam", "sgd"}
    assert not [str(warning.message) for warning in recwarn if "optuna" in str(warning.filename)]
    text = capsys.readouterr()
    assert "warning" not in (text.out + text.err).lower()


def test_best_yaml_has_the_knobs_of_its_choice_alone(sweep, tmp_path):
    for best, other in (("adam", "sgd"), ("sgd", "adam")):
        asked = [*OPTUNA, *settings(n_trials=8, prune_at=[]), *CONDITIONAL, f"hydra.sweep.dir={best}"]
        assert sweep(*asked, objective=lambda job, best=best: parabola(job) + (job["optim"] == best)) == 0
        first = (tmp_path / best / "best.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert f"optim={best}" in first
        assert f"optim={other}" not in first
        assert ("optim.momentum=" in first) == (best == "sgd")


def test_files_can_be_chosen_by_a_pattern(sweep):
    assert sweep(*OPTUNA, *settings(n_trials=8), "optim=glob(adam*)", SPACE, objective=parabola) == 0
    assert {as_dict(job)["optim"] for job in sweep.launcher.jobs} == {"adam", "adamw"}
