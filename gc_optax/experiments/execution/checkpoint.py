"""`Checkpoints`: the state of the group that is being trained, kept with Orbax.

One checkpoint is kept, of the last group and epoch. A new one is whole before the old one goes, so
whenever the process dies there is a whole one. Several processes write one together, into a folder
that all of them see. (Orbax's `CheckpointManager` numbers checkpoints by one step, and does not
notice when their data are damaged.)

Beside a checkpoint stands the digest of its group, its epoch and all of its arrays. What is read
back must have the same, so a flipped bit or another name is never taken for what was saved.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from gc_optax.experiments.errors import CannotWriteError
from gc_optax.experiments.execution import distributed
from gc_optax.experiments.training.epoch import State

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path):
        self._path = (run / FOLDER).absolute()

    def save(self, group: int, epoch: int, state: State):
        """Keeps `state`, which the group has after `epoch`, and forgets what was kept before.

        Raises:
            CannotWriteError: It could not be written; what was kept before is kept.
        """
        import orbax.checkpoint as ocp  # slow to import

        before = [path for path, _, _ in self._there()]
        try:
            self._path.mkdir(exist_ok=True)
            self.write_digest(group, epoch, state)  # first, so that none is ever without its own
            with _quiet(), ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(self._path / f"{group}-{epoch}", state, force=True)
        except jax.errors.JaxRuntimeError:  # the processes lost each other, or the device failed
            raise
        except Exception as error:  # Orbax and TensorStore raise errors of many kinds
            reason = _first_line(error)
            raise CannotWriteError(
                f"{self._path / f'{group}-{epoch}'} could not be written: {reason}"
            ) from error
        if not distributed.is_primary():
            return
        for path in before:
            if path.name != f"{group}-{epoch}":
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):
                    self._digest_file(path.name).unlink()

    def latest(self) -> tuple[int, int] | None:
        """The group and the epoch of what is kept."""
        there = self._there()
        return max((group, epoch) for _, group, epoch in there) if there else None

    def restore(
        self, group: int, epoch: int, abstract: State, *, verified: bool = True
    ) -> State | None:
        """The state that was kept, or `None` where it cannot be read or is not what was saved.

        A run of an older version has no digest; not `verified`, it is then not asked for.
        """
        import orbax.checkpoint as ocp

        name = f"{group}-{epoch}"
        try:
            expected = self._digest_file(name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            expected = None
        except (OSError, ValueError):  # not text any more
            return None
        if verified and expected is None:
            return None
        try:
            with _quiet(), ocp.StandardCheckpointer() as checkpointer:
                state = checkpointer.restore(self._path / name, abstract)
        except Exception:  # damaged since: the group begins again, and loses nothing but time
            return None
        return state if expected in (None, digest(group, epoch, state)) else None

    def write_digest(self, group: int, epoch: int, state: State):
        """Keeps the digest of `state`, in the first process."""
        found = digest(group, epoch, state)
        if distributed.is_primary():
            file = self._digest_file(f"{group}-{epoch}")
            temporary = file.with_suffix(".tmp")
            temporary.write_text(found + "\n", encoding="utf-8")
            os.replace(temporary, file)

    def clear(self):
        """Forgets everything."""
        if not distributed.is_primary():
            return
        with contextlib.suppress(OSError):
            shutil.rmtree(self._path)

    def _digest_file(self, name: str) -> Path:
        return self._path / f"{name}.sha256"

    def _there(self) -> list[tuple[Path, int, int]]:
        """What is whole; Orbax writes under another name and renames at the end."""
        found = []
        for path in self._path.glob("*-*"):
            group, _, epoch = path.name.partition("-")
            if group.isdigit() and epoch.isdigit():
                found.append((path, int(group), int(epoch)))
        return found


def digest(group: int, epoch: int, state: State) -> str:
    """The SHA-256 of a state with its group and epoch, however it is laid out on a disk."""
    found = hashlib.sha256(f"{group} {epoch}".encode())
    for leaf in jax.tree.leaves(state):
        array = np.ascontiguousarray(leaf)
        found.update(f" {array.dtype} {array.shape} ".encode())
        found.update(array.tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax says at length what it does, and its threads print what goes wrong in them.

    What goes wrong is raised as well. After that TensorStore's threads and Orbax's tasks end at a
    time of their own, and complain again; so after an error they stay quiet.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    thread_hook, hook = threading.excepthook, sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda *_: None
    sys.unraisablehook = _UnraisableHook(hook)
    try:
        yield
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    finally:
        threading.excepthook = thread_hook


_LEFT_OVER = ("Event loop is closed", "Encountered error while reading array index")


class _UnraisableHook:
    """`sys.unraisablehook`, less what threads and tasks say that were left when a read failed."""

    def __init__(self, before: Callable):
        self._before = before._before if isinstance(before, _UnraisableHook) else before

    def __call__(self, unraisable):
        if not str(unraisable.exc_value).startswith(_LEFT_OVER):
            self._before(unraisable)


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = text.splitlines()[0]
    # TensorStore gives the reason in brackets after a long story.
    found = re.search(r"\[OS error \d+: [^]]+\]|No space left on device|File too large", text)
    return found.group() if found else line[:200]
