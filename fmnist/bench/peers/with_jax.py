"""JAX: an epoch is one compiled call, lax.scan over its shuffled batches; optax's Adam."""

from functools import partial

import entrant
import jax
import jax.numpy as jnp
import optax


def forward(parameters, x):
    for w, b in parameters[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = parameters[-1]
    return x @ w + b


def loss_of(parameters, x, labels):
    logits = forward(parameters, x)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return loss.mean(), (loss.sum(), (logits.argmax(1) == labels).sum())


def main() -> None:
    work = entrant.arguments()
    x, labels = map(jnp.asarray, entrant.load(work))
    parameters = [(jnp.asarray(w.T), jnp.zeros(len(w))) for w in entrant.initial(entrant.layers(work), work.seed)]
    optimizer = optax.adam(1e-3)
    state = parameters, optimizer.init(parameters)

    def step(state, batch):
        parameters, moments = state
        gradient, metrics = jax.grad(loss_of, has_aux=True)(parameters, *batch)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(parameters, updates), moments), metrics

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, key, x, labels):
        if work.full:
            return step(state, (x, labels))
        whole = work.rows // work.batch * work.batch
        order = jax.random.permutation(key, work.rows)
        state, (losses, right) = jax.lax.scan(
            lambda state, rows: step(state, (x[rows], labels[rows])), state, order[:whole].reshape(-1, work.batch)
        )
        loss, correct = losses.sum(), right.sum()
        if whole < work.rows:  # the last batch is shorter
            state, (more, others) = step(state, (x[order[whole:]], labels[order[whole:]]))
            loss, correct = loss + more, correct + others
        return state, (loss, correct)

    key = jax.random.key(work.seed)

    def train() -> tuple[float, float]:
        nonlocal state, key
        key, now = jax.random.split(key)
        state, (loss, correct) = epoch(state, now, x, labels)
        return float(loss) / work.rows, float(correct) / work.rows

    entrant.serve(train, "jax", "jaxlib", "optax")


if __name__ == "__main__":
    main()
