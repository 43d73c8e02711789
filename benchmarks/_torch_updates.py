"""The same updates in PyTorch, with the gradients centralized as the paper's authors' code does."""

import math
import os
from collections.abc import Callable
from functools import partial

import jax

import gc_optax

# Threads that spin while they wait would take the cores from what is timed next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch

NAMES = ("alone", "gc")
OPTIMIZERS = {
    "centralize, adam": lambda params, fused: torch.optim.Adam(params, lr=1e-3, fused=fused),
    "centralize, sgd": lambda params, fused: torch.optim.SGD(
        params, lr=0.1, momentum=0.9, fused=fused
    ),
}
OPTIMIZERS["add_decayed_weights, centralize, sgd"] = OPTIMIZERS["centralize, sgd"]


class AdamW:
    """AdamW, one parameter after another, with GC on its step: PyTorch's own shows no step."""

    def __init__(self, params: list[torch.Tensor], decay: float = 0.1, rate: float = 1e-3):
        self.params, self.decay, self.rate, self.steps = params, decay, rate, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]

    def step(self, gc: bool) -> None:
        """An update with moments of 0.9 and 0.999."""
        self.steps += 1
        corrected = math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for param, (first, second) in zip(self.params, self.moments, strict=True):
            first.lerp_(param.grad, 0.1)
            second.mul_(0.999).addcmul_(param.grad, param.grad, value=0.001)
            step = first / second.sqrt().add_(1e-8)
            step.mul_(corrected).add_(param, alpha=self.decay)
            if gc:
                centralize(step)
            param.add_(step, alpha=-self.rate)


def shape_in_torch(path, fan_in: gc_optax.FanIn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the parameter has in PyTorch: outputs first, biases of one axis."""
    if not fan_in.axes:
        is_table = "embedding" in jax.tree_util.keystr(path)
        return shape if is_table else (math.prod(shape),)
    if fan_in.kind == "conv":
        return (shape[-1], shape[-2], *shape[:-2])
    inputs = math.prod(shape[axis] for axis in fan_in.axes)
    return math.prod(shape) // inputs, inputs


def centralize(tensor: torch.Tensor) -> None:
    """Takes from a tensor with two axes or more its mean over all axes but the first, in place.

    Wherever the layer is: of tables of embeddings, too.
    """
    if tensor.dim() > 1:
        tensor.sub_(tensor.mean(dim=tuple(range(1, tensor.dim())), keepdim=True))


def calls(shapes, place: str, *, fused: bool) -> dict[str, Callable[[], None]]:
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
    if place == "adamw, centralize":
        adamw = AdamW(params)
        return {name: partial(_without_grad, adamw.step, name == "gc") for name in NAMES}
    update = OPTIMIZERS[place](params, fused)
    grads = [param.grad for param in params]

    def step(gc: bool) -> None:
        if place.startswith("add_decayed_weights"):
            # Into a new tensor, so that each call sees the same gradient.
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.add(param, alpha=5e-4)
        if gc:
            for param in params:
                centralize(param.grad)
        update.step()

    return {name: partial(_without_grad, step, name == "gc") for name in NAMES}


def _without_grad(step: Callable[[bool], None], gc: bool) -> None:
    with torch.no_grad():
        step(gc)


def version() -> str:
    """The version of PyTorch and its threads."""
    return f"{torch.__version__}, {torch.get_num_threads()} threads"
