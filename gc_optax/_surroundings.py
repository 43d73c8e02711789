"""What stands beside a leaf and around it: its bias, and whether it can be a stack of layers.

Layers that are stacked over axis 0 share its size: all leaves below the module that was stacked
begin with it. So a leaf of another leading size shows that no module around both is a stack.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from gc_optax._layouts import Shape

# What else a layer with such a leaf can have; besides anything else it is no layer of a framework.
COMPANIONS = {
    "kernel": r"bias|.*kernel.*|lora.*",
    "w": r"b",
    "weight": r"bias",
    "gamma": r"beta",
    "beta": r"gamma",
    "offset": r"scale",
}
BIAS_OF = {"kernel": "bias", "weight": "bias", "w": "b"}
KERAS_NORM = {"gamma", "beta"}
VECTORS = {"scale", "gamma", "bias", "beta", "offset", "b"}
NORM = r".*norm.*|(.*_)?(ln|bn|gn)_?\d*|bn_.*"
# Linen names a module after its class, and a transformed one `VmapDense_0` or `ScanDense_0`.
LINEN_LAYER = r"(Dense|Conv|ConvTranspose|ConvLocal)_\d+"

Names = tuple[str, ...]


class Leaf(NamedTuple):
    """The names on the path to an array, as they are written, and its shape."""

    names: Names
    shape: Shape

    @property
    def name(self) -> str:
        return self.names[-1].lower() if self.names else ""

    @property
    def module(self) -> str:
        """The nearest module's name: numbers only count a list's, Haiku's `~` is a method's."""
        above = (name.lower() for name in reversed(self.names[:-1]))
        return next((name for name in above if not name.isdigit() and name != "~"), "")

    @property
    def is_norm_vector(self) -> bool:
        """Whether it is the scale or bias of a norm, with axes of size 1 in front as in Haiku."""
        return (
            (self.name in VECTORS or self.name == "weight")
            and re.fullmatch(NORM, self.module) is not None
            and all(size == 1 for size in self.shape[:-1])
        )


class Node:
    """What the leaves below one module, or below the root, have in common."""

    def __init__(self):
        self.leading: set[int | None] = set()  # None for a scalar
        self.second: set[int] = set()
        self.has_vector = False  # of rank 1
        self.has_norm_vector = False
        self.stacked_vectors: set[Names] = set()  # the modules that hold them

    def add(self, leaf: Leaf) -> None:
        self.leading.add(leaf.shape[0] if leaf.shape else None)
        self.has_norm_vector |= leaf.is_norm_vector
        self.second.update(leaf.shape[1:2])
        if leaf.name in VECTORS:
            self.has_vector |= len(leaf.shape) == 1
            if len(leaf.shape) == 2:
                self.stacked_vectors.add(leaf.names[:-1])

    def may_be_stacked(self, size: int) -> bool:
        return self.leading == {size} and not self.has_norm_vector

    @property
    def is_stacked(self) -> bool:
        """Whether vectors show it: two of rank 2, as one alone may be a norm over two axes.

        A second axis that all share could be that of the stack.
        """
        return len(self.stacked_vectors) > 1 and len(self.second) > 1 and not self.has_vector


class Surroundings:
    """Answers what stands around each of the leaves of a tree."""

    def __init__(self, leaves: Iterable[Leaf]):
        self._nodes: defaultdict[Names, Node] = defaultdict(Node)
        self._modules: defaultdict[Names, dict[str, Shape]] = defaultdict(dict)
        self._norms: defaultdict[Names, set[int]] = defaultdict(set)
        self._keras_norms: set[Names] = set()
        for leaf in leaves:
            for depth in range(len(leaf.names)):
                self._nodes[leaf.names[:depth]].add(leaf)
            self._modules[leaf.names[:-1]][leaf.name] = leaf.shape
            if leaf.is_norm_vector and leaf.shape:
                for depth in range(len(leaf.names) - 1):
                    self._norms[leaf.names[:depth]].add(leaf.shape[-1])
                    if leaf.name in KERAS_NORM:
                        self._keras_norms.add(leaf.names[:depth])

    def bias(self, kernel: Leaf) -> Shape | None:
        """The shape of the kernel's bias, where both are the only ones of their layer."""
        beside = {
            name: shape
            for name, shape in self._modules[kernel.names[:-1]].items()
            if name != kernel.name and not name.startswith("lora")
        }
        return beside.get(BIAS_OF.get(kernel.name, "")) if len(beside) == 1 else None

    def has_strangers(self, leaf: Leaf) -> bool:
        """Whether a leaf beside it is of no layer that a framework has."""
        pattern = COMPANIONS.get(leaf.name, r".*")
        beside = self._modules[leaf.names[:-1]].keys() - {leaf.name}
        return any(re.fullmatch(pattern, name) is None for name in beside)

    def kernel_of(self, bias: Leaf) -> Leaf | None:
        """Haiku's `w` beside a `b`, where both are the only ones of their layer."""
        module = self._modules[bias.names[:-1]]
        return Leaf((*bias.names[:-1], "w"), module["w"]) if set(module) == {"w", "b"} else None

    def stacked(self, leaf: Leaf) -> bool | None:
        """Whether the leaf is a stack over axis 0: None where nothing around it tells."""
        depths = range(len(leaf.names))
        if re.fullmatch(LINEN_LAYER, "".join(leaf.names[-2:-1])):
            depths = depths[:-1]  # not by itself
        around = [self._nodes[leaf.names[:depth]] for depth in depths]
        around = [node for node in around if node.may_be_stacked(leaf.shape[0])]
        if any(node.is_stacked for node in around):
            return True
        return None if around else False

    def norms_beside(self, leaf: Leaf) -> set[int]:
        """The sizes of norms in the module around the leaf's, where that is no stack."""
        parent = leaf.names[:-2]
        return set() if self._nodes[parent].may_be_stacked(leaf.shape[0]) else self._norms[parent]

    def keras_norm_beside(self, leaf: Leaf) -> bool:
        """Whether one of those norms is called as in Keras."""
        return leaf.names[:-2] in self._keras_norms
