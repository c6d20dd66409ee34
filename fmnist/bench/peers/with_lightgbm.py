"""LightGBM: trees that grow leaf by leaf."""

import classic
import entrant
import lightgbm

SETTINGS = {
    "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 0.3, "bagging_fraction": 0.8,
    "bagging_freq": 1, "lambda_l2": 1.0,
}  # fmt: skip


def main() -> None:
    work = entrant.arguments()
    given = SETTINGS | {"objective": "multiclass", "num_class": entrant.CLASSES, "metric": "multi_logloss",
                        "num_threads": work.threads, "seed": work.seed, "deterministic": True, "force_row_wise": True,
                        "verbosity": -1}  # fmt: skip

    def fit(rows, held_out, most, seen):
        train = lightgbm.Dataset(*rows)
        calls = [lambda env: seen(env.iteration, *(value for _, _, value, *_ in env.evaluation_result_list))]
        if held_out is None:
            model = lightgbm.train(given, train, most, callbacks=calls)
            return model.predict, most
        calls.append(lightgbm.early_stopping(classic.PATIENCE, verbose=False))
        tail = lightgbm.Dataset(*held_out, reference=train)
        model = lightgbm.train(given, train, most, valid_sets=[tail], callbacks=calls)
        return model.predict, model.best_iteration  # it predicts by the best rounds

    classic.boost(work, SETTINGS, fit, "lightgbm")


if __name__ == "__main__":
    main()
