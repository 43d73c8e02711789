"""The folder that a run writes to: claimed once, every file written whole or not at all."""

import contextlib
import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from gc_optax.experiments.errors import CannotReadError, CannotWriteError, InvalidSettingError
from gc_optax.experiments.settings.config import Config

RECORD = "run.json"
METRICS = "metrics.csv"
TIMES = "times.csv"
CURVES = "curves.png"
LEARNING_RATES = "learning_rates.png"


class RunFolder:
    """A folder that holds one run.

    Attributes:
        path: Where it is.
    """

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def check(cls, path: Path):
        """Raises `InvalidSettingError` where `path` holds a run, or cannot be a folder."""
        try:
            holds = [
                name
                for name in (RECORD, METRICS, TIMES, CURVES, LEARNING_RATES)
                if (path / name).exists()
            ]
        except OSError as error:
            raise InvalidSettingError(
                "output", f"must be a folder that can be written to; {path}: {error.strerror}."
            ) from None
        if RECORD in holds and not (path / RECORD).stat().st_size:
            raise InvalidSettingError(
                "output",
                f"must not hold a run, but {path} has an empty run.json: unless a run is starting "
                "there just now, delete the folder, or name another one.",
            )
        if holds:
            raise InvalidSettingError(
                "output",
                f"must not hold a run, but {path} has {holds[0]}: name another folder, or move "
                "that one away.",
            )

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """Makes the folder if need be; raises `InvalidSettingError` where it cannot be used."""
        cls.check(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Fails if another run made the file since; it also shows that the folder is writable.
            (path / RECORD).touch(exist_ok=False)
        except OSError as error:
            raise InvalidSettingError(
                "output",
                f"must be a folder that can be written to; {path}: {error.strerror}.",
            ) from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of a run that was begun; raises `CannotReadError` where there is none."""
        try:
            there = path.is_dir()
        except OSError as error:
            raise CannotReadError(f"{path} cannot be read: {error.strerror}.") from None
        if not there:
            raise CannotReadError(f"{path} is not a folder.")
        return cls(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from the run; raises `CannotWriteError` where one uses it.

        The lock is the system's and goes with the process, however that ends. Windows has none.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotWriteError(f"{self.path}: another process is using this run.") from None
            yield
        finally:
            os.close(handle)

    def fingerprint(self, name: str) -> str | None:
        """The SHA-256 of a file, or `None` where it is not there."""
        try:
            return hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        except OSError:
            return None

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary path that becomes `name` when the block ends, unless it raises.

        Raises:
            CannotWriteError: The file could not be written.
        """
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.unlink(missing_ok=True)  # a link would be followed
            yield temporary
            os.replace(temporary, self.path / name)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotWriteError(f"{self.path / name} could not be written: {reason}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def write_json(self, name: str, content: dict):
        """Writes `content`, with `null` for the numbers that JSON does not have: NaN, infinity."""
        text = json.dumps(_finite(content), indent=2, allow_nan=False)
        with self.writing(name) as path:
            path.write_text(text + "\n", encoding="utf-8")

    def write_csv(self, name: str, header: Iterable[str], rows: Iterable[Iterable]):
        """Writes a header and rows; numbers as Python writes them, so they read back exactly."""
        with self.writing(name) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)


def default_path(config: Config, now: datetime) -> Path:
    """`runs/<date>_<time>_<what>`, with a number added where that is taken."""
    name = f"{now:%Y-%m-%d_%H-%M-%S}_{config.dataset}-{config.model}-{config.optimizer}"
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
