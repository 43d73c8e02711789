"""Training: many seeds side by side, each epoch one compiled scan.

A seed settles the initial weights and the order of the training images, and nothing else does, so
the arms of a comparison are paired by seed, and a seed gives the same run alone and in company.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from gc_optax.experiments._config import Config
from gc_optax.experiments._data import SOURCES, Dataset, Split
from gc_optax.experiments._optimizers import LearningRate, chain, links
from gc_optax.models import MODELS

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


class State(NamedTuple):
    """All that an epoch changes; its leaves lead with an axis of seeds."""

    params: Params
    opt_state: optax.OptState


class EpochResult(NamedTuple):
    """Metrics, each of shape `(seeds,)`, and the seconds that the epoch took."""

    metrics: dict[str, np.ndarray]
    seconds: float


class Trainer:
    """Trains the seeds of a `Config` side by side, for any arm and learning rate.

    The learning rate is an argument of the compiled epoch, so each arm compiles once. Rates are
    run one after the other: on CPUs, four at once took more than four times as long as one.

    Attributes:
        parameters: How many parameters one network has.
        compile_seconds: The seconds spent on compiling, by arm.
    """

    def __init__(self, config: Config, dataset: Dataset):
        source = SOURCES[config.dataset]
        self._config = config
        self._dataset: Dataset = jax.device_put(dataset)
        self._init, self._apply = functional(
            lambda rngs: MODELS[config.model](source.shape, source.classes, rngs=rngs)
        )
        self._seeds = jnp.asarray(config.all_seeds, jnp.uint32)
        self._batches = jax.jit(
            jax.vmap(
                functools.partial(
                    batches, number=len(dataset.train.labels), batch_size=config.batch_size
                ),
                in_axes=(0, None),
            )
        )
        self._compiled: dict[str, Callable] = {}
        self.compile_seconds: dict[str, float] = {}
        shapes = jax.eval_shape(self._init, jax.random.key(0))
        self.parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    def compile(self, arm: str):
        """Compiles the epoch of `arm`, unless that has been done."""
        if arm in self._compiled:
            return
        state, order = self._initial_state(arm), self._order(0)
        start = time.perf_counter()
        epoch = epoch_function(self._apply, self._optimizer(arm))
        self._compiled[arm] = (
            jax.jit(jax.vmap(epoch, in_axes=(0, 0, None, None)), donate_argnums=0)
            .lower(state, order, _float32(0.0), self._dataset)
            .compile()
        )
        self.compile_seconds[arm] = time.perf_counter() - start

    def run(self, arm: str, learning_rate: float) -> Iterator[EpochResult]:
        """Trains from the initial weights; yields after each epoch."""
        self.compile(arm)
        state = self._initial_state(arm)
        for index in range(self._config.epochs):
            start = time.perf_counter()
            state, metrics = self._compiled[arm](
                state, self._order(index), _float32(learning_rate), self._dataset
            )
            metrics = {name: np.asarray(values) for name, values in metrics.items()}
            yield EpochResult(metrics, time.perf_counter() - start)

    def _optimizer(self, arm: str) -> Callable[[LearningRate], optax.GradientTransformation]:
        config = self._config
        return lambda learning_rate: chain(
            links(
                arm,
                config.optimizer,
                config.placement,
                learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
        )

    @functools.cached_property
    def _initial_params(self) -> Params:
        # A loop over the seeds, since `vmap` makes random numbers slow to compile.
        init = jax.jit(lambda seeds: jax.lax.map(lambda seed: self._init(_keys(seed)[0]), seeds))
        return init(self._seeds)

    def _order(self, index: int) -> jax.Array:
        """The rows of each batch of epoch `index`, of every seed."""
        return self._batches(self._seeds, jnp.asarray(index, jnp.uint32))

    def _initial_state(self, arm: str) -> State:
        # A copy, since an epoch gives the memory of the state that it is called with to the next.
        params = jax.tree.map(jnp.copy, self._initial_params)
        # The state of the optimizer does not depend on the learning rate.
        return State(params, jax.vmap(self._optimizer(arm)(0.0).init)(params))


def functional(
    make: Callable[[nnx.Rngs], nnx.Module],
) -> tuple[Callable[[jax.Array], Params], Apply]:
    """An NNX network as two functions: `key -> params` and `params, images -> logits`."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key: jax.Array) -> Params:
        return nnx.as_pure(nnx.state(make(nnx.Rngs(key)), nnx.Param))

    def apply(params: Params, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images)

    return init, apply


def epoch_function(
    apply: Apply, optimizer: Callable[[LearningRate], optax.GradientTransformation]
) -> Callable[[State, jax.Array, jax.Array, Dataset], tuple[State, dict[str, jax.Array]]]:
    """One seed's epoch: `state, order, learning_rate, dataset -> state, metrics`.

    `order` has the rows of each batch, `(steps, batch_size)`. The training metrics are means over
    the batches as they were met, before each step.
    """

    def loss_and_accuracy(params: Params, batch: Split) -> tuple[jax.Array, jax.Array]:
        return _loss_and_accuracy(apply(params, batch.images), batch.labels)

    def epoch(
        state: State, order: jax.Array, learning_rate: jax.Array, dataset: Dataset
    ) -> tuple[State, dict[str, jax.Array]]:
        transformation = optimizer(learning_rate)

        def step(state: State, rows: jax.Array):
            batch = jax.tree.map(lambda array: array[rows], dataset.train)
            metrics, grads = jax.value_and_grad(loss_and_accuracy, has_aux=True)(
                state.params, batch
            )
            updates, opt_state = transformation.update(grads, state.opt_state, state.params)
            return State(optax.apply_updates(state.params, updates), opt_state), metrics

        state, (losses, accuracies) = jax.lax.scan(step, state, order)
        test_loss, test_accuracy = loss_and_accuracy(state.params, dataset.test)
        metrics = (losses.mean(), accuracies.mean(), test_loss, test_accuracy)
        return state, dict(zip(METRICS, metrics, strict=True))

    return epoch


def batches(seed: jax.Array, index: jax.Array, number: int, batch_size: int) -> jax.Array:
    """The rows of each batch of epoch `index`: `(steps, batch_size)` of `number` rows in all.

    What does not fill a last batch is left out, in each epoch another part.
    """
    key = jax.random.fold_in(_keys(seed)[1], index)
    steps = number // batch_size
    return jax.random.permutation(key, number)[: steps * batch_size].reshape(steps, batch_size)


def _keys(seed: jax.Array) -> jax.Array:
    """Two keys: for the initial weights, for the order of the images."""
    return jax.random.split(jax.random.key(seed))


def _float32(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float32)


def _loss_and_accuracy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    # `argmax` of NaNs is class 0, which would make a diverged network right now and then.
    right = (logits.argmax(-1) == labels) & jnp.isfinite(logits).all(-1)
    return loss, right.astype(jnp.float32).mean()
