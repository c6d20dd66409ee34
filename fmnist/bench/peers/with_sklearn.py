"""scikit-learn's MLPClassifier, an epoch per partial_fit; the training accuracy is its `score`."""

import numpy as np
import worker
from sklearn.neural_network import MLPClassifier


class Started(MLPClassifier):
    """With the initial weights that all entrants share: scikit-learn has no argument for them."""

    def _init_coef(self, fan_in, fan_out, dtype):
        return next(self.drawn).T.astype(dtype, order="C"), np.zeros(fan_out, dtype)


def main() -> None:
    work = worker.arguments()
    x, labels = worker.load(work)
    model = Started(
        work.hidden, solver="adam", alpha=0.0, batch_size=work.batch, learning_rate_init=1e-3, shuffle=not work.full,
        random_state=work.seed,
    )  # fmt: skip
    model.drawn = worker.initial(worker.layers(work), work.seed)

    def train() -> tuple[float, float]:
        model.partial_fit(x, labels, classes=np.arange(worker.CLASSES))
        return float(model.loss_), float(model.score(x, labels))

    worker.serve(train, "scikit-learn", "numpy")


if __name__ == "__main__":
    main()
