"""How layers store their kernels: which axis of the array is what, and which layouts fit a shape.

A layout names the axes of one layer's kernel and of its bias. Axes are summed over if they are
`i` or `j` (inputs) or `s` (the window of a convolution). All others are kept: `o`, `h`, `k`
(outputs), `c` and `m` (channels of a depthwise convolution and outputs of each), `p` (positions),
`n` (features of a norm), `v` (rows and columns of a table). `*` stands for one to three axes, `=`
for two or three of one size, `1` for an axis of size 1, `cm` for the product, `...` for any shape.
Layers of one kind that are stacked have further axes in front, those of the bias the same.
"""

import functools
import math
from typing import NamedTuple

from gc_optax._fan_in import Kind

SUMMED = "ijs"
WINDOW = "s"
POSITION = "p"
Shape = tuple[int, ...]


class Layout(NamedTuple):
    """The axes of a kernel and of its bias; no `bias` where the layer has none."""

    name: str
    kind: Kind
    kernel: str
    bias: str | None

    def __str__(self) -> str:
        """As the documentation shows it."""
        if self.kernel == "...":
            return self.name
        return f"{self.name} `{self.kernel}`" + (f", bias `{self.bias}`" if self.bias else "")


class Reading(NamedTuple):
    """One way to read a shape: a layout behind a number of axes of stacked copies."""

    layout: Layout
    stacked: int
    labels: tuple[str, ...]  # of the axes that are not stacked
    shape: Shape

    @property
    def axes(self) -> Shape:
        return tuple(
            self.stacked + axis for axis, label in enumerate(self.labels) if label[0] in SUMMED
        )

    @property
    def summed(self) -> frozenset[int]:
        """The axes without those of size 1, over which a mean changes nothing."""
        return frozenset(axis for axis in self.axes if self.shape[axis] > 1)

    @property
    def copies(self) -> int:
        return math.prod(self.shape[: self.stacked])

    @property
    def batch_axes(self) -> Shape:
        """The stacked axes, and those of positions."""
        positions = (axis for axis, label in enumerate(self.labels) if label[0] == POSITION)
        return (*range(self.stacked), *(self.stacked + axis for axis in positions))

    @property
    def window(self) -> Shape:
        """The sizes of the window."""
        return self._sizes(WINDOW)

    @property
    def outputs(self) -> int:
        return math.prod(self._sizes("ohkcm"))

    @property
    def features(self) -> set[int]:
        """The sizes that a norm beside it can have; where outputs come first, only theirs."""
        inputs = () if self.layout is CONV_OUT_FIRST else self._sizes("i")
        return {self.outputs, *inputs}

    def _sizes(self, labels: str) -> Shape:
        pairs = zip(self.labels, self.shape[self.stacked :], strict=True)
        return tuple(size for label, size in pairs if label[0] in labels)

    @property
    def reason(self) -> str:
        return f"{self.layout.name}, stacked" if self.stacked else self.layout.name


DENSE = Layout("dense", "dense", "i o", "o")
OUT_FIRST = Layout("dense, stored (out, in)", "dense", "o i", "o")
STACKED_SECOND = Layout("dense, stacked over axis 1", "dense", "i p o", "o p")
HEADS = Layout("attention heads", "dense", "i h k", "h k")
HEADS_IN = Layout("attention output", "dense", "i j o", "o")
CONV = Layout("conv", "conv", "s* i o", "o")
SQUARE_CONV = Layout("conv", "conv", "s= i o", "o")
CONV_TRANSPOSE = Layout("conv transpose", "conv", "s* o i", "o")
LOCAL_CONV = Layout("local conv", "conv", "p* i o", "p* o")
# Depthwise: Flax and Haiku store one input for each output, Keras all outputs of each input.
GROUP_OF_ONE = Layout("depthwise conv", "conv", "s* 1 o", "o")
ONE_FOR_EACH = Layout("depthwise conv", "conv", "s* c 1", "c")
DEPTHWISE = Layout("depthwise conv", "conv", "s* c m", "cm")
# Keras' EinsumDense with a bias for some of its outputs.
SHARED_BIASES = (
    Layout("dense, outputs share biases", "dense", "i h k", "k"),
    Layout("dense, outputs share biases", "dense", "i h k", "h 1"),
)
# Haiku's bias where channels come first has an axis of size 1 for each of the window.
HAIKU_CONV = (CONV, CONV._replace(bias="o 1*"))
HAIKU_TRANSPOSE = (CONV_TRANSPOSE, CONV_TRANSPOSE._replace(bias="o 1*"))
LINEAR = Layout("dense", "dense", "o i", "o")
CONV_OUT_FIRST = Layout("conv", "conv", "o i s*", "o 1*")
# What no layer sums over.
NORM = Layout("scale", "other", "n*", "n*")
LOOKUP = Layout("embedding lookup", "other", "v*", None)
BIAS = Layout("bias", "other", "...", "...")
SCALE = Layout("scale", "other", "...", "...")
EMBEDDING = Layout("embedding lookup", "other", "...", "...")


def readings(layout: Layout, shape: Shape, bias: Shape | None) -> list[Reading]:
    """The ways in which a kernel of this shape, beside a bias of that one, has the layout.

    Without a bias (None) only the kernel has to fit.
    """
    if layout.kernel == "...":
        return [Reading(layout, 0, ("n",) * len(shape), shape)]
    found = []
    for labels, of_bias in _expansions(layout.kernel, layout.bias):
        stacked = len(shape) - len(labels)
        sizes = _sizes(labels, shape[stacked:]) if stacked >= 0 else None
        if sizes is not None and (bias is None or _bias(of_bias, sizes, shape[:stacked]) == bias):
            found.append(Reading(layout, stacked, labels, shape))
    return found


@functools.cache
def _expansions(kernel: str, bias: str | None) -> list[tuple[tuple[str, ...], tuple | None]]:
    """The labels with `*` and `=` written out, of kernel and bias."""
    counts = (3, 2) if "=" in kernel else (3, 2, 1) if "*" in kernel else (1,)
    return [(_labels(kernel, n), None if bias is None else _labels(bias, n)) for n in counts]


def _labels(pattern: str, n: int) -> tuple[str, ...]:
    labels = []
    for token in pattern.split():
        if token == "1*":
            labels += ["1"] * n
        elif token.endswith("*"):
            labels += [f"{token[0]}{i}" for i in range(n)]
        elif token.endswith("="):
            labels += [token[0]] * n
        else:
            labels.append(token)
    return tuple(labels)


def _sizes(labels: tuple[str, ...], shape: Shape) -> dict[str, int] | None:
    """The size of each label; None where a label would have two."""
    sizes = {"1": 1}
    for label, size in zip(labels, shape, strict=True):
        if sizes.setdefault(label, size) != size:
            return None
    return sizes


def _bias(labels: tuple[str, ...] | None, sizes: dict[str, int], copies: Shape) -> Shape | None:
    """The shape that the bias must have: `copies` in front of the sizes of its labels."""
    if labels is None:
        return None
    sizes = {**sizes, "cm": sizes.get("c", 0) * sizes.get("m", 0)}
    return copies + tuple(sizes[label] for label in labels)
