"""scikit-learn's SVC, which is LIBSVM: an RBF kernel, one machine for each pair of classes, one thread."""

import classic
import entrant
import numpy as np
from sklearn.svm import SVC

SETTINGS = {"kernel": "rbf", "C": 10.0, "gamma": "scale"}
CACHE = 2000  # MB
PIECE = 500  # test rows at a time


def main() -> None:
    work = entrant.arguments()
    course = classic.Course("scikit-learn")
    x, labels = entrant.load(work)
    with course.phase("training"):
        model = SVC(**SETTINGS, cache_size=CACHE).fit(x, labels)
    with course.phase("testing"):
        test, expected = entrant.load(work, "t10k")
        found = []
        for first in range(0, len(test), PIECE):
            course.doing(f"testing: image {first:,} of {len(test):,}")
            found.append(model.predict(test[first : first + PIECE]))
    accuracy = float((np.concatenate(found) == expected).mean())
    chosen = {"support_vectors": len(model.support_)}
    course.end(SETTINGS, len(x), len(expected), chosen, accuracy=accuracy, log_loss=None)


if __name__ == "__main__":
    main()
