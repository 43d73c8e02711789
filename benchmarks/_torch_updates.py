"""The same updates in PyTorch, with the gradients centralized as the paper's authors' code does."""

import math
import os
from collections.abc import Callable

import jax

import gc_optax

# Threads that spin while they wait would take the cores from what is timed next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch

NAMES = ("alone", "gc")
OPTIMIZERS = {
    "adam": lambda params, fused: torch.optim.Adam(params, lr=1e-3, fused=fused),
    "sgd": lambda params, fused: torch.optim.SGD(params, lr=0.1, momentum=0.9, fused=fused),
}


def shape_in_torch(path, fan_in: gc_optax.FanIn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the parameter has in PyTorch: outputs first, biases of one axis."""
    if not fan_in.axes:
        is_table = "embedding" in jax.tree_util.keystr(path)
        return shape if is_table else (math.prod(shape),)
    if fan_in.kind == "conv":
        return (shape[-1], shape[-2], *shape[:-2])
    inputs = math.prod(shape[axis] for axis in fan_in.axes)
    return math.prod(shape) // inputs, inputs


def centralize(params: list[torch.Tensor]) -> None:
    """Takes from each gradient with two axes or more its mean over all axes but the first.

    In place, one gradient after another, wherever the layer is: tables of embeddings too.
    """
    for param in params:
        grad = param.grad
        if grad is not None and grad.dim() > 1:
            grad.sub_(grad.mean(dim=tuple(range(1, grad.dim())), keepdim=True))


def calls(shapes, optimizer: str, *, fused: bool) -> dict[str, Callable[[], None]]:
    """An update alone and with GC, on the same parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    fan_ins = jax.tree.leaves(gc_optax.fan_in_by_name(shapes))
    generator = torch.Generator().manual_seed(0)
    params = []
    for (path, leaf), fan_in in zip(leaves, fan_ins, strict=True):
        shape = shape_in_torch(path, fan_in, leaf.shape)
        param = torch.zeros(shape, requires_grad=True)
        param.grad = torch.randn(shape, generator=generator)
        params.append(param)
    update = OPTIMIZERS[optimizer](params, fused)

    def with_gc() -> None:
        with torch.no_grad():
            centralize(params)
        update.step()

    return {"alone": lambda: update.step(), "gc": with_gc}


def version() -> str:
    """The version of PyTorch and its threads."""
    return f"{torch.__version__}, {torch.get_num_threads()} threads"
