"""Training: seeds side by side, each epoch one compiled scan, the data set on the device.

A seed settles the initial weights, the order of the training examples and the augmentation, and
nothing else does. So the arms of a comparison are paired by seed, and a seed gives the same run
alone and in company, up to rounding.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gc_optax.experiments.data import Dataset
from gc_optax.experiments.execution.devices import devices_of, multiple
from gc_optax.experiments.execution.memory import seeds_that_fit
from gc_optax.experiments.execution.networks import network_of
from gc_optax.experiments.runs.measurements import Seconds
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import (
    Batches,
    Metrics,
    State,
    batches,
    epoch_function,
    eval_batches,
    evaluation_function,
    keys,
    noise_key,
)
from gc_optax.experiments.training.optimizers import chain, links, schedule

AXIS = "data"  # of the mesh of devices, over which a batch is spread


class EpochResult(NamedTuple):
    """The metrics of an epoch, each of shape `(seeds,)`, and its wall time."""

    metrics: Metrics
    seconds: Seconds


class Program(NamedTuple):
    """What is compiled for one arm and one number of seeds."""

    epoch: Callable
    evaluate: Callable


class Trainer:
    """Trains seeds of a `Config` side by side, for any arm and learning rate.

    The learning rate is an argument of the compiled epoch, so each arm compiles once for all of
    them. Rates are run one after the other: on CPUs, four at once took more than four times as
    long as one.

    Args:
        config: The settings.
        dataset: What is trained and tested on.
        seeds_at_once: Stands in for the setting where that is `None`.

    Attributes:
        config: The settings.
        parameters: How many parameters one network has.
        devices: The devices that a batch is spread over.
        groups: The seeds, in groups that are trained side by side.
        compile_seconds: The seconds spent on compiling, by arm.

    Raises:
        InvalidSettingError: The network cannot be made for the data, or the devices are not there.
    """

    def __init__(self, config: Config, dataset: Dataset, seeds_at_once: int | None = None):
        self.config = config
        self._number = len(dataset.train.labels)
        self._steps = self._number // config.batch_size
        self.devices = devices_of(config)
        mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec(AXIS))
        self._network, self._fan_in = network_of(config, dataset)
        params, _ = jax.eval_shape(self._network.init, jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        # On every device.
        self._dataset: Dataset = self._placed(dataset)
        # A batch of the test set has no backward pass, so it may be larger.
        size = multiple(min(2 * config.batch_size, len(dataset.test.labels)), len(self.devices))
        self._eval_batches: Batches = self._placed(eval_batches(len(dataset.test.labels), size))
        self._programs: dict[tuple[str, int], Program] = {}
        self._evaluations: dict[int, Callable] = {}
        self._opt_inits: dict[str, Callable] = {}
        self.compile_seconds: dict[str, float] = {}
        self._init = jax.jit(
            jax.vmap(lambda seed: self._network.init(keys(seed)[0])),
            out_shardings=self._everywhere,
        )
        self._order_and_key = jax.jit(
            jax.vmap(self._one_order_and_key, in_axes=(0, None)), out_shardings=self._everywhere
        )
        at_once = (
            config.seeds_at_once
            or seeds_at_once
            or seeds_that_fit(config, self._network, self._dataset, self.devices)
        )
        seeds = config.all_seeds
        self.groups = [seeds[i : i + at_once] for i in range(0, len(seeds), at_once)]

    def compile(self, arm: str, seeds: int):
        """Compiles the epoch of `arm` for so many seeds, unless that has been done."""
        if (arm, seeds) in self._programs:
            return
        start = time.perf_counter()
        state = self.abstract_state(arm, seeds)
        order, key = self._inputs(range(seeds), 0)
        epoch = epoch_function(
            self._network, self._optimizer(arm), self.config.augmentation, self._constrain
        )
        program = (
            jax.jit(
                jax.vmap(epoch, in_axes=(0, 0, 0, None, None)),
                donate_argnums=0,
                out_shardings=self._everywhere,
            )
            .lower(state, order, key, self._rate(0.0), self._dataset)
            .compile()
        )
        if seeds not in self._evaluations:
            evaluate = evaluation_function(self._network, self._constrain)
            self._evaluations[seeds] = (
                jax.jit(jax.vmap(evaluate, in_axes=(0, None, None)), out_shardings=self._everywhere)
                # The optimizer's state differs between the arms and is not looked at.
                .lower(state._replace(opt_state=None), self._eval_batches, self._dataset)
                .compile()
            )
        self._programs[arm, seeds] = Program(program, self._evaluations[seeds])
        elapsed = time.perf_counter() - start
        self.compile_seconds[arm] = self.compile_seconds.get(arm, 0.0) + elapsed

    def initial_state(self, arm: str, seeds: Sequence[int]) -> State:
        """The state before the first epoch; its leaves lead with an axis of seeds."""
        # Of another program than the optimizer's, so that all arms share it.
        params, statistics = self._init(np.asarray(seeds, np.uint32))
        if arm not in self._opt_inits:
            self._opt_inits[arm] = jax.jit(self._opt_init(arm), out_shardings=self._everywhere)
        return State(params, statistics, self._opt_inits[arm](params))

    def abstract_state(self, arm: str, seeds: int) -> State:
        """The shapes and the placement of a state of so many seeds, for reading one."""
        params, statistics = jax.eval_shape(self._init, jnp.zeros(seeds, jnp.uint32))
        state = State(params, statistics, jax.eval_shape(self._opt_init(arm), params))
        return jax.tree.map(self._abstract, state)

    def run(
        self,
        arm: str,
        learning_rate: float,
        seeds: Sequence[int],
        state: State | None = None,
        epoch: int = 0,
    ) -> Iterator[tuple[State, EpochResult]]:
        """Trains from `state` after `epoch` epochs, by default from the initial weights.

        Yields after each epoch. The state that it yields is gone when the next epoch begins.
        """
        self.compile(arm, len(seeds))
        program = self._programs[arm, len(seeds)]
        now = self.initial_state(arm, seeds) if state is None else state
        rate = self._rate(learning_rate)
        for index in range(epoch, self.config.epochs):
            start = time.perf_counter()
            order, key = self._inputs(seeds, index)
            now, trained = program.epoch(now, order, key, rate, self._dataset)
            values = [np.asarray(value) for value in trained]
            between = time.perf_counter()
            tested = program.evaluate(
                now._replace(opt_state=None), self._eval_batches, self._dataset
            )
            values += [np.asarray(value) for value in tested]
            end = time.perf_counter()
            yield now, EpochResult(Metrics(*values), Seconds(end - start, between - start))

    @property
    def examples_per_epoch(self) -> int:
        """How many training examples one seed sees in an epoch."""
        return self._steps * self.config.batch_size

    def _one_order_and_key(self, seed: jax.Array, index: jax.Array):
        order = batches(seed, index, self._number, self.config.batch_size)
        return order, noise_key(seed, index)

    def _inputs(self, seeds: Sequence[int], index: int):
        return self._order_and_key(np.asarray(seeds, np.uint32), np.uint32(index))

    def _opt_init(self, arm: str) -> Callable[[Any], Any]:
        return jax.vmap(self._optimizer(arm)(jnp.float32(0.0)).init)

    def _optimizer(self, arm: str) -> Callable[[Any], optax.GradientTransformation]:
        config = self.config

        def optimizer(learning_rate):
            rate = schedule(
                config.schedule,
                learning_rate,
                steps=config.epochs * self._steps,
                decay_steps=config.decay_epochs and config.decay_epochs * self._steps,
            )
            return chain(
                links(
                    arm,
                    config.optimizer,
                    config.placement,
                    rate,
                    momentum=config.momentum,
                    weight_decay=config.weight_decay,
                    fan_in=self._fan_in,
                )
            )

        return optimizer

    def _constrain(self, batch: Any) -> Any:
        """Spreads the examples of a batch over the devices."""
        if len(self.devices) == 1:
            return batch
        return jax.lax.with_sharding_constraint(batch, self._spread)

    def _abstract(self, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._everywhere)

    def _placed(self, tree: Any) -> Any:
        """`tree`, which every process has, on all devices."""

        def placed(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
            return jax.make_array_from_process_local_data(self._everywhere, array)

        return jax.tree.map(placed, tree)

    def _rate(self, learning_rate: float) -> jax.Array:
        return self._placed(np.float32(learning_rate))
