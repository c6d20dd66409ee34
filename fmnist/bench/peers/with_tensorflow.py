"""TensorFlow's low-level API: an epoch in one tf.function in float32, or the report's recipe, eager in float64."""

import os

import entrant

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

REPORT_WEIGHTS = ((0.0, 0.05), (0.1, 0.08), (0.2, 0.03))  # mean and standard deviation by depth


def compiled(work):
    """A graph for the whole epoch: shuffle, batches and metrics included."""
    x, labels = (tf.constant(array) for array in entrant.load(work))
    weights = [tf.Variable(w.T) for w in entrant.initial(entrant.layers(work), work.seed)]
    biases = [tf.Variable(tf.zeros(w.shape[1])) for w in weights]
    variables = weights + biases
    optimizer = tf.keras.optimizers.Adam(1e-3)
    optimizer.build(variables)

    def step(x, labels):
        with tf.GradientTape() as tape:
            z = x
            for w, b in zip(weights[:-1], biases[:-1], strict=True):
                z = tf.nn.relu(z @ w + b)
            logits = z @ weights[-1] + biases[-1]
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            mean = loss / tf.cast(tf.shape(x)[0], tf.float32)
        optimizer.apply_gradients(zip(tape.gradient(mean, variables), variables, strict=True))
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))

    @tf.function
    def epoch():
        if work.full:
            return step(x, labels)
        order = tf.random.shuffle(tf.range(work.rows))
        total, correct = 0.0, 0.0
        for start in tf.range(0, work.rows, work.batch):
            rows = order[start : start + work.batch]
            loss, right = step(tf.gather(x, rows), tf.gather(labels, rows))
            total += loss
            correct += right
        return total, correct

    return epoch


def report(work):
    """The report's own recipe: weights (out, in), its initial values, its softmax over the rows, its loss."""
    x, labels = entrant.load(work)
    x, targets = tf.constant(x, tf.float64), tf.one_hot(labels, entrant.CLASSES, dtype=tf.float64)
    scales = [REPORT_WEIGHTS[min(depth, 2)] for depth in range(len(work.hidden) + 1)]
    shapes = entrant.layers(work)
    weights = [
        tf.Variable(tf.random.normal(shape, *scale, dtype=tf.float64))
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    biases = [tf.Variable(tf.random.normal((out,), dtype=tf.float64)) for out, _ in shapes]
    variables = weights + biases
    optimizer = tf.keras.optimizers.Adam()

    def step(x, targets):
        with tf.GradientTape() as tape:
            z = x
            for w, b in zip(weights[:-1], biases[:-1], strict=True):
                z = tf.nn.relu(z @ tf.transpose(w) + b)
            exponents = tf.exp(z @ tf.transpose(weights[-1]) + biases[-1])
            p = exponents / tf.reduce_sum(exponents, axis=0)
            terms = targets * tf.math.log(p) + (1 - targets) * tf.math.log(1 - p)
            loss = -tf.reduce_sum(terms) / len(x)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        right = tf.reduce_sum(tf.cast(tf.argmax(p, 1) == tf.argmax(targets, 1), tf.float64))
        return loss * len(x), right

    def epoch():
        if work.full:
            return step(x, targets)
        order = tf.random.shuffle(tf.range(work.rows))
        total, correct = 0.0, 0.0
        for start in range(0, work.rows, work.batch):
            rows = order[start : start + work.batch]
            loss, right = step(tf.gather(x, rows), tf.gather(targets, rows))
            total += loss
            correct += right
        return total, correct

    return epoch


def main() -> None:
    work = entrant.arguments(recipe=["function", "report"])
    tf.keras.utils.set_random_seed(work.seed)
    epoch = compiled(work) if work.recipe == "function" else report(work)

    def train() -> tuple[float, float]:
        total, correct = epoch()
        return float(total) / work.rows, float(correct) / work.rows

    product = (tf.constant, lambda a, b: tf.matmul(a, b).numpy())
    entrant.serve(train, "tensorflow", "tensorflow_cpu", "keras", product=product)


if __name__ == "__main__":
    main()
