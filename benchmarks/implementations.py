"""Which axes each implementation of Gradient Centralization averages, tried on real layers.

    pip install torch pytorch_optimizer ranger21 mindspore tensorflow gradient-centralization-tf
    git clone https://github.com/Yonghongwei/Gradient-Centralization
    python benchmarks/implementations.py Gradient-Centralization --output implementations.json

Ranger21 and gradient-centralization-tf are old: `pip install --no-deps` leaves out what they no
longer find. Every implementation takes one step of plain descent, at a learning rate of 1, on a
gradient of noise, so that the step is what it makes of the gradient. From the step follows over
which axes a mean was subtracted.
"""

import argparse
import json
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gc_optax


class Leaf(NamedTuple):
    """A parameter of a layer: its shape, and the axes that one of its units sums over."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]


PYTORCH = {
    "dense": Leaf((4, 6), (1,)),
    "convolution": Leaf((4, 6, 3, 3), (1, 2, 3)),
    "depthwise": Leaf((4, 1, 3, 3), (1, 2, 3)),
    "transposed": Leaf((6, 4, 3, 3), (0, 2, 3)),
    "embedding": Leaf((10, 6), ()),
    "one input": Leaf((4, 1), ()),
}
FLAX = {
    "dense": Leaf((6, 4), (0,)),
    "convolution": Leaf((3, 3, 6, 4), (0, 1, 2)),
    "depthwise": Leaf((3, 3, 1, 4), (0, 1, 2)),
    "transposed": Leaf((3, 3, 6, 4), (0, 1, 2)),
    "attention": Leaf((6, 2, 3), (0,)),
    "bias of rank > 1": Leaf((2, 3), ()),
    "embedding": Leaf((10, 6), ()),
    "one input": Leaf((1, 4), ()),
}
EQUINOX = PYTORCH | {
    "transposed": Leaf((4, 6, 3, 3), (1, 2, 3)),
    "bias of rank > 1": Leaf((4, 1, 1), ()),
}
KERAS = {
    "dense": Leaf((6, 4), (0,)),
    "convolution": Leaf((3, 3, 6, 4), (0, 1, 2)),
    "depthwise": Leaf((3, 3, 4, 1), (0, 1, 3)),
    "transposed": Leaf((3, 3, 4, 6), (0, 1, 3)),
    "embedding": Leaf((10, 6), ()),
    "one input": Leaf((1, 4), ()),
}


class Outcome(NamedTuple):
    """What became of a leaf's gradient, and whether that is what its layer asks for."""

    what: str
    right: bool


def outcome(leaf: Leaf, gradient: np.ndarray, step: np.ndarray) -> Outcome:
    """Finds the axes over which a mean was subtracted from `gradient` to give `step`."""
    if not np.abs(step).max() > 1e-6:
        return Outcome("frozen", False)
    for count in range(gradient.ndim + 1):
        for axes in combinations(range(gradient.ndim), count):
            mean = gradient.mean(axes, keepdims=True) if axes else 0.0
            if np.allclose(step, gradient - mean, atol=1e-5):
                right, found = (
                    tuple(axis for axis in among if leaf.shape[axis] > 1)
                    for among in (leaf.axes, axes)
                )
                what = f"axes {', '.join(map(str, axes))}" if axes else "left alone"
                return Outcome(
                    what.replace("axes", "axis" if len(axes) == 1 else "axes"), right == found
                )
    raise ValueError("The step is not the gradient less a mean.")


def outcomes(leaves: dict[str, Leaf], step: Callable[[dict], dict]) -> dict[str, Outcome]:
    """Of each leaf, given what makes the steps out of gradients by name."""
    random = np.random.default_rng(0)
    gradients = {name: random.normal(size=leaf.shape).astype("f") for name, leaf in leaves.items()}
    steps = step({name: gradient.copy() for name, gradient in gradients.items()})
    return {
        name: outcome(leaf, gradients[name], np.asarray(steps[name]))
        for name, leaf in leaves.items()
    }


def at(tree, path: tuple[str, ...]):
    """The node of a tree of dictionaries at `path`."""
    return reduce(operator.getitem, path, tree)


class Layers(nn.Module):
    """The layers of `FLAX`, one after the other."""

    @nn.compact
    def __call__(self, tokens, images, number):
        """Of tokens `(B, T)` below 10, images `(B, 8, 8, 6)` and a number `(B, 1)` to `(B,)`."""
        x = nn.Embed(10, 6, name="embed")(tokens)
        x = nn.MultiHeadDotProductAttention(2, name="attend")(x)
        x = nn.Dense(4, name="dense")(x)
        y = nn.Conv(4, (3, 3), name="conv")(images)
        y = nn.Conv(4, (3, 3), feature_group_count=4, name="depthwise")(y)
        z = nn.ConvTranspose(4, (3, 3), name="transposed")(images)
        return x.mean((1, 2)) + (y * z).mean((1, 2, 3)) + nn.Dense(4, name="one")(number).mean(1)


PLACES = {
    "dense": ("dense", "kernel"),
    "convolution": ("conv", "kernel"),
    "depthwise": ("depthwise", "kernel"),
    "transposed": ("transposed", "kernel"),
    "attention": ("attend", "query", "kernel"),
    "bias of rank > 1": ("attend", "query", "bias"),
    "embedding": ("embed", "embedding"),
    "one input": ("one", "kernel"),
}
"""Where the parameters of `Layers` have the leaves of `FLAX`."""


def by_jax() -> Iterator[tuple[str, str, dict[str, Outcome]]]:
    """The name, the version, and the outcomes of each transformation of gradients in JAX."""
    inputs = jnp.zeros((2, 5), int), jnp.ones((2, 8, 8, 6)), jnp.ones((2, 1))
    params = Layers().init(jax.random.key(0), *inputs)["params"]

    def loss(params):
        return Layers().apply({"params": params}, *inputs).sum()

    def by(transformation):
        def step(gradients):
            tree = jax.tree.map(jnp.zeros_like, params)
            for name, gradient in gradients.items():
                at(tree, PLACES[name][:-1])[PLACES[name][-1]] = gradient
            steps, _ = transformation.update(tree, transformation.init(params), params)
            return {name: at(steps, PLACES[name]) for name in gradients}

        return step

    yield "optax, Flax", version("optax"), outcomes(FLAX, by(optax.centralize()))

    def equinox(gradients):
        return optax.centralize().update(gradients, optax.EmptyState())[0]

    yield "optax, Equinox", version("optax"), outcomes(EQUINOX, equinox)
    traced = gc_optax.fan_in_by_trace(loss, params)
    for name, fan_in in (("by trace", traced), ("by name", gc_optax.fan_in_by_name)):
        found = outcomes(FLAX, by(gc_optax.centralize(fan_in)))
        yield f"gc_optax {name}, Flax", version("gc_optax"), found


def by_pytorch(clone: Path) -> Iterator[tuple[str, str, dict[str, Outcome]]]:
    """The same of the authors' code, and of two collections of optimizers."""
    import pytorch_optimizer  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from ranger21 import ranger21  # pyright: ignore[reportMissingImports]

    sys.path.insert(0, str(clone / "GC_code" / "CIFAR100" / "algorithm"))
    from SGD import SGD_GC  # pyright: ignore[reportMissingImports]

    def authors(gradients):
        params = {name: torch.zeros(gradient.shape) for name, gradient in gradients.items()}
        for name, param in params.items():
            param.grad = torch.from_numpy(gradients[name])
        SGD_GC(list(params.values()), lr=1.0).step()
        return {name: -param.numpy() for name, param in params.items()}

    def function(centralize):
        def step(gradients):
            tensors = {name: torch.from_numpy(g) for name, g in gradients.items()}
            for tensor in tensors.values():
                centralize(tensor)
            return {name: tensor.numpy() for name, tensor in tensors.items()}

        return step

    command = ["git", "-C", clone, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    yield "authors", commit, outcomes(PYTORCH, authors)
    collection = function(pytorch_optimizer.centralize_gradient)
    yield "pytorch_optimizer", version("pytorch_optimizer"), outcomes(PYTORCH, collection)
    yield "Ranger21", version("ranger21"), outcomes(PYTORCH, function(ranger21.centralize_gradient))


def by_mindspore() -> Iterator[tuple[str, str, dict[str, Outcome]]]:
    """MindSpore's, with the leaves of `PYTORCH`, and with one whose fan-in is a multiple of 16."""
    import mindspore  # pyright: ignore[reportMissingImports]

    def step(gradients):
        steps = {}
        for name, gradient in gradients.items():
            param = mindspore.Parameter(mindspore.Tensor(np.zeros_like(gradient)), name=name)
            group = {"params": [param], "grad_centralization": True}
            mindspore.nn.SGD([group], learning_rate=1.0)((mindspore.Tensor(gradient),))
            steps[name] = -param.asnumpy()
        return steps

    found = outcomes(PYTORCH, step)
    try:
        found |= outcomes({"dense, 16 inputs": Leaf((4, 16), (1,))}, step)
    except RuntimeError as error:
        reason = next(line for line in str(error).splitlines() if "Unsupported" in line)
        found["dense, 16 inputs"] = Outcome(reason.partition(",")[0], False)
    yield "MindSpore, CPU", version("mindspore"), found


def by_keras() -> Iterator[tuple[str, str, dict[str, Outcome]]]:
    """gctf, and a class that overrides `get_gradients` as Keras' example does, under `fit`."""
    import gctf  # pyright: ignore[reportMissingImports]
    import keras  # pyright: ignore[reportMissingImports]

    class Overridden(keras.optimizers.SGD):
        def get_gradients(self, loss, params):
            raise AssertionError("called")

    layers = {
        "dense": (keras.layers.Dense(4), (6,)),
        "convolution": (keras.layers.Conv2D(4, 3), (8, 8, 6)),
        "depthwise": (keras.layers.DepthwiseConv2D(3), (8, 8, 4)),
        "transposed": (keras.layers.Conv2DTranspose(4, 3), (8, 8, 6)),
        "embedding": (keras.layers.Embedding(10, 6), (5,)),
        "one input": (keras.layers.Dense(4), (1,)),
    }

    def moved(layer, shape, optimizer) -> np.ndarray:
        """What one step of `fit` takes from the layer's first weight."""
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input(shape), layer.__class__.from_config(layer.get_config())]
        )
        random = np.random.default_rng(0)
        looks_up = isinstance(layer, keras.layers.Embedding)
        x = random.integers(10, size=(8, *shape)) if looks_up else random.normal(size=(8, *shape))
        y = random.normal(size=model(x).shape).astype("f")
        before = np.asarray(model.weights[0])
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=8, verbose=0)
        return before - np.asarray(model.weights[0])

    packages = {
        "gctf": (version("gradient-centralization-tf"), gctf.optimizers.sgd),
        "Keras' example": (version("keras"), Overridden),
    }
    for name, (number, optimizer) in packages.items():
        found = {}
        for kind, (layer, shape) in layers.items():
            gradient = moved(layer, shape, keras.optimizers.SGD(1.0))
            assert gradient.shape == KERAS[kind].shape, (kind, gradient.shape)
            found[kind] = outcome(KERAS[kind], gradient, moved(layer, shape, optimizer(1.0)))
        yield name, number, found


def main():
    """Tries all, and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clone", type=Path, help="the authors' repository")
    parser.add_argument("--output", type=Path, help="a JSON file for the outcomes")
    options = parser.parse_args()
    tried = [*by_pytorch(options.clone), *by_mindspore(), *by_keras(), *by_jax()]
    content = [
        {
            "name": name,
            "version": number,
            "outcomes": {kind: each._asdict() for kind, each in found.items()},
        }
        for name, number, found in tried
    ]
    text = json.dumps(content, indent=2) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
