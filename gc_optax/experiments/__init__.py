"""The experiments behind the command `gc-optax`, also `python -m gc_optax.experiments`.

They need the extra `experiments`: `pip install "gc-optax[experiments]"`.
"""

import importlib.util
import sys
from collections.abc import Sequence

_PACKAGES = (
    "PIL",
    "flax",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "orbax",
    "pyarrow",
    "rich",
    "scipy",
    "sklearn",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command `gc-optax`.

    Args:
        arguments: What follows the command's name; by default, what the process was started with.

    Returns:
        The exit code: 0, 1 if the results could not be written, 2 for a bad option, 130 if it was
        interrupted.
    """
    # All of them at the start, so that a long run does not fail when it comes to the plots.
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"gc-optax: {', '.join(missing)} not found: the command needs an extra, "
            'pip install "gc-optax[experiments]"',
            file=sys.stderr,
        )
        return 2
    try:
        from gc_optax.experiments.commands.cli import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        # Interrupted outside of training, where there is nothing to keep.
        print("gc-optax: interrupted", file=sys.stderr)
        return 130
