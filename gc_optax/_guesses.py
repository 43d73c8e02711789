"""The warning for leaves whose axes `centralize()` has to guess from their names and shapes."""

import inspect
import warnings

import jax

from gc_optax._fan_in import fan_in_size
from gc_optax._names import fan_in_by_name
from gc_optax._trees import PyTree, leaf_name

SHOWN = 8
"""How many leaves the warning lists."""

THEIRS = {"equinox", "flax", "gc_optax", "jax", "optax"}
"""The packages that may stand between the line of the user and `centralize`."""


def warn_of_guesses(params: PyTree) -> None:
    """One warning that lists what was guessed and says what to do; none where nothing was."""
    specs = jax.tree.leaves(fan_in_by_name(params))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    guesses = [
        f"{leaf_name(path, leaf)} over {_axes(spec.axes)}"
        for (path, leaf), spec in zip(leaves, specs, strict=True)
        if spec.guess and fan_in_size(spec.axes, leaf.shape) > 1
    ]
    if not guesses:
        return
    shown = "; ".join(guesses[:SHOWN])
    more = f"; and {len(guesses) - SHOWN} more" if len(guesses) > SHOWN else ""
    warnings.warn(
        "`centralize()` goes by names and shapes, which do not tell over which axes these leaves "
        f"are summed, so it guesses: {shown}{more}. Have the axes read from the computation, "
        "centralize(fan_in_by_trace(loss, params, batch)), or give each such leaf a FanIn. "
        "To accept the guesses, write centralize(fan_in_by_name). `gc_optax.summary(params)` marks "
        "them.",
        UserWarning,
        stacklevel=_stacklevel(),
    )


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {axes}"


def _stacklevel() -> int:
    """The level, as the caller counts them, of the first frame that is not of a library."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and _package(frame) in THEIRS:
        frame, level = frame.f_back, level + 1
    return level


def _package(frame) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]
