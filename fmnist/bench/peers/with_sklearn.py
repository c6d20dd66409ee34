"""scikit-learn's MLPClassifier, an epoch per partial_fit; the training accuracy is its `score`."""

import entrant
import numpy as np
from sklearn.neural_network import MLPClassifier


class Started(MLPClassifier):
    """With the initial weights that all entrants share: scikit-learn has no argument for them."""

    def _init_coef(self, fan_in, fan_out, dtype):
        return next(self.drawn).T.astype(dtype, order="C"), np.zeros(fan_out, dtype)


def main() -> None:
    work = entrant.arguments()
    x, labels = entrant.load(work)
    model = Started(
        work.hidden, solver="adam", alpha=0.0, batch_size=work.batch, learning_rate_init=1e-3, shuffle=not work.full,
        random_state=work.seed,
    )  # fmt: skip
    model.drawn = entrant.initial(entrant.layers(work), work.seed)

    def train() -> tuple[float, float]:
        model.partial_fit(x, labels, classes=np.arange(entrant.CLASSES))
        return float(model.loss_), float(model.score(x, labels))

    entrant.serve(train, "scikit-learn", "numpy", product=(np.asarray, np.matmul))


if __name__ == "__main__":
    main()
