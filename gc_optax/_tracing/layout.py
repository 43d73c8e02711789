"""`Layout`: from which axes of a parameter leaf each dimension of an array comes.

A reshape splits and merges axes, so a dimension is an ordered product of `Piece`s, the slowest
varying first. Where the order within a dimension is lost (a slice, a concatenation, a reshape that
cuts across pieces), one piece without stride keeps at least the axes. So an axis that ends up in
two dimensions is seen there in both, and a contraction over one of them as one in part.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """A factor of a dimension."""

    axes: tuple[int, ...]  # of the leaf; () where the dimension comes from none of them
    size: int
    stride: int | None  # in elements of the axis; None where the order is lost

    @property
    def is_broadcast(self) -> bool:
        """Whether the leaf is repeated along it; in a product it may be the other factor's."""
        return not self.axes and self.stride is None and self.size > 1

    def split(self, major: int) -> tuple["Piece", "Piece"]:
        minor = self.size // major
        stride = None if self.stride is None else self.stride * minor
        return Piece(self.axes, major, stride), Piece(self.axes, minor, self.stride)


Dim = tuple[Piece, ...]


class Rows(NamedTuple):
    """The part of an axis that slices have left."""

    intervals: tuple[range, ...]
    size: int  # of the axis

    def __add__(self, other: "Rows") -> "Rows":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Rows(self.intervals + other.intervals, self.size)

    @property
    def is_all(self) -> bool:
        """Whether every row of the axis occurs."""
        return len({row for interval in self.intervals for row in interval}) == self.size


class Layout(NamedTuple):
    """The dimensions of an array, in terms of the axes of one leaf."""

    dims: tuple[Dim, ...]
    summed: frozenset[int] = frozenset()  # axes that were summed over on the way
    chosen: frozenset[int] = frozenset()  # axes of which a constant index chose a part
    picked: frozenset[int] = frozenset()  # axes along which data chose one entry
    mixed: frozenset[int] = frozenset()  # axes that were contracted with data, see `contraction`
    copies: frozenset[int] = frozenset()  # axes that ran along with that data
    site: Any = None  # the equation of that contraction
    stopped: bool = False  # whether no gradient flows back to the leaf
    product: bool = False  # whether it was contracted with a constant, and may be an activation
    reduced: frozenset[int] = frozenset()  # axes that were contracted with a constant
    noise: bool = False  # whether it only scales random numbers
    updated: bool = False  # whether a gradient step has been taken from it
    replicated: frozenset[int] = frozenset()  # axes whose rows an index has laid out in a table
    parts: frozenset[tuple[int, Rows | None]] = frozenset()  # of sliced axes what is left, if known
    shards: frozenset[tuple[Any, int]] = frozenset()  # (mesh axis, axis that is split over it)

    def axes(self, dims: Iterable[int] | None = None) -> frozenset[int]:
        """The leaf's axes in the given dimensions, by default in all."""
        found: set[int] = set()
        for dim in self.dims if dims is None else [self.dims[d] for d in dims]:
            for piece in dim:
                found.update(piece.axes)
        return frozenset(found)

    def is_broadcast(self, d: int) -> bool:
        """Whether the leaf is repeated along the dimension."""
        for axes, size, stride in self.dims[d]:  # noqa: SIM110 (a generator is slower, and it is hot)
            if not axes and stride is None and size > 1:
                return True
        return False

    def pick(self, dims: Iterable[Dim]) -> "Layout":
        return self._replace(dims=tuple(dims))

    def choose(self, dims: Iterable[Dim], gone: Iterable[int], by_data: bool = False) -> "Layout":
        """The layout with new dimensions, where an index went through those in `gone`."""
        axes = self.axes(gone)
        if by_data:
            return self._replace(dims=tuple(dims), picked=self.picked | axes)
        return self._replace(dims=tuple(dims), chosen=self.chosen | axes)


def identity(shape: Sequence[int]) -> Layout:
    """The layout of the leaf itself."""
    return Layout(tuple((Piece((axis,), size, 1),) for axis, size in enumerate(shape)))


def broadcast(size: int) -> Dim:
    """A dimension that comes from no axis."""
    return () if size == 1 else (Piece((), size, None),)


def foreign(size: int) -> Dim:
    """A dimension of a product that is the other factor's."""
    return () if size == 1 else (Piece((), size, 1),)


def resized(dim: Dim, size: int) -> Dim:
    """The dimension after a change of its size: a slice, a padding, a shard."""
    return dim if size_of(dim) == size else joined(dim, (), size)


def shuffled(layout: Layout, dims: Iterable[int]) -> Layout:
    """The layout where the entries of these dimensions have changed places."""
    return layout.pick(
        joined(dim, (), size_of(dim)) if d in dims else dim for d, dim in enumerate(layout.dims)
    )


def sliced(layout: Layout, d: int, rows: range | int) -> Layout:
    """The layout after a slice of one dimension: the rows, or their number where unknown."""
    dim = layout.dims[d]
    number = rows if isinstance(rows, int) else len(rows)
    if number == size_of(dim) and (isinstance(rows, int) or rows.step == 1):
        return layout
    axes = layout.axes([d])
    elsewhere = layout.axes(e for e in range(len(layout.dims)) if e != d)
    is_whole = len(dim) == 1 and dim[0].stride == 1 and not axes & elsewhere
    left = Rows((rows,), size_of(dim)) if is_whole and isinstance(rows, range) else None
    parts = {(axis, left) for axis in axes}
    kept = {(axis, part) for axis, part in layout.parts if axis not in axes}
    return layout.pick(
        resized(dim, number) if e == d else other for e, other in enumerate(layout.dims)
    )._replace(parts=frozenset(kept | parts))


def fitted(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout for an array of another shape and the same rank."""
    return layout.pick(resized(dim, size) for dim, size in zip(layout.dims, shape, strict=True))


def stretched(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout of an operand that is broadcast: of rank 0, or of size 1 in places."""
    if len(layout.dims) != len(shape):
        return layout.pick(map(broadcast, shape))
    return layout.pick(
        dim if size_of(dim) == size else broadcast(size)
        for dim, size in zip(layout.dims, shape, strict=True)
    )


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout after a row-major reshape."""
    pieces = deque(piece for dim in layout.dims for piece in dim)
    sizes = deque(shape)
    dims: list[Dim] = []
    while sizes:
        rest = pieces.copy()
        dim = _take(rest, sizes[0])
        if dim is not None:
            pieces = rest
            dims.append(dim)
            sizes.popleft()
        else:
            dims += _mixed(pieces, sizes)
    return layout.pick(dims)


def _take(pieces: deque[Piece], size: int) -> Dim | None:
    """Takes pieces of the given product from the left; None where they do not come out even."""
    if size == 1:
        return (pieces.popleft(),) if pieces and pieces[0].size == 1 else ()
    dim: list[Piece] = []
    while size > 1:
        piece = pieces.popleft()
        if piece.size > size and piece.size % size == 0:
            piece, rest = piece.split(size)
            pieces.appendleft(rest)
        elif size % piece.size:
            return None
        size //= piece.size
        if piece.size > 1:
            dim.append(piece)
    return _fused(dim)


def _fused(dim: Sequence[Piece]) -> Dim:
    """Joins neighbours that a reshape had split."""
    fused: list[Piece] = []
    for piece in dim:
        last = fused[-1] if fused else None
        if (
            last is not None
            and last.axes == piece.axes
            and last.stride is not None
            and piece.stride is not None
            and last.stride == piece.stride * piece.size
        ):
            fused[-1] = Piece(piece.axes, last.size * piece.size, piece.stride)
        else:
            fused.append(piece)
    return tuple(fused)


def _mixed(pieces: deque[Piece], sizes: deque[int]) -> list[Dim]:
    """Takes dimensions that cut across pieces, up to where both come out even again.

    Each of these dimensions may come from any axis of these pieces.
    """
    old, new = 1, sizes.popleft()
    taken, axes = [new], set()
    while old != new:
        if old < new:
            piece = pieces.popleft()
            old *= piece.size
            axes.update(piece.axes)
        else:
            taken.append(sizes.popleft())
            new *= taken[-1]
    return [joined((Piece(tuple(axes), size, None),), (), size) for size in taken]


def merged(one: Layout, other: Layout) -> Layout:
    """The layout of an elementwise combination, or of a choice between the two."""
    dims: list[Dim] = []
    for a, b in zip(one.dims, other.dims, strict=True):
        axes_a, axes_b = one.pick([a]).axes(), other.pick([b]).axes()
        if a == b or not axes_b:
            dims.append(a)
        elif not axes_a:
            dims.append(b)
        else:
            dims.append((Piece(tuple(sorted(axes_a | axes_b)), size_of(a), None),))
    # A sum over an axis (a mean, a norm) does not count beside the axis itself.
    summed = frozenset(
        axis
        for axis in one.summed | other.summed
        if (axis in one.summed or axis not in one.axes())
        and (axis in other.summed or axis not in other.axes())
    )
    return Layout(
        tuple(dims),
        summed,
        one.chosen | other.chosen,
        one.picked | other.picked,
        one.mixed | other.mixed,
        one.copies | other.copies,
        one.site if one.site is other.site else None,
        one.stopped and other.stopped,
        one.product and other.product,
        one.reduced | other.reduced,
        one.noise and other.noise,
        one.updated or other.updated,
        one.replicated | other.replicated,
        _merged_parts(one.parts, other.parts),
        one.shards | other.shards,
    )


def _merged_parts(one, other) -> frozenset[tuple[int, Rows | None]]:
    """The same part on both sides stays one; of different ones together not much is known."""
    different = {axis for axis, _ in one ^ other}
    return (one & other) | {(axis, None) for axis in different}


def joined(one: Dim, other: Dim, size: int) -> Dim:
    """A dimension in which parts of two arrays stand one after the other."""
    pieces = (*one, *other)
    axes = {axis for piece in pieces for axis in piece.axes}
    if not axes and pieces and not any(piece.is_broadcast for piece in pieces):
        return foreign(size)
    return (Piece(tuple(sorted(axes)), size, None),) if axes else broadcast(size)


def is_ordered(dim: Dim) -> bool:
    """Whether it is known which entry of the leaf's axes each entry of the dimension is."""
    return all(piece.stride is not None for piece in dim if piece.axes)


def size_of(dim: Dim) -> int:
    """How long the dimension is."""
    return math.prod(piece.size for piece in dim)
