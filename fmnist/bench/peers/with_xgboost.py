"""XGBoost: trees by histograms, level by level."""

import classic
import entrant
import xgboost

SETTINGS = {
    "tree_method": "hist", "learning_rate": 0.1, "max_depth": 6, "subsample": 0.8, "colsample_bytree": 0.3,
    "lambda": 1.0,
}  # fmt: skip


class Told(xgboost.callback.TrainingCallback):
    """Tells of each round."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def after_iteration(self, model, epoch, evals_log):
        self.seen(epoch, *(losses["mlogloss"][-1] for losses in evals_log.values()))
        return False


def main() -> None:
    work = entrant.arguments()
    given = SETTINGS | {"objective": "multi:softprob", "num_class": entrant.CLASSES, "nthread": work.threads,
                        "seed": work.seed, "verbosity": 0}  # fmt: skip

    def fit(rows, held_out, most, seen):
        train = xgboost.DMatrix(rows[0], label=rows[1])
        more = {}
        if held_out is not None:
            tail = xgboost.DMatrix(held_out[0], label=held_out[1])
            more = {"evals": [(tail, "tail")], "early_stopping_rounds": classic.PATIENCE, "verbose_eval": False}
        model = xgboost.train(given, train, most, callbacks=[Told(seen)], **more)
        rounds = most if held_out is None else model.best_iteration + 1
        return lambda x: model.predict(xgboost.DMatrix(x), iteration_range=(0, rounds)), rounds

    classic.boost(work, SETTINGS, fit, "xgboost-cpu")


if __name__ == "__main__":
    main()
