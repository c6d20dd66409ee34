"""CatBoost: symmetric trees, one for all classes in each round."""

import classic
import entrant
from catboost import CatBoostClassifier, Pool

SETTINGS = {
    "learning_rate": 0.1, "depth": 6, "l2_leaf_reg": 3.0, "rsm": 0.3, "border_count": 64, "boosting_type": "Plain",
    "bootstrap_type": "Bernoulli", "subsample": 0.8,
}  # fmt: skip


class Told:
    """Tells of each round."""

    def __init__(self, seen):
        self.seen = seen

    def after_iteration(self, info):
        tail = info.metrics.get("validation", {})
        self.seen(info.iteration - 1, *(losses[-1] for losses in tail.values()))
        return True


def main() -> None:
    work = entrant.arguments()
    given = SETTINGS | {"loss_function": "MultiClass", "classes_count": entrant.CLASSES, "random_seed": work.seed,
                        "thread_count": work.threads, "allow_writing_files": False, "verbose": False}  # fmt: skip

    def fit(rows, held_out, most, seen):
        more = {}
        if held_out is not None:
            more = {"eval_set": Pool(*held_out), "early_stopping_rounds": classic.PATIENCE, "use_best_model": True}
        model = CatBoostClassifier(iterations=most, **given).fit(Pool(*rows), callbacks=[Told(seen)], **more)
        return model.predict_proba, model.tree_count_

    classic.boost(work, SETTINGS, fit, "catboost")


if __name__ == "__main__":
    main()
