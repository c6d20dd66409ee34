"""JAX: an epoch is one compiled call, lax.scan over its shuffled batches; optax's Adam. --runs K is jax.vmap over K."""

import os
from functools import partial

import entrant

work = entrant.arguments(runs=["1", "10", "16"], orders=["shared", "own"], runtime=["thunks", "one-call"])
if work.runtime == "one-call":  # what jaxlib 0.4.31 does anyway; it ends at a flag that it does not know
    known = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith("--xla_cpu_max_isa")]
    os.environ["XLA_FLAGS"] = " ".join([*known, "--xla_cpu_use_thunk_runtime=false"])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402


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
    x, labels = map(jnp.asarray, entrant.load(work))
    runs, own = int(work.runs), work.orders == "own" and not work.full
    optimizer = optax.adam(1e-3)

    def started(seed: int):
        weights = entrant.initial(entrant.layers(work), seed)
        parameters = [(jnp.asarray(w.T), jnp.zeros(len(w))) for w in weights]
        return parameters, optimizer.init(parameters)

    def step(state, batch):
        parameters, moments = state
        gradient, metrics = jax.grad(loss_of, has_aux=True)(parameters, *batch)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(parameters, updates), moments), metrics

    state = started(work.seed)
    if runs > 1:
        step = jax.vmap(step, in_axes=(0, 0 if own else None))
        states = [started(work.seed + run) for run in range(runs)]
        state = jax.tree_util.tree_map(lambda *leaves: jnp.stack(leaves), *states)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, key, x, labels):
        if work.full:
            return step(state, (x, labels))
        whole = work.rows // work.batch * work.batch
        permuted = partial(jax.random.permutation, x=work.rows)
        order = jax.vmap(permuted)(jax.random.split(key, runs)) if own else permuted(key)  # (*runs, rows)
        batches = order[..., :whole].reshape(*order.shape[:-1], -1, work.batch)
        state, (losses, right) = jax.lax.scan(
            lambda state, rows: step(state, (x[rows], labels[rows])), state, jnp.moveaxis(batches, -2, 0)
        )
        loss, correct = losses.sum(0), right.sum(0)
        if whole < work.rows:  # the last batch is shorter
            rows = order[..., whole:]
            state, (more, others) = step(state, (x[rows], labels[rows]))
            loss, correct = loss + more, correct + others
        return state, (loss, correct)

    key = jax.random.key(work.seed)

    def train() -> tuple[float, float]:
        nonlocal state, key
        key, now = jax.random.split(key)
        state, metrics = epoch(state, now, x, labels)
        loss, correct = (float(jnp.ravel(metric)[0]) for metric in metrics)  # of the first run
        return loss / work.rows, correct / work.rows

    multiply = jax.jit(jnp.matmul)
    product = (jnp.asarray, lambda a, b: multiply(a, b).block_until_ready())
    entrant.serve(train, "jax", "jaxlib", "optax", product=product)


if __name__ == "__main__":
    main()
