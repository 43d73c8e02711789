"""One seed's epoch and its evaluation, as pure functions of the state.

They are mapped over seeds and compiled by the trainer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gc_optax.experiments.data import Dataset
from gc_optax.experiments.training.augmentation import crop_and_flip, standardize
from gc_optax.experiments.training.network import Network, Params, Statistics

AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array] | None] = {
    "none": None,
    "crop-flip": crop_and_flip,
}

Placed = Callable[[Any], Any]


class Metrics(NamedTuple):
    """What is measured after an epoch: numbers, or arrays with one entry per seed."""

    train_loss: Any
    train_accuracy: Any
    test_loss: Any
    test_accuracy: Any


class State(NamedTuple):
    """All that an epoch changes."""

    params: Params
    statistics: Statistics
    opt_state: optax.OptState


class Batches(NamedTuple):
    """Test examples in batches: which `(batches, size)`, and 1.0 for each, or 0.0 for padding."""

    rows: jax.Array
    weights: jax.Array


def epoch_function(
    network: Network,
    optimizer: Callable[[jax.Array], optax.GradientTransformation],
    augmentation: str = "none",
    spread: Placed = lambda batch: batch,
) -> Callable[[State, jax.Array, jax.Array, jax.Array, Dataset], tuple[State, tuple]]:
    """One epoch: `state, order, key, learning_rate, dataset -> state, (loss, accuracy)`.

    Args:
        network: What is trained.
        optimizer: From the learning rate, which is an argument so that all rates share one program.
        augmentation: A key of `AUGMENTATIONS`.
        spread: Says how a batch lies over the devices.

    The order has the rows of each batch, `(steps, batch_size)`; the key settles augmentation and
    dropout. Loss and accuracy are means over the batches as they were met, before each step.
    """
    augment = AUGMENTATIONS[augmentation]

    def epoch(state: State, order: jax.Array, key: jax.Array, learning_rate, dataset: Dataset):
        transformation = optimizer(learning_rate)

        def step(state: State, at: tuple[jax.Array, jax.Array]):
            rows, index = at
            inputs, labels = spread(jax.tree.map(lambda array: array[rows], dataset.train))
            augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, index))
            if augment is not None:
                inputs = augment(augment_key, inputs)
            inputs = network_inputs(inputs, dataset)

            def loss_and_rest(params: Params):
                logits, statistics = network.train(params, state.statistics, inputs, dropout_key)
                losses, correct = losses_and_correct(logits, labels)
                return losses.mean(), (correct.mean(), statistics)

            (loss, (accuracy, statistics)), grads = jax.value_and_grad(loss_and_rest, has_aux=True)(
                state.params
            )
            updates, opt_state = transformation.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return State(params, statistics, opt_state), (loss, accuracy)

        steps = jnp.arange(len(order), dtype=jnp.uint32)
        state, (losses, accuracies) = jax.lax.scan(step, state, (order, steps))
        return state, (losses.mean(), accuracies.mean())

    return epoch


def evaluation_function(
    network: Network, spread: Placed = lambda batch: batch
) -> Callable[[State, Batches, Dataset], tuple[jax.Array, jax.Array]]:
    """Evaluation: `state, batches, dataset -> loss, accuracy` over the test set."""

    def evaluate(state: State, eval_batches: Batches, dataset: Dataset):
        def add(sums, batch: Batches):
            inputs, labels = spread(jax.tree.map(lambda array: array[batch.rows], dataset.test))
            inputs = network_inputs(inputs, dataset)
            logits = network.evaluate(state.params, state.statistics, inputs)
            both = losses_and_correct(logits, labels)
            # Padding repeats a row that is there. Its loss may be infinite: 0 times it is NaN.
            of_batch = (jnp.where(batch.weights > 0, values, 0.0).sum() for values in both)
            return jax.tree.map(jnp.add, sums, tuple(of_batch)), None

        nothing = jnp.zeros((), jnp.float32)
        (loss, correct), _ = jax.lax.scan(add, (nothing, nothing), eval_batches)
        number = eval_batches.weights.sum()
        return loss / number, correct / number

    return evaluate


def network_inputs(inputs: jax.Array, dataset: Dataset) -> jax.Array:
    """Pixels are standardized with the training set's moments; tokens are left as they are."""
    if dataset.mean is None or dataset.std is None:
        return inputs
    return standardize(inputs, jnp.asarray(dataset.mean), jnp.asarray(dataset.std))


def losses_and_correct(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats and 1.0 where the answer is correct, means over all but the batch."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # `argmax` of NaNs is class 0, which would make a diverged network correct now and then.
    correct = (logits.argmax(-1) == labels) & jnp.isfinite(logits).all(-1)
    rest = tuple(range(1, losses.ndim))
    return losses.mean(rest), correct.astype(jnp.float32).mean(rest)


def batches(seed: jax.Array, index: jax.Array, number: int, batch_size: int) -> jax.Array:
    """The rows of each batch of epoch `index`: `(steps, batch_size)` of `number` rows in all.

    What does not fill a last batch is left out, in each epoch another part.
    """
    key = jax.random.fold_in(keys(seed)[1], index)
    steps = number // batch_size
    return jax.random.permutation(key, number)[: steps * batch_size].reshape(steps, batch_size)


def noise_key(seed: jax.Array, index: jax.Array) -> jax.Array:
    """The key of augmentation and dropout in epoch `index`."""
    return jax.random.fold_in(keys(seed)[2], index)


def keys(seed: jax.Array) -> jax.Array:
    """Three keys: for the initial weights, for the order of the examples, for noise."""
    return jax.random.split(jax.random.key(seed), 3)


def eval_batches(number: int, size: int) -> Batches:
    """The rows `0..number` in batches of `size`, the last one filled up with row 0."""
    count = -(-number // size)
    rows = jnp.arange(count * size, dtype=jnp.int32).reshape(count, size)
    there = rows < number
    return Batches(jnp.where(there, rows, 0), there.astype(jnp.float32))
