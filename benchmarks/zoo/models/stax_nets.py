"""Networks of `jax.example_libraries.stax`, whose parameters are tuples."""

import jax
import jax.numpy as jnp
from jax.example_libraries import stax

from benchmarks.zoo.case import Case, Entry, completed

PACKAGES = ["jax"]

CONV, DENSE = (
    [
        stax.Conv(6, (3, 3), padding="SAME"),
        stax.BatchNorm(),
        stax.Relu,
    ],
    [stax.Flatten, stax.Dense(8), stax.Relu, stax.Dense(3), stax.LogSoftmax],
)


def residual(channels):
    """A block with a skip."""
    main = stax.serial(stax.Conv(channels, (3, 3), padding="SAME"), stax.BatchNorm(), stax.Relu)
    skip = stax.Conv(channels, (1, 1))
    return stax.serial(stax.FanOut(2), stax.parallel(main, skip), stax.FanInSum, stax.Relu)


def of_rank(path: str, shape) -> tuple:
    """Kernels are stored (..., in, out), biases (1, ..., out) or (out,)."""
    whole = len(shape) == 2 or (len(shape) == 4 and shape[:3] != (1, 1, 1))
    axes = tuple(range(len(shape) - 1)) if whole else ()
    return path, axes, "stax: (..., in, out)" if axes else "a bias or a scale"


def stax_case(network, shape) -> Case:
    """A network on zeros of this shape; its parameters are tuples in tuples."""
    init, apply = network
    params = jax.eval_shape(lambda key: init(key, shape)[1], jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    hand = [
        of_rank(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape)
        for path, leaf in leaves
    ]
    return Case(apply, params, (jnp.zeros(shape),), completed({}, params, hand))


def entries() -> list[Entry]:
    """A perceptron, convolutions, a residual network."""
    image = (2, 8, 8, 3)
    return [
        Entry("perceptron", lambda: stax_case(stax.serial(*DENSE), (2, 7))),
        Entry("convolutions", lambda: stax_case(stax.serial(*CONV, *CONV, *DENSE), image)),
        Entry("residual", lambda: stax_case(stax.serial(residual(6), residual(6), *DENSE), image)),
        Entry(
            "transposed convolutions",
            lambda: stax_case(stax.serial(stax.ConvTranspose(6, (3, 3)), *CONV), image),
        ),
    ]
