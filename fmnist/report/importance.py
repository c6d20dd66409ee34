"""How much each knob decides: permutation importance on a random forest (Breiman 2001), by scikit-learn.

A forest learns the rank of a configuration from its knobs. It is asked about configurations that it has not seen, first
as they are, then with the values of one knob shuffled among them. What its R² loses is the importance of that knob.
Ranks, not metrics: else one run that has diverged decides all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fmnist.report.axes import Scale
from fmnist.report.comparison import Comparison
from fmnist.report.gallery import suits
from fmnist.report.intervals import ranks
from fmnist.report.plots import STYLE, STYLES, WIDTH, Picture, literal
from fmnist.report.words import in_words, knob_in_words

ENOUGH = 12  # finished configurations
REPEATS = 5  # each with its own folds, forests and shuffles
FOLDS = 4
TREES = 50
DRAWN = 500  # configurations that a tree learns from, at most: a sweep may have ten thousand
NONE = 0.05  # R² of a forest that has learnt nothing worth telling


@dataclass(frozen=True)
class Importances:
    """r2: of the forests on configurations that they have not seen, by repeat. drops: what it loses when the values of
    a knob are shuffled, by knob and repeat."""

    r2: list[float]
    drops: dict[str, list[float]]


class Unseen:
    """Forests, each of which has learnt from all but a fold of the configurations. A prediction for a configuration is
    that of the forest that has not seen it, so X must have all configurations in the order of `fit`."""

    def __init__(self, named: Sequence[int], seed: int) -> None:
        self.named, self.seed = [*named], seed
        self.parts: list[tuple[Any, Any]] = []

    def fit(self, X: Any, y: Any) -> "Unseen":
        """X (configurations, knobs): the number of each value in the order of the knob's values. Those of the knobs
        `named` have no order: each value becomes a column of its own. y (configurations,)."""
        from sklearn.compose import make_column_transformer
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.model_selection import KFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        folds = KFold(FOLDS, shuffle=True, random_state=self.seed)
        for known, unseen in folds.split(X):
            columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), self.named),
                                              remainder="passthrough", sparse_threshold=0)  # fmt: skip
            forest = RandomForestRegressor(TREES, max_samples=min(len(known), DRAWN), random_state=self.seed)
            self.parts.append((unseen, make_pipeline(columns, forest).fit(X[known], y[known])))
        return self

    def predict(self, X: Any) -> Any:
        """(configurations,)"""
        predicted = np.empty(len(X))
        for unseen, forest in self.parts:
            predicted[unseen] = forest.predict(X[unseen])
        return predicted


def free(comparison: Comparison) -> list[str]:
    """The knobs that vary, but for those that only follow from the choice of their group, as optim.betas may."""
    found = []
    for name in comparison.varying:
        choice = f"{name.rpartition('.')[0]}.name"
        pairs = {(repr(c.knobs.get(choice)), repr(c.knobs.get(name))) for c in comparison.finished}
        follows = choice in comparison.varying and len(pairs) == len({chosen for chosen, _ in pairs})
        found += [name] if name == choice or not follows else []
    return found


def importances(comparison: Comparison) -> Importances:
    """Of the knobs that vary, on the ranks of the finished configurations. The same for the same comparison."""
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import r2_score

    finished, names = comparison.finished, free(comparison)
    scales = [Scale.of(name, finished) for name in names]
    X = np.array([[scale.index(c) for scale in scales] for c in finished])
    y = np.array(ranks([c.interval("objective").mean for c in finished]))
    named = [place for place, scale in enumerate(scales) if not scale.ordered]
    found = Importances([], {name: [] for name in names})
    for repeat in range(REPEATS):
        forests = Unseen(named, repeat).fit(X, y)
        found.r2.append(r2_score(y, forests.predict(X)))
        drops = permutation_importance(forests, X, y, scoring=lambda model, X, y: r2_score(y, model.predict(X)),
                                       n_repeats=REPEATS, random_state=repeat)  # fmt: skip
        for name, drop in zip(names, drops.importances_mean, strict=True):
            found.drops[name].append(float(drop))
    return found


@suits(when=lambda comparison: len(free(comparison)) > 1)
def importance(comparison: Comparison) -> "Picture | str":
    """How much each of several knobs decides the rank of a configuration."""
    many = len(comparison.finished)
    if many < ENOUGH:
        return f"The importance of the knobs is shown from {ENOUGH} finished configurations on; here are {many}."
    found = importances(comparison)
    r2 = fmean(found.r2)
    if r2 < NONE:
        return (f"The importance of the knobs is not shown: from the knobs a random forest cannot tell the rank of a "
                f"configuration that it has not seen (R² {r2:.2f}, {many} configurations).")  # fmt: skip
    names = sorted(found.drops, key=lambda name: fmean(found.drops[name]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        means = [fmean(found.drops[name]) for name in names]
        spans = [[mean - min(found.drops[name]), max(found.drops[name]) - mean]
                 for name, mean in zip(names, means, strict=True)]  # fmt: skip
        axes.barh(range(len(names)), means, xerr=np.transpose(spans), color=STYLES[0][0], height=0.6, capsize=3,
                  ecolor="#444444")  # fmt: skip
        axes.set_yticks(range(len(names)), [literal(knob_in_words(name)) for name in names])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("importance: R² lost when the knob's values are shuffled")
    return Picture(
        "importance",
        figure,
        "How much each knob decides. A random forest learns from its knobs the rank of a configuration by "
        f"{in_words(comparison.judged_by)}. On configurations that it has not seen its R² is {r2:.2f}. A bar is what "
        "this loses when the values of a knob are shuffled (permutation importance, scikit-learn); lines go from the "
        f"least to the most of {REPEATS} repeats with other folds, forests and shuffles. It holds for the values that "
        f"were tried, in {many} configurations.",
    )
