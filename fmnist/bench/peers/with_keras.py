"""Keras 3: compile and fit, on the backend asked for."""

import os

import entrant

work = entrant.arguments(backend=["tensorflow", "jax", "torch"])
os.environ["KERAS_BACKEND"] = work.backend
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402


class Served(keras.callbacks.Callback):
    """Each epoch is a turn."""

    def on_train_begin(self, logs=None):
        product = (keras.ops.convert_to_tensor, lambda a, b: keras.ops.convert_to_numpy(keras.ops.matmul(a, b)))
        self.turns = entrant.Turns("keras", work.backend, "tensorflow_cpu", product=product)

    def on_epoch_begin(self, epoch, logs=None):
        self.turns.wait()

    def on_epoch_end(self, epoch, logs=None):
        self.turns.answer(float(logs["loss"]), float(logs["accuracy"]))


def main() -> None:
    keras.utils.set_random_seed(work.seed)
    x, labels = entrant.load(work)
    dense = [keras.layers.Dense(width, activation="relu") for width in work.hidden]
    model = keras.Sequential([keras.Input((entrant.PIXELS,)), *dense, keras.layers.Dense(entrant.CLASSES)])
    for layer, weight in zip(model.layers, entrant.initial(entrant.layers(work), work.seed), strict=True):
        layer.set_weights([weight.T, layer.get_weights()[1]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(x, labels, batch_size=work.batch, epochs=10**9, verbose=0, shuffle=not work.full, callbacks=[Served()])


if __name__ == "__main__":
    main()
